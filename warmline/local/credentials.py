"""The stack's passwords and keys: made once, kept in its data directory, on no command line and in no log."""

from __future__ import annotations

import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from warmline.local.parts import StackError
from warmline.local.private_files import write_private


def _token() -> str:
    return secrets.token_urlsafe(24)  # letters, digits, - and _: safe in every file and URL they go into


class Credentials(BaseModel):
    """What the parts of one stack authenticate with."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    redis_password: str = Field(default_factory=_token, repr=False)
    s3_access_key: str = Field(default_factory=lambda: secrets.token_hex(10).upper())
    s3_secret_key: str = Field(default_factory=_token, repr=False)
    api_key: str = Field(default_factory=_token, repr=False)
    flower_password: str = Field(default_factory=_token, repr=False)

    @classmethod
    def keep(cls, path: Path) -> Credentials:
        """Those in the file, or new ones written into it. Raises StackError when the file is not usable."""
        if path.exists():
            try:
                return cls.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                raise StackError(
                    f"{path} is not readable as the stack's credentials; remove it to have new ones made."
                ) from error
        made = cls()
        write_private(path, made.model_dump_json(indent=2))
        return made
