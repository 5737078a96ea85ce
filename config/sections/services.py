"""The processes beside the workers: the API, Flower, and the one-machine stack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from config.sections.section import PREFIX, Section


class ApiSettings(Section):
    """The HTTP service."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}API_")

    host: str = Field("127.0.0.1", description="address to bind; beyond loopback only with keys")
    port: int = Field(8000, ge=1, le=65535, description="port to bind")
    keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="accepted API keys (Authorization: Bearer), comma-separated"
    )
    url: str = Field("", description="where clients reach the API; empty: built from host and port")
    max_body_bytes: int = Field(16 * 1024**2, gt=0, description="largest request body, in bytes")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
            raise ValueError("not of the form http://host:port or https://host")
        return url

    @property
    def base_url(self) -> str:
        """The address that clients use, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url.rstrip("/") or f"http://{host}:{self.port}"


class FlowerSettings(Section):
    """Flower, which watches the workers."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}FLOWER_")

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(5555, ge=1, le=65535, description="port to bind")
    user: str = Field("warmline", description="user name for basic auth")
    password: SecretStr = Field(SecretStr(""), description="password for basic auth; Flower needs one to start")
    state_dir: str = Field(
        "", description="where it keeps what it has seen, so that a restart forgets nothing; empty: in memory only"
    )
    url_prefix: str = Field(
        "",
        pattern=r"^(/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?/?$",
        description="path below which a proxy serves it; then the proxy's X-Real-Ip and X-Scheme are believed",
    )


class StackSettings(Section):
    """The one-machine stack (`warmline up`)."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}STACK_")

    data_dir: Path = Field(Path(".warmline"), description="where the stack keeps its data, logs and passwords")
    valkey_port: int = Field(6379, ge=1, le=65535, description="embedded Valkey; the next free one if taken")
    s3_port: int = Field(8333, ge=1, le=65535, description="embedded S3; the next free one if taken")
    embed_redis: bool = Field(True, description="false: use WARMLINE_REDIS_URL as it is")
    embed_s3: bool = Field(True, description="false: use the WARMLINE_S3_ settings as they are")
    triggers: bool = Field(True, description="uploads to the embedded S3's source buckets become jobs")
    start_timeout_seconds: float = Field(300.0, gt=0, description="longest time a part may take to answer")
    max_deaths: int = Field(5, ge=1, description="deaths of one part within ten minutes before all is stopped")
