"""A job's way through API and workers, as OpenTelemetry has it: traces of spans, off unless there is a receiver.

    tracing = Tracing(settings, process="worker")
    with tracing.root("job", kind="consumer", parent=job.traceparent) as job_span:
        with span("fetch"):
            ...

`span` tells of work within whatever span is open in this context. Where none is, because nothing is traced or this
trace is not among the sampled ones, it costs a look at a variable. OpenTelemetry is imported here with the first
span of a process that has a receiver, and never without one. (FastAPI and redis-py import what they find of it.)
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from config.settings import Settings, SettingsError

if TYPE_CHECKING:
    from warmline.telemetry.recording import Recorder

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float
Attributes = Mapping[str, Value]

STOP_SECONDS: Final = 2.0  # how long a process that ends waits for a receiver that does not answer

_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may have more behind it
_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
MAX_TRACEPARENT: Final = 55  # characters of version 00, which is what we write


class Span:
    """A stretch of work. Of one that is of this very class nothing is kept."""

    __slots__ = ()

    @property
    def traceparent(self) -> str | None:
        """What hands the trace on to another process, as W3C Trace Context has it; None outside any trace."""
        return None

    def set(self, name: str, value: Value) -> None:
        """Notes a fact about the work."""

    def rename(self, name: str) -> None:
        """Gives the span the name that was not known when it began."""

    def fail(self, code: str, message: str = "") -> None:
        """The work came to nothing, for this reason."""

    def child(self, name: str, kind: Kind = "internal", attributes: Attributes | None = None) -> Span:
        """A part of this work, which begins now."""
        return NOTHING

    def past(
        self, name: str, began: float, ended: float, kind: Kind = "internal", attributes: Attributes | None = None
    ) -> None:
        """A part of this work that is over: by `time.perf_counter()`, when it began and ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it; an error that comes through is its failure, unless that has `is_fault = False`."""


NOTHING: Final = Span()
_open: ContextVar[Span] = ContextVar("warmline_open_span", default=NOTHING)


class OpenSpan(Span):
    """A span that others can be parts of, while its block lasts."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Token[Span] | None = None

    def __enter__(self) -> Self:
        self._token = _open.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _open.reset(self._token)


class PassedOn(OpenSpan):
    """Of a trace that is not among the sampled ones: nothing is kept, and others are told so."""

    __slots__ = ("_traceparent",)

    def __init__(self, traceparent: str) -> None:
        super().__init__()
        self._traceparent = traceparent

    @property
    def traceparent(self) -> str | None:
        return self._traceparent


def span(name: str, kind: Kind = "internal", attributes: Attributes | None = None) -> Span:
    """A part of the work that is under way in this context; use it in a `with`."""
    return _open.get().child(name, kind, attributes)


def current() -> Span:
    """The span that is open in this context, or one of which nothing is kept."""
    return _open.get()


def parse_traceparent(text: str) -> tuple[int, int, bool] | None:
    """Trace id, span id, and whether it is sampled; None for what is no traceparent."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    return int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & 1)


class Tracing:
    """Of one process. Making it starts nothing: that is left to the first span, so a fork may lie between."""

    def __init__(self, settings: Settings | None = None, *, process: str = "") -> None:
        """`process` names the part: api, worker, sqs. Without settings, or without a receiver, nothing is traced.

        Raises SettingsError where there is a receiver and OpenTelemetry is not installed.
        """
        self._settings = settings if settings is not None and settings.tracing.endpoint else None
        self._process = process
        self._lock = threading.Lock()
        self._recorder: Recorder | None = None
        if self._settings is not None and not _is_installed():
            raise SettingsError(
                "WARMLINE_TRACING_ENDPOINT is set, but OpenTelemetry is not installed: "
                "run `pip install 'warmline[tracing]'`, or unset it"
            )

    @property
    def on(self) -> bool:
        """Whether there is a receiver."""
        return self._settings is not None

    def root(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: str | None = None,
        link: str | None = None,
        seed: str | None = None,
        attributes: Attributes | None = None,
    ) -> Span:
        """The first span of a trace in this process; use it in a `with`.

        `parent` is another process's traceparent, whose trace it joins, sampled or not as that one is; what is no
        traceparent is ignored. Else it begins a trace: `link` is the traceparent of what it came of, and the same
        `seed` makes it the same trace each time.
        """
        recorder = self._begin()
        if recorder is None:
            return NOTHING
        return recorder.root(name, kind, parent=parent, link=link, seed=seed, attributes=attributes)

    def load(self) -> None:
        """In a parent, before it forks: imports what the children need, and starts nothing."""
        if self.on:
            importlib.import_module("warmline.telemetry.recording")

    def begin(self) -> None:
        """What the first span would begin with otherwise: the thread that sends."""
        self._begin()

    def _begin(self) -> Recorder | None:
        if self._settings is None:
            return None
        with self._lock:
            if self._recorder is None:
                from warmline.telemetry.recording import Recorder

                self._recorder = Recorder(self._settings, process=self._process)
            return self._recorder

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Sends what has not been sent yet, for so long at most. Later spans are lost."""
        with self._lock:
            recorder = self._recorder
        if recorder is not None:
            recorder.stop(seconds)


def _is_installed() -> bool:
    try:
        return all(importlib.util.find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False
