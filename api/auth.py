"""Who may use the API: bearers of a key, or anyone on this machine where no key is set."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Final

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Unauthorized, problem
from config.settings import ApiSettings, SettingsError

OPEN_PATHS: Final = frozenset({"/health", "/live", "/ready", "/openapi.json"})

# Only for OpenAPI, which learns of security from routes; RequireKey enforces it, before a body is read.
bearer_in_openapi = HTTPBearer(auto_error=False, description="A key of WARMLINE_API_KEYS.", scheme_name="API key")


class RequireKey:
    """Refuses every request without a key, but for the open paths. Without keys in the settings all may pass."""

    def __init__(self, app: ASGIApp, *, settings: ApiSettings) -> None:
        self._app = app
        self._digests = [_digest(key.get_secret_value()) for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._accepts(scope):
            await self._app(scope, receive, send)
            return
        answer = problem(Unauthorized(), path=scope["path"], request_id=scope.get("warmline.request_id"))
        await answer(scope, receive, send)

    def _accepts(self, scope: Scope) -> bool:
        if not self._digests:
            return True
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = _digest(key.strip())
        # Digests have one length and every key is compared: the time says nothing of the keys.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == "bearer" and any(matches)


def refuse_open_bind(settings: ApiSettings) -> None:
    """Raises SettingsError when the API would serve other machines without asking for a key."""
    if not settings.keys and not _is_loopback(settings.host):
        raise SettingsError(
            f"WARMLINE_API_HOST is {settings.host}, which other machines can reach, and WARMLINE_API_KEYS is "
            "empty: set a key, or bind 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"  # any other name may resolve to anything


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
