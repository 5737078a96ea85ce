"""What happens to every request before a route sees it, and to every answer after: middleware in plain ASGI.

Outermost first: `RequestLog` (a request id, one log line, security headers, no traceback to the client), then
`api.auth.RequireKey`, then `LimitBody`, so that a stranger cannot make us read a body.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import EVENTS_PATH, METRICS_PATH, STRANGER
from api.problems import BodyTooLarge, BodyTooSlow, EventTooLarge, problem
from warmline.jobs.errors import InternalError

log = structlog.get_logger()

BODY_SECONDS: Final = 30.0  # a body that fits the limit arrives in less on any line worth serving
LARGE_BYTES: Final = 1024**2
LARGE_AT_ONCE: Final = (
    2  # a batch of 100,000 keys takes some 50 MB while it is accepted: the others wait in their sockets
)
STRANGER_BYTES: Final = 512 * 1024  # a message of SNS has 256 KiB, and its quotes twice the room in JSON
PROBES: Final = frozenset({"/health", "/live", "/ready", "/v1/overview", METRICS_PATH})
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")


class RequestLog:
    """Gives each request an id, logs it in one line, and answers a 500 problem for what nobody caught.

    `answered` is told of each, with its status and seconds.
    """

    def __init__(self, app: ASGIApp, *, answered: Callable[[Scope, int, float], None]) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["warmline.request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                log.exception("request_crashed", method=scope["method"], path=scope["path"])
                if status:
                    raise  # half an answer is out: only cutting the connection tells the client
                error = InternalError(
                    f"Warmline failed in a way it did not foresee; the API's log has the details under "
                    f"request_id {request_id}."
                )
                answer = problem(error, path=scope["path"], request_id=request_id)
                await answer(scope, receive, send_with_headers)
            finally:
                seconds = time.perf_counter() - started
                self._answered(scope, status, seconds)
                _log_request(scope, status, seconds)


class LimitBody:
    """Reads a request's body up to a limit and within a time, then hands it on in one piece.

    Few requests with large bodies are served at once: their number does not decide how much memory we take.
    The path for events has a limit of its own, and so have those who come there without a key.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_event_bytes: int | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_event_bytes = max_bytes if max_event_bytes is None else max_event_bytes
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] not in {"POST", "PUT", "PATCH"}:
            await self._app(scope, receive, send)
            return
        async with AsyncExitStack() as until_answered:
            await self._serve(scope, receive, send, until_answered)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, until_answered: AsyncExitStack) -> None:
        try:
            async with asyncio.timeout(BODY_SECONDS) as time_limit:
                body = await self._read(scope, receive, until_answered, time_limit)
        except (BodyTooLarge, TimeoutError) as error:
            refusal = error if isinstance(error, BodyTooLarge) else BodyTooSlow()
            answer = problem(refusal, path=scope["path"], request_id=scope.get("warmline.request_id"))
            await answer(scope, receive, send)
            return
        if body is None:
            return  # the client went away
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        del body

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)

    async def _read(
        self, scope: Scope, receive: Receive, until_answered: AsyncExitStack, time_limit: asyncio.Timeout
    ) -> bytes | None:
        """The body, or None when the client went away. Raises BodyTooLarge.

        A body not far over the limit is read to its end and dropped: a client that is cut off while it sends sees
        a reset connection instead of the answer.
        """
        max_bytes, too_large = self._limit(scope)
        patience_bytes = 4 * max_bytes
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > patience_bytes:
            raise too_large
        body, size_bytes, more, large = bytearray(), 0, True, False
        while more and size_bytes <= patience_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size_bytes += len(chunk)
            if LARGE_BYTES < size_bytes <= max_bytes and not large:
                large = True
                time_limit.reschedule(None)
                await until_answered.enter_async_context(self._large)
                time_limit.reschedule(asyncio.get_running_loop().time() + BODY_SECONDS)
            if size_bytes <= max_bytes:
                body += chunk
        if size_bytes > max_bytes:
            raise too_large
        return bytes(body)

    def _limit(self, scope: Scope) -> tuple[int, type[BodyTooLarge]]:
        if scope["path"] != EVENTS_PATH:
            return self._max_bytes, BodyTooLarge
        if scope.get(STRANGER):
            return min(STRANGER_BYTES, self._max_event_bytes), EventTooLarge
        return self._max_event_bytes, EventTooLarge


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    # Probes come every few seconds for ever: worth a line only when they fail.
    level = "debug" if scope["path"] in PROBES and status == 200 else "info"
    client = scope.get("client")
    getattr(log, level)(
        "http_request",
        method=scope["method"],
        path=scope["path"],
        status=status,
        milliseconds=round(seconds * 1000, 1),
        client=client[0] if client else None,
    )
