"""Who is told when jobs and batches end."""

from __future__ import annotations

from base64 import b64decode
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from config.sections.section import PREFIX, Section

MOST_WEBHOOKS = 16  # addresses


class WebhooksSettings(Section):
    """Who is told when jobs and batches end."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}WEBHOOKS_")

    urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="https:// addresses that events are posted to, comma-separated; empty: none"
    )
    secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="whsec_… that sign them; the first is the present one, later ones sign beside it"
    )
    events: Annotated[
        tuple[Literal["job.succeeded", "job.failed", "job.cancelled", "job.dead", "batch.finished"], ...],
        NoDecode,
    ] = Field(
        ("job.succeeded", "job.failed", "job.cancelled", "job.dead", "batch.finished"),
        description="which events are posted, comma-separated",
    )
    allow_private: bool = Field(
        False, description="true: also to addresses of private networks and loopback, and there by http:// too"
    )
    ca_file: str = Field(
        "", description="PEM file of further certificate authorities that receivers' certificates may be of"
    )
    max_attempts: int = Field(10, ge=1, le=30, description="tries before a delivery is given up")
    retry_seconds: float = Field(5.0, gt=0, description="wait before the second try; four times as long each time")
    max_retry_seconds: float = Field(6 * 3600.0, gt=0, description="longest wait between two tries")
    timeout_seconds: float = Field(15.0, gt=0, description="longest time that one try may take")
    concurrency: int = Field(
        8,
        ge=1,
        le=64,
        description="deliveries under way at once, shared evenly by the addresses; one for each at least",
    )
    max_waiting: int = Field(
        1_000_000,
        ge=1,
        description="most endings that wait to become deliveries; the oldest is dropped for one more",
    )
    max_log: int = Field(
        100_000, ge=1, description="most deliveries that have ended in the log; older ones go first"
    )
    retention_seconds: int = Field(7 * 86400, ge=60, description="how long the log of deliveries is kept")

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        # Not repeated in the message: some carry a token.
        if len(urls) > MOST_WEBHOOKS:
            raise ValueError(f"there may be {MOST_WEBHOOKS} addresses")
        for place, url in enumerate(urls, 1):
            if fault := _fault_of_address(url):
                raise ValueError(f"address {place} {fault}")
        return tuple(dict.fromkeys(urls))

    @field_validator("secrets")
    @classmethod
    def _are_secrets(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for place, secret in enumerate(secrets, 1):
            if not _is_webhook_secret(secret.get_secret_value()):
                raise ValueError(
                    f"secret {place} is not whsec_ and base64 of 24 to 64 bytes; "
                    "`warmline webhooks secret` makes one"
                )
        return secrets


def _fault_of_address(url: str) -> str:
    """What is wrong with an address that events are to be posted to; '' if nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isprintable() or " " in url:
        return "is not of the form https://host/path"
    if parts.username is not None or parts.password is not None:
        return "has a user or a password: events are signed instead"
    return "has a port that is none" if port == 0 else "has a fragment (#)" if parts.fragment else ""


def _is_webhook_secret(text: str) -> bool:
    """As Standard Webhooks has it: whsec_ and 24 to 64 bytes in base64."""
    try:
        return text.startswith("whsec_") and 24 <= len(b64decode(text.removeprefix("whsec_"), validate=True)) <= 64
    except ValueError:
        return False
