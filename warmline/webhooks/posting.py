"""One try: an event is posted to a receiver, with limits on everything that comes back.

httpx's transport is used without its client: no cookies, no redirects, no proxies from the environment. It is
given the address that was checked instead of the host's name, which stays in the header Host and in TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx

from config.settings import SettingsError, WebhooksSettings
from warmline.jobs.deliveries import endpoint_id_of
from warmline.jobs.errors import WarmlineError
from warmline.webhooks.addresses import resolve
from warmline.webhooks.retries import parse_retry_after
from warmline.webhooks.signing import Signer

READ_BYTES: Final = 16 * 1024  # of an answer; the connection to one that says more is closed
CONNECT_SECONDS: Final = 5.0  # to one of several addresses
KEEP_ALIVE_SECONDS: Final = 20.0
MOST_ADDRESSES: Final = 3  # of a host that are tried
GONE: Final = 410


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a try."""

    at: datetime
    seconds: float
    status_code: int | None = None
    error: str | None = None  # None: it is delivered
    retry_after_seconds: float | None = None
    body: bytes = b""  # the beginning


class Receiver:
    """One address that events are posted to. It belongs to the event loop in which it first posts."""

    def __init__(self, url: str, settings: WebhooksSettings, signer: Signer, tls: ssl.SSLContext) -> None:
        """Connects to nothing yet."""
        self.id = endpoint_id_of(url)
        self._url = httpx.URL(url)
        self.shown = str(self._url.copy_with(query=None))
        self._settings = settings
        self._signer = signer
        self._host = self._url.raw_host.decode("ascii")
        self._port = self._url.port or (443 if self._url.scheme == "https" else 80)
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS)
        )

    async def close(self) -> None:
        """Closes its connections."""
        await self._transport.aclose()

    async def post(self, webhook_id: str, body: str) -> Answer:
        """Posts an event, once; never raises. What hinders it is in the answer, in a sentence."""
        at, began = datetime.now(UTC), time.monotonic()
        status, headers, content, error = None, httpx.Headers(), b"", None
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                status, headers, content = await self._post(webhook_id, at, body)
            error = _refusal(status)
        except TimeoutError:
            error = f"No answer within {self._settings.timeout_seconds:g} s."
        except WarmlineError as refused:
            error = refused.message
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as broken:
            error = _sentence(broken, self._host)
        return Answer(
            at=at,
            seconds=time.monotonic() - began,
            status_code=status,
            error=error,
            retry_after_seconds=parse_retry_after(headers.get("retry-after"), at),
            body=content,
        )

    async def _post(self, webhook_id: str, at: datetime, body: str) -> tuple[int, httpx.Headers, bytes]:
        addresses = await resolve(
            self._host.strip("[]"),
            self._port,
            allow_private=self._settings.allow_private,
            encrypted=self._url.scheme == "https",
        )
        response = await self._send(addresses[:MOST_ADDRESSES], webhook_id, at, body)
        content = bytearray()
        try:
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > READ_BYTES:
                    break
        except httpx.HTTPError:
            content.clear()  # the status has come, and decides
        finally:
            await response.aclose()
        return response.status_code, response.headers, bytes(content[:READ_BYTES])

    async def _send(self, addresses: Sequence[str], webhook_id: str, at: datetime, body: str) -> httpx.Response:
        """To the first address that takes the connection."""
        for place, address in enumerate(addresses, 1):
            try:
                return await self._transport.handle_async_request(self._request(address, webhook_id, at, body))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if place == len(addresses):
                    raise
        raise AssertionError("there is an address")

    def _request(self, address: str, webhook_id: str, at: datetime, body: str) -> httpx.Request:
        seconds = self._settings.timeout_seconds
        return httpx.Request(
            "POST",
            self._url.copy_with(host=address),
            headers={
                "host": self._url.netloc.decode("ascii"),
                "accept-encoding": "identity",
                **self._signer.headers(webhook_id, at, body),
            },
            content=body.encode(),
            extensions={
                "sni_hostname": self._host.strip("[]"),
                "timeout": httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)).as_dict(),
            },
        )


def make_receivers(settings: WebhooksSettings) -> dict[str, Receiver]:
    """The receivers in the settings by their ids. Raises SettingsError."""
    if not settings.urls:
        return {}
    signer, tls = Signer(settings.secrets), _tls(settings)
    return {receiver.id: receiver for receiver in (Receiver(url, settings, signer, tls) for url in settings.urls)}


def _tls(settings: WebhooksSettings) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    if settings.ca_file:
        try:
            context.load_verify_locations(settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"WARMLINE_WEBHOOKS_CA_FILE cannot be used: {settings.ca_file}: {error.strerror or error}"
            ) from None
    return context


def _refusal(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"The receiver answered {status}: redirects are not followed."
    if status == GONE:
        return "The receiver answered 410 Gone: it gets nothing any more."
    return f"The receiver answered {status}."


def _sentence(error: BaseException, host: str) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The certificate of {host} is not valid: {cause.verify_message}."
        if isinstance(cause, ssl.SSLError):
            return f"TLS with {host} failed ({cause.reason or type(cause).__name__})."
        if isinstance(cause, ConnectionRefusedError):
            return "The connection was refused."
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "The receiver is too slow."
    return f"The connection broke off ({type(error).__name__})."
