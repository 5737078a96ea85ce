"""What every section of the settings is: frozen, and with a prefix for its variables."""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "WARMLINE_"


class Section(BaseSettings):
    """Part of the settings; its variables share a prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix=PREFIX)

    @field_validator("*", mode="before")
    @classmethod
    def _split_lists(cls, value: object, info: ValidationInfo) -> object:
        """A tuple is written as a comma-separated list; an empty string is the empty list."""
        field = cls.model_fields[str(info.field_name)]
        if NoDecode in field.metadata and isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The section's variables: name in the environment -> field."""
        prefix = str(cls.model_config.get("env_prefix"))
        return {f"{prefix}{name}".upper(): name for name in cls.model_fields}
