"""Signatures as Standard Webhooks has them (https://www.standardwebhooks.com), made by its own library."""

from __future__ import annotations

import base64
import importlib.metadata
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import SecretStr
from standardwebhooks import Webhook

SECRET_BYTES: Final = 32


def new_secret() -> str:
    """A secret for WARMLINE_WEBHOOKS_SECRETS and for the receiver."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


class Signer:
    """Signs with every secret: while receivers change over to a new one, each finds a signature that it knows."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        self._webhooks = [Webhook(secret.get_secret_value()) for secret in secrets]
        self._agent = f"Warmline/{importlib.metadata.version('warmline')}"

    def headers(self, webhook_id: str, at: datetime, body: str) -> dict[str, str]:
        """The headers of a request with this body. `at` is the time of the try, in UTC."""
        signatures = [webhook.sign(webhook_id, at, body) for webhook in self._webhooks]
        return {
            "content-type": "application/json",
            "user-agent": self._agent,
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
