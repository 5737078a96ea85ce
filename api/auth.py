"""Who may use the API: bearers of a key, or anyone on this machine where no key is set.

Object stores post their events to one path, with a token that opens that path alone; and Amazon SNS posts there
without any, for its messages are signed (`warmline.triggers.sns`). Prometheus has a token for its one path, too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from fastapi.security import HTTPBearer
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dashboard_paths import PATHS
from api.problems import EventUnauthorized, Unauthorized, problem
from config.addresses import is_loopback
from config.settings import ApiSettings, Settings, SettingsError
from warmline.jobs.errors import WarmlineError
from warmline.triggers.sns import SnsTopicNotAllowed

OPEN_PATHS: Final = frozenset({"/health", "/live", "/ready", "/openapi.json", "/v1/schemas/report"}) | PATHS
EVENTS_PATH: Final = "/v1/events/s3"
METRICS_PATH: Final = "/metrics"
STRANGER: Final = "warmline.stranger"  # in a request's scope: it had no key, and its signature has to be verified

# Only for OpenAPI, which learns of security from routes; RequireKey enforces it, before a body is read.
bearer_in_openapi = HTTPBearer(auto_error=False, description="A key of WARMLINE_API_KEYS.", scheme_name="API key")
token_in_openapi = HTTPBearer(
    auto_error=False,
    description="A token of WARMLINE_TRIGGERS_TOKENS; it may also come as the password of basic auth.",
    scheme_name="Trigger token",
)


class RequireKey:
    """Refuses every request without a key, but for the open paths. Without keys in the settings all may pass."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._keys = _digests(settings.api.keys)
        self._keys_and_tokens = self._keys + _digests(settings.triggers.tokens)
        token = settings.metrics.token
        self._keys_and_metrics_token = self._keys + _digests((token,) if token.get_secret_value() else ())
        self._has_topics = bool(settings.triggers.sns_topics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        answer = problem(refusal, path=scope["path"], request_id=scope.get("warmline.request_id"))
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> WarmlineError | None:
        if scope["path"] in OPEN_PATHS:
            return None
        headers = Headers(scope=scope)
        if scope["path"] == EVENTS_PATH:
            if not self._keys_and_tokens or _is_one_of(_secret_of_a_store(headers), self._keys_and_tokens):
                return None
            if not is_signed_by_sns(headers):
                return EventUnauthorized()
            scope[STRANGER] = True
            return None if self._has_topics else SnsTopicNotAllowed()
        opening = self._keys_and_metrics_token if scope["path"] == METRICS_PATH else self._keys
        return None if not opening or _is_one_of(_bearer(headers), opening) else Unauthorized()


def is_signed_by_sns(headers: Headers) -> bool:
    """True for a request that says it is a message of SNS with a signature: raw delivery has none."""
    return "x-amz-sns-message-type" in headers and headers.get("x-amz-sns-rawdelivery", "").lower() != "true"


def refuse_open_bind(settings: ApiSettings) -> None:
    """Raises SettingsError when the API would serve other machines without asking for a key."""
    if not settings.keys and not is_loopback(settings.host):
        raise SettingsError(
            f"WARMLINE_API_HOST is {settings.host}, which other machines can reach, and WARMLINE_API_KEYS is "
            "empty: set a key, or bind 127.0.0.1"
        )


def _bearer(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _secret_of_a_store(headers: Headers) -> str | None:
    """A bearer token, the password of basic auth (Ceph has nothing else), or a header that is the bare token."""
    given = headers.get("authorization", "").strip()
    scheme, _, rest = given.partition(" ")
    if scheme.lower() != "basic":
        return _bearer(headers) if rest else given
    try:
        _, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return password


def _is_one_of(secret: str | None, digests: Iterable[bytes]) -> bool:
    # Digests have one length and every one is compared: the time says nothing of the keys.
    given = _digest(secret or "")
    matches = [hmac.compare_digest(given, digest) for digest in digests]
    return secret is not None and any(matches)


def _digests(secrets: Iterable[SecretStr]) -> tuple[bytes, ...]:
    return tuple(_digest(secret.get_secret_value()) for secret in secrets)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
