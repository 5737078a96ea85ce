"""Where jobs and recordings are kept: Redis and S3."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from config.sections.section import PREFIX, Section


class RedisSettings(Section):
    """The ledger and the broker."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}REDIS_")

    password: SecretStr = Field(
        SecretStr(""),
        description="put into WARMLINE_REDIS_URL where that has none: for a file that holds it alone",
    )
    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis:// or rediss:// with password and database",
        validate_default=True,
    )
    timeout_seconds: float = Field(5.0, gt=0, description="longest wait for a connection or an answer")

    @field_validator("url")
    @classmethod
    def _is_of_redis(cls, url: SecretStr) -> SecretStr:
        # The rest of the address is not repeated: it has the password.
        scheme, separator, _ = url.get_secret_value().partition("://")
        if not separator or not re.fullmatch(r"[a-z0-9+.-]{1,20}", scheme):
            raise ValueError("it is not of the form redis://:password@host:port/database")
        if scheme not in {"redis", "rediss"}:
            raise ValueError(
                f"it begins with {scheme}://, and the ledger and the queue are Redis or Valkey: use redis:// or "
                "rediss:// (docs/deploy.md has why no other broker will do)"
            )
        return url

    @field_validator("url")
    @classmethod
    def _has_the_password(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        # A URL's own password stands: a one-machine stack's URL has that of its embedded server.
        password: SecretStr | None = info.data.get("password")
        if password is None or not password.get_secret_value():
            return url
        return SecretStr(_with_password(url.get_secret_value(), password.get_secret_value()))


class S3Settings(Section):
    """The object store: where calls are read and reports are written."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}S3_")

    endpoint_url: str = Field("", description="an S3-compatible store's address; empty for AWS")
    region: str = Field("us-east-1", description="region of the buckets")
    access_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    secret_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    source_buckets: Annotated[tuple[str, ...], NoDecode] = Field(
        ("calls",), description="buckets that jobs may read, comma-separated"
    )
    results_bucket: str = Field("reports", description="bucket that reports are written to")
    results_prefix: str = Field("", description="put before every report's key")
    max_object_bytes: int = Field(2 * 1024**3, gt=0, description="largest object fetched, in bytes")
    timeout_seconds: float = Field(30.0, gt=0, description="longest wait for a connection or a read")
    min_bytes_per_second: int = Field(
        4096, ge=0, description="a slower body is given up after timeout_seconds, and tried again"
    )
    public_url: str = Field(
        "", description="where those who upload reach the store, if not at endpoint_url; for presigned URLs"
    )


def _with_password(url: str, password: str) -> str:
    """A server's URL with this password, unless it has one."""
    parts = urlsplit(url)
    user, _, server = parts.netloc.rpartition("@")
    if ":" in user:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{server}"))
