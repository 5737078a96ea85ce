"""What becomes of the requests to an object store, and how long they take, for whoever counts them.

A request is one operation of ours with all tries that boto3 makes of it, until the head of the answer is there: a
body that is read later takes its own time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

RequestSeen = Callable[[str, str, float], None]  # operation as S3 names it, outcome, seconds

_STARTED: Final = "warmline_started"
_OUTCOMES: Final = {
    304: "ok",
    403: "refused",
    401: "refused",
    404: "not_found",
    409: "precondition",
    412: "precondition",
}
_THROTTLED: Final = frozenset({429, 503})  # S3 says 503 SlowDown


def watch_requests(client: Any, seen: RequestSeen) -> None:
    """Has `seen` told of each request: ok, not_found, precondition, throttled, refused, error.

    `precondition` is the store's no to If-Match or If-None-Match, which is how a report is written once.
    """

    def begin(context: dict[str, Any], **_: Any) -> None:
        context[_STARTED] = time.perf_counter()

    def end(http_response: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        seen(model.name, outcome_of(http_response.status_code), _seconds_since(context))

    def fail(context: dict[str, Any], event_name: str, **_: Any) -> None:
        seen(event_name.rpartition(".")[2], "error", _seconds_since(context))

    events = client.meta.events
    events.register_first("before-call.s3", begin)
    events.register_last("after-call.s3", end)
    events.register_last("after-call-error.s3", fail)


def outcome_of(status: int) -> str:
    """In a word, from the HTTP status."""
    if status in _THROTTLED:
        return "throttled"
    return _OUTCOMES.get(status, "ok" if status < 300 else "error")


def _seconds_since(context: dict[str, Any]) -> float:
    started: float | None = context.get(_STARTED)
    return 0.0 if started is None else time.perf_counter() - started
