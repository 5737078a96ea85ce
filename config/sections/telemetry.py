"""What is said of the work: logs, metrics, traces."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from config.sections.section import PREFIX, Section


class LogSettings(Section):
    """One log shape for all processes."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LOG_")

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level shown")
    format: Literal["json", "console"] = Field("json", description="json for machines, console for people")
    mask_keys: bool = Field(
        False,
        description="true: keys of calls, which may hold phone numbers, are shown as digests, in traces too",
    )


class MetricsSettings(Section):
    """What Prometheus reads, and a worker's own probes."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}METRICS_")

    host: str = Field("127.0.0.1", description="address that a worker binds for /live, /ready and /metrics")
    port: int = Field(
        9464, ge=0, le=65535, description="port of a worker's /live, /ready and /metrics; 0: a worker has none"
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="who scrapes /metrics sends it (Authorization: Bearer); a worker needs it beyond loopback",
    )


class TracingSettings(Section):
    """OpenTelemetry traces: a job's way from its submission through every stage."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TRACING_")

    endpoint: str = Field("", description="an OTLP/HTTP receiver, e.g. http://localhost:4318; empty: no traces")
    headers: SecretStr = Field(
        SecretStr(""), description="sent along, comma-separated: authorization=Bearer ...,x-tenant=calls"
    )
    sample_ratio: float = Field(1.0, ge=0, le=1, description="share of jobs that are traced")

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if url and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            raise ValueError("not of the form http://host:4318")
        return url.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: SecretStr) -> SecretStr:
        for place, header in enumerate(filter(None, headers.get_secret_value().split(",")), 1):
            if not re.fullmatch(r"\s*[A-Za-z0-9\-_.]+\s*=[\x20-\x7e]*", header):  # not repeated: it is a secret
                raise ValueError(f"header {place} is not of the form name=value")
        return headers
