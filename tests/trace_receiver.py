"""A receiver of traces: the other end of OTLP over HTTP, reading what comes with the protocol's own classes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.servers import wait_until


@dataclass(frozen=True)
class TakenSpan:
    """One span, as it came."""

    service: str
    pid: int
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str  # '' for none
    links: tuple[tuple[str, str], ...]  # trace and span ids
    attributes: dict[str, object]
    failed: bool
    message: str
    began_ns: int
    ended_ns: int


@dataclass
class TraceReceiver:
    """A running one. What it answers can be changed at any time."""

    port: int
    status: int = 200
    requests: int = 0  # answered, well or not
    spans: list[TakenSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of each request, names in lower case
    answers: threading.Event = field(default_factory=threading.Event)  # while it is clear, all have to wait

    @property
    def endpoint(self) -> str:
        """For WARMLINE_TRACING_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str, **attributes: object) -> list[TakenSpan]:
        """The spans of this name, and with these attributes: dots are written as double underscores."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            each for each in list(self.spans) if each.name == name and wanted.items() <= each.attributes.items()
        ]

    def wait_named(self, name: str, count: int = 1, **attributes: object) -> Sequence[TakenSpan]:
        """When there are so many: they are sent about a second after they ended."""
        wait_until(lambda: len(self.named(name, **attributes)) >= count, f"{count} spans {name} {attributes}")
        return self.named(name, **attributes)

    def of_trace(self, trace_id: str) -> list[TakenSpan]:
        """All of one trace."""
        return [each for each in list(self.spans) if each.trace_id == trace_id]


@contextmanager
def running_trace_receiver() -> Iterator[TraceReceiver]:
    """One on a free port, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.answers.wait(60)
            if receiver.status == 200 and self.path == "/v1/traces":
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            receiver.requests += 1
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = TraceReceiver(port=server.server_port)
    receiver.answers.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answers.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[TakenSpan]:
    for resource in request.resource_spans:
        who = {each.key: _value(each.value) for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for each in scope.spans:
                yield TakenSpan(
                    service=str(who["service.name"]),
                    pid=int(str(who["process.pid"])),
                    name=each.name,
                    kind=WireSpan.SpanKind.Name(each.kind).removeprefix("SPAN_KIND_").lower(),
                    trace_id=each.trace_id.hex(),
                    span_id=each.span_id.hex(),
                    parent_id=each.parent_span_id.hex(),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in each.links),
                    attributes={one.key: _value(one.value) for one in each.attributes},
                    failed=each.status.code == Status.STATUS_CODE_ERROR,
                    message=each.status.message,
                    began_ns=each.start_time_unix_nano,
                    ended_ns=each.end_time_unix_nano,
                )


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
