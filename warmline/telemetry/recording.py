"""Spans that are kept: OpenTelemetry's, sent to the receiver in batches by a thread of their own.

A receiver that is away costs the work nothing: what cannot be sent is dropped once QUEUE_SPANS wait, and the log
has a line when that begins, one every QUIET_SECONDS while it lasts, and one when it is over.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from config.redaction import Redactor, mask_key, mask_uris
from config.settings import Settings, TracingSettings
from warmline.telemetry.tracing import (
    NOTHING,
    Attributes,
    Kind,
    OpenSpan,
    PassedOn,
    Span,
    Value,
    parse_traceparent,
)

log = structlog.get_logger()

QUEUE_SPANS: Final = 2048  # that wait to be sent, some 2 kB each
BATCH_SPANS: Final = 512
SEND_EVERY_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 5.0  # of one request with its tries
QUIET_SECONDS: Final = 300.0
MAX_ATTRIBUTE_CHARACTERS: Final = 1024

OBJECT_KEY: Final = "aws.s3.key"
ERROR_TYPE: Final = "error.type"

_THEIR_LOGGERS: Final = (
    OTLPSpanExporter.__module__,
    BatchSpanProcessor.__module__,
    "opentelemetry.sdk._shared_internal",
)
_KINDS: Final[dict[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class Recorder:
    """OpenTelemetry, set up. It has a thread from now on, which no fork takes along."""

    def __init__(self, settings: Settings, *, process: str) -> None:
        tracing, mask_keys, redactor = settings.tracing, settings.log.mask_keys, Redactor.of(settings)
        self._mask = _Mask(redactor, mask_keys=mask_keys)
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(tracing.sample_ratio)),
            resource=_describe(process),
            shutdown_on_exit=False,  # it would wait for half a minute
            id_generator=self._ids,
            span_limits=SpanLimits(max_attribute_length=MAX_ATTRIBUTE_CHARACTERS),
        )
        self._sender = _Sender(tracing, redactor.text)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._sender,
                max_queue_size=QUEUE_SPANS,
                schedule_delay_millis=SEND_EVERY_SECONDS * 1000,
                max_export_batch_size=BATCH_SPANS,
            )
        )
        self._tracer = self._provider.get_tracer("warmline", version("warmline"))

    def root(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None,
        link: str | None,
        seed: str | None,
        attributes: Attributes | None,
    ) -> Span:
        """See `Tracing.root`."""
        came_from = None if parent is None else _remote(parent)
        linked = None if link is None else _remote(link)
        context = Context()
        if came_from is not None:
            context = set_span_in_context(NonRecordingSpan(came_from), context)
        elif seed is not None:
            self._ids.decide(seed)
        started = self._tracer.start_span(
            name,
            context=context,
            kind=_KINDS[kind],
            attributes=self._mask.attributes(attributes),
            links=() if linked is None else (Link(linked),),
        )
        self._ids.decide(None)
        own = started.get_span_context()
        if started.is_recording():
            return RecordedSpan(self._tracer, started, self._mask, is_root=True)
        return PassedOn(_written(own)) if own.is_valid else NOTHING

    def stop(self, seconds: float) -> None:
        """See `Tracing.stop`."""
        stopping = threading.Thread(target=self._provider.shutdown, name="traces-stop", daemon=True)
        stopping.start()
        stopping.join(seconds)
        if stopping.is_alive():
            self._sender.shutdown()


class RecordedSpan(OpenSpan):
    """A span that is kept."""

    __slots__ = ("_failed", "_is_root", "_mask", "_span", "_tracer")

    def __init__(self, tracer: Tracer, started: OtelSpan, mask: _Mask, *, is_root: bool = False) -> None:
        super().__init__()
        self._tracer, self._span, self._mask, self._is_root = tracer, started, mask, is_root
        self._failed = False

    @property
    def traceparent(self) -> str | None:
        return _written(self._span.get_span_context())

    def set(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, self._mask.value(name, value))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, code: str, message: str = "") -> None:
        self._failed = True
        self._span.set_attribute(ERROR_TYPE, code)
        self._span.set_status(Status(StatusCode.ERROR, self._mask.sentence(message)[:MAX_ATTRIBUTE_CHARACTERS]))

    def child(self, name: str, kind: Kind = "internal", attributes: Attributes | None = None) -> Span:
        started = self._tracer.start_span(
            name,
            context=set_span_in_context(self._span, Context()),
            kind=_KINDS[kind],
            attributes=self._mask.attributes(attributes),
        )
        return RecordedSpan(self._tracer, started, self._mask)

    def past(
        self, name: str, began: float, ended: float, kind: Kind = "internal", attributes: Attributes | None = None
    ) -> None:
        now_ns, now = time.time_ns(), time.perf_counter()
        started = self._tracer.start_span(
            name,
            context=set_span_in_context(self._span, Context()),
            kind=_KINDS[kind],
            attributes=self._mask.attributes(attributes),
            start_time=now_ns - int((now - began) * 1e9),
        )
        started.end(now_ns - int((now - ended) * 1e9))

    def __enter__(self) -> Self:
        if self._is_root:  # so that a line of the log leads to its trace
            trace_id = f"{self._span.get_span_context().trace_id:032x}"
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is not None and not self._failed and getattr(error, "is_fault", True):
            code, message = getattr(error, "code", None), getattr(error, "message", None)
            self.fail(
                code if isinstance(code, str) else type(error).__name__,
                message if isinstance(message, str) else str(error),
            )
        self._span.end()
        if self._is_root:
            structlog.contextvars.unbind_contextvars("trace_id")


class _Mask:
    """What of attributes and sentences may leave this process."""

    def __init__(self, redactor: Redactor, *, mask_keys: bool) -> None:
        self._redactor, self._mask_keys = redactor, mask_keys

    def attributes(self, attributes: Attributes | None) -> Attributes | None:
        if not self._mask_keys or attributes is None:
            return attributes
        return {name: self.value(name, value) for name, value in attributes.items()}

    def value(self, name: str, value: Value) -> Value:
        return mask_key(str(value)) if self._mask_keys and name == OBJECT_KEY else value

    def sentence(self, text: str) -> str:
        return self._redactor.text(mask_uris(text) if self._mask_keys else text)


class _Ids(RandomIdGenerator):
    """Ids by chance, but where it was decided what a trace's is to be, in this thread."""

    def __init__(self) -> None:
        self._decided = threading.local()

    def decide(self, seed: str | None) -> None:
        """Of the next trace; None: by chance."""
        self._decided.seed = seed

    def generate_trace_id(self) -> int:
        seed = getattr(self._decided, "seed", None)
        if seed is None:
            return super().generate_trace_id()
        return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16]) or 1


class _Sender(SpanExporter):
    """OpenTelemetry's own exporter; tells in few lines what becomes of its requests."""

    def __init__(self, settings: TracingSettings, redact: Callable[[str], str]) -> None:
        endpoint = settings.endpoint
        self._endpoint = redact(endpoint)
        self._said = _LastWord()
        self._said.listen()
        self._over = False
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint if endpoint.endswith("/v1/traces") else f"{endpoint}/v1/traces",
            headers=parse_headers(settings.headers.get_secret_value()),
            timeout=TIMEOUT_SECONDS,
        )
        self._lost = 0
        self._told_at = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """From the thread of the batches."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("traces_sent_again", endpoint=self._endpoint, spans_lost=self._lost)
            self._lost, self._told_at = 0, float("-inf")
            return result
        self._lost += len(spans)
        if not self._over and time.monotonic() - self._told_at > QUIET_SECONDS:
            self._told_at = time.monotonic()
            log.warning(
                "traces_not_sent", endpoint=self._endpoint, spans_lost=self._lost, error=self._said.text[:500]
            )
        return result

    def shutdown(self) -> None:
        """A request that is under way is not tried again. May be said twice, and by any thread."""
        if not self._over:
            self._over = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
            self._said.leave()


class _LastWord(logging.Filter):
    """Keeps OpenTelemetry's own lines, several for each request that fails, out of the log; knows the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def listen(self) -> None:
        """From now on."""
        for name in _THEIR_LOGGERS:
            logging.getLogger(name).addFilter(self)

    def leave(self) -> None:
        """No more."""
        for name in _THEIR_LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Never in the log."""
        # The first of a request's lines has the reason, the last one says that it was given up.
        text = record.getMessage()
        if not self.text or "due to" not in text:
            self.text = text
        return False


def parse_headers(text: str) -> dict[str, str]:
    """From `name=value,name=value`; a value's own commas are written %2C."""
    pairs = (header.partition("=") for header in text.split(",") if header.strip())
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


def _describe(process: str) -> Resource:
    """Who it is. What OTEL_RESOURCE_ATTRIBUTES says beside that is kept."""
    host = socket.gethostname()
    return Resource.create(
        {
            "service.name": f"warmline-{process}",
            "service.version": version("warmline"),
            "service.instance.id": f"{host}/{os.getpid()}",
            "host.name": host,
            "process.pid": os.getpid(),
        }
    )


def _remote(traceparent: str) -> SpanContext | None:
    parsed = parse_traceparent(traceparent)
    if parsed is None:
        return None
    trace_id, span_id, sampled = parsed
    return SpanContext(
        trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    )


def _written(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
