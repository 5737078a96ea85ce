"""How uploads are announced, become jobs, and are allowed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from config.sections.section import PREFIX, Section


class TriggersSettings(Section):
    """What happens when an object store announces an upload."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TRIGGERS_")

    file: str = Field(
        "", description="TOML file of rules; empty: every recording in the source buckets, bulk lane"
    )
    tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="accepted by POST /v1/events/s3 alone, beside the API keys, comma-separated"
    )
    ignore_prefixes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("demo/", "submitted/"), description="keys that no rule sees: what is uploaded to be submitted otherwise"
    )
    jobs_per_minute: int = Field(
        0,
        ge=0,
        description="pace at which each rule's jobs get into their lane, unless it has its own; 0: at once",
    )
    remember_seconds: int = Field(
        3 * 86400, ge=60, description="how long an event that comes late is known to be older than another one"
    )
    max_body_bytes: int = Field(1024**2, gt=0, description="largest body of POST /v1/events/s3, in bytes")
    sns_topics: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="ARNs of the SNS topics whose messages are accepted, comma-separated"
    )
    sns_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="https://host[:port] of another SNS than AWS's own: its certificates, its confirmations"
    )


class SqsSettings(Section):
    """The queue that `warmline-sqs` takes S3's events from."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}SQS_")

    queue_url: str = Field("", description="the queue's URL; empty: there is none")
    endpoint_url: str = Field("", description="an SQS-compatible service's address; empty for AWS")
    region: str = Field("", description="region of the queue; empty: WARMLINE_S3_REGION")
    access_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    secret_key: SecretStr = Field(SecretStr(""), description="empty: boto3's own credential chain")
    wait_seconds: int = Field(
        20, ge=0, le=20, description="how long one request waits for messages (long polling)"
    )
    visibility_seconds: int = Field(
        60,
        ge=5,
        le=43200,
        description="how long taken messages are hidden from others; renewed while they are worked on",
    )
    receivers: int = Field(2, ge=1, le=32, description="threads that take messages")


class UploadsSettings(Section):
    """Presigned uploads (POST /v1/uploads)."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}UPLOADS_")

    prefix: str = Field("uploads/", description="put before the keys of presigned uploads")
    expires_seconds: int = Field(900, ge=1, le=7 * 86400, description="how long a presigned upload may begin")
    max_bytes: int = Field(512 * 1024**2, gt=0, description="largest presigned upload, in bytes")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins of web pages that may upload to the embedded S3's buckets, comma-separated"
    )
