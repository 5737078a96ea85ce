"""A request as the first span of a trace, or as a part of its client's."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warmline.telemetry.tracing import Span, Tracing, parse_traceparent

UNKNOWN: Final = "/…"  # an address that is none: its own name could be anything


class TraceRequests:
    """Traces what changes something, and what a client traces itself.

    Who only looks, and asks every second how far a job is, would fill the traces with it.
    """

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        parent = _traceparent(scope) if scope["type"] == "http" else None
        if scope["type"] != "http" or (parent is None and scope["method"] in {"GET", "HEAD", "OPTIONS"}):
            await self._app(scope, receive, send)
            return
        facts = {"http.request.method": scope["method"], "url.scheme": scope["scheme"]}
        with self._tracing.root(scope["method"], kind="server", parent=parent, attributes=facts) as request:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _describe(request, scope, message["status"])
                await send(message)

            await self._app(scope, receive, send_and_note)


def _traceparent(scope: Scope) -> str | None:
    """The client's, if there is one and it is one."""
    given = Headers(scope=scope).getlist("traceparent")
    return given[0] if len(given) == 1 and parse_traceparent(given[0]) is not None else None


def _describe(request: Span, scope: Scope, status: int) -> None:
    route: str = getattr(scope.get("route"), "path", UNKNOWN)
    request.rename(f"{scope['method']} {route}")
    request.set("http.route", route)
    request.set("http.response.status_code", status)
    request.set("warmline.request.id", scope.get("warmline.request_id", ""))
    if status >= 500:
        request.fail(str(status))
