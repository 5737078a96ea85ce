"""Spans in one process: what is kept and handed on, what is sampled, what a receiver that is away costs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog
from structlog.testing import capture_logs

from config.settings import ApiSettings, LogSettings, Settings, SettingsError, TracingSettings, load_settings
from tests.servers import wait_until
from tests.trace_receiver import TraceReceiver, running_trace_receiver
from warmline.jobs.errors import ObjectNotFound
from warmline.telemetry.recording import BATCH_SPANS, QUEUE_SPANS, parse_headers
from warmline.telemetry.tracing import NOTHING, Tracing, current, parse_traceparent, span

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNWANTED = PARENT[:-2] + "00"
SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def receiver() -> Iterator[TraceReceiver]:
    with running_trace_receiver() as running:
        yield running


@contextmanager
def tracing(receiver: TraceReceiver, *, ratio: float = 1.0, mask_keys: bool = False) -> Iterator[Tracing]:
    """What it has kept is with the receiver when the block has ended."""
    settings = Settings(
        tracing=TracingSettings(endpoint=receiver.endpoint, sample_ratio=ratio),
        log=LogSettings(mask_keys=mask_keys),
        api=ApiSettings.model_validate({"keys": (SECRET,)}),
    )
    made = Tracing(settings, process="test")
    try:
        yield made
    finally:
        made.stop(10)


def test_without_a_receiver_nothing_is_kept_or_handed_on() -> None:
    made = Tracing(Settings())
    assert not made.on
    with made.root("job", parent=PARENT) as root, span("fetch") as part:
        assert root is part is current() is NOTHING
        assert part.traceparent is None
        part.set("a", 1)
        part.fail("code")
        part.past("decode", 0, 1)
    made.stop()


def test_parts_of_work_are_parts_of_its_span(receiver: TraceReceiver) -> None:
    with tracing(receiver) as made:
        with made.root("job-1", kind="consumer", parent=PARENT, attributes={"a": "b"}) as root:
            assert "trace_id" in structlog.contextvars.get_contextvars()
            with span("fetch-1", "client") as fetch:
                assert current() is fetch
                began = time.perf_counter()
                current().past("decode-1", began - 2, began - 1)
            root.rename("job-one")
            root.set("c", 2)
        assert current() is NOTHING
        assert "trace_id" not in structlog.contextvars.get_contextvars()
    spans = {each.name: each for each in receiver.spans}
    job, fetched, decoded = spans["job-one"], spans["fetch-1"], spans["decode-1"]
    assert (job.trace_id, job.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert (job.kind, job.attributes) == ("consumer", {"a": "b", "c": 2})
    assert (fetched.kind, fetched.parent_id) == ("client", job.span_id)
    assert decoded.parent_id == fetched.span_id
    assert 0.99e9 < decoded.ended_ns - decoded.began_ns < 1.01e9
    assert 0.9e9 < fetched.began_ns - decoded.ended_ns < 30e9


def test_a_failure_has_a_code_and_no_secret(receiver: TraceReceiver) -> None:
    class Cancelled(Exception):
        is_fault = False

    with tracing(receiver) as made:
        for name, error in (
            ("ours", ObjectNotFound("s3://calls/a.wav is gone")),
            ("others", ValueError(f"redis://:{SECRET}@h/0 does not answer")),
            ("no-fault", Cancelled()),
        ):
            with pytest.raises(type(error)), made.root(name):
                raise error
    spans = {each.name: each for each in receiver.spans}
    assert spans["ours"].failed
    assert spans["ours"].attributes["error.type"] == "object_not_found"
    assert spans["ours"].message == "s3://calls/a.wav is gone"
    assert spans["others"].failed
    assert spans["others"].attributes["error.type"] == "ValueError"
    assert SECRET not in spans["others"].message
    assert not spans["no-fault"].failed


def test_keys_of_calls_are_masked_where_that_is_asked_for(receiver: TraceReceiver) -> None:
    key = {"aws.s3.key": "tel/+49151.wav"}
    with tracing(receiver, mask_keys=True) as made, made.root("masked", attributes=key) as root:
        root.set("aws.s3.key", "tel/+49151.wav")
        root.fail("object_not_found", "s3://calls/tel/+49151.wav: there is no such object")
    (masked,) = receiver.named("masked")
    assert "49151" not in str(masked)
    assert str(masked.attributes["aws.s3.key"]).startswith("…")
    assert masked.message.startswith("s3://calls/…")


def test_the_same_seed_is_the_same_trace_and_links_to_what_it_came_of(receiver: TraceReceiver) -> None:
    with tracing(receiver) as made:
        for _ in range(2):
            with made.root("seeded", seed="1f", link=PARENT):
                pass
        with made.root("seeded", seed="2f", link="nonsense"):
            pass
        with made.root("unseeded"):
            pass
    first, second, other = receiver.named("seeded")
    assert first.trace_id == second.trace_id
    assert first.span_id != second.span_id
    assert first.links == ((PARENT[3:35], PARENT[36:52]),)
    assert other.links == ()
    (unseeded,) = receiver.named("unseeded")
    assert len({first.trace_id, other.trace_id, unseeded.trace_id}) == 3


def test_a_share_is_sampled_and_others_are_told_which(receiver: TraceReceiver) -> None:
    with tracing(receiver, ratio=0.0) as made:
        with made.root("left out") as root, span("part of it") as part:
            assert part is NOTHING
            assert root.traceparent is not None
            assert current().traceparent == root.traceparent
            assert root.traceparent.endswith("-00")
        with made.root("wanted by its parent", parent=PARENT) as root:
            assert root.traceparent is not None
            assert root.traceparent.endswith("-01")
    with tracing(receiver, ratio=1.0) as made, made.root("not wanted by its parent", parent=UNWANTED) as root:
        assert root.traceparent is not None
        assert root.traceparent.startswith(UNWANTED[:35])
    with tracing(receiver, ratio=0.25) as made:
        kept = sum(made.root("x", seed=str(n)).traceparent[-1] == "1" for n in range(1000))  # type: ignore[index]
    assert 180 < kept < 320
    names = {each.name for each in receiver.spans}
    assert "wanted by its parent" in names
    assert not {"left out", "part of it", "not wanted by its parent"} & names


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (PARENT, (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, True)),
        (UNWANTED, (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, False)),
        (
            PARENT.replace("00-4", "cc-4", 1) + "-more",
            (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, True),
        ),
        (PARENT + "-more", None),
        (PARENT.replace("00-4", "ff-4", 1), None),
        (PARENT.upper(), None),
        (PARENT[:-1], None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_the_w3c_has_it(text: str, parsed: tuple[int, int, bool] | None) -> None:
    assert parse_traceparent(text) == parsed


def test_a_receiver_that_hangs_costs_neither_time_nor_memory() -> None:
    with running_trace_receiver() as hanging:
        hanging.answers.clear()
        with capture_logs() as lines, tracing(hanging) as made:
            with made.root("flood"):
                started = time.perf_counter()
                for _ in range(3 * QUEUE_SPANS):
                    with span("drop"):
                        pass
                seconds = time.perf_counter() - started
            stopping = time.perf_counter()
            made.stop(0.2)
            assert time.perf_counter() - stopping < 20  # the answer comes after a minute
            hanging.answers.set()
        wait_until(lambda: len(hanging.named("drop")) > 0, "what was under way arrives")
        assert len(hanging.named("drop")) <= QUEUE_SPANS + 2 * BATCH_SPANS
    assert seconds / (3 * QUEUE_SPANS) < 0.002
    assert lines == []  # what is dropped is told of when a request fails


def test_a_receiver_that_refuses_is_told_of_once_and_once_more_when_it_is_over() -> None:
    with running_trace_receiver() as refusing:
        refusing.status = 401
        with capture_logs() as lines, tracing(refusing) as made:
            for number in range(3):
                with made.root("refused"):
                    pass
                wait_until(lambda asked=number + 1: refusing.requests == asked, "a request was made")  # type: ignore[misc]
            refusing.status = 200
            with made.root("accepted"):
                pass
        assert [each.name for each in refusing.spans] == ["accepted"]
    told = [(line["event"], line["spans_lost"]) for line in lines]
    assert told == [("traces_not_sent", 1), ("traces_sent_again", 3)]
    assert "401" in lines[0]["error"]


def test_a_receiver_that_is_not_there_is_told_of() -> None:
    with running_trace_receiver() as gone:
        pass
    with capture_logs() as lines, tracing(gone) as made:
        with made.root("lost"):
            pass
        made.stop(10)
    assert [line["event"] for line in lines] == ["traces_not_sent"]
    assert "refused" in lines[0]["error"]


def test_headers_are_read_as_opentelemetry_writes_them() -> None:
    assert parse_headers("Authorization=Bearer%20a=b, x-tenant = calls,") == {
        "authorization": "Bearer a=b",
        "x-tenant": "calls",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENDPOINT", "localhost:4318"),
        ("ENDPOINT", "grpc://h:4317"),
        ("HEADERS", "s3cr3t"),
        ("SAMPLE_RATIO", "1.1"),
    ],
)
def test_settings_that_cannot_be_used_are_named_without_their_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"WARMLINE_TRACING_{name}") as failed:
        load_settings(**{f"WARMLINE_TRACING_{name}": value})
    assert "s3cr3t" not in str(failed.value)


def test_a_parent_that_forks_has_no_thread_of_ours(receiver: TraceReceiver) -> None:
    with tracing(receiver) as made:
        before = threading.active_count()
        made.load()
        assert threading.active_count() == before
        made.begin()
        assert threading.active_count() > before


def test_a_receiver_without_opentelemetry_is_said_at_the_start() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None  # as if it were not installed
from config.settings import Settings, TracingSettings
from warmline.telemetry.tracing import Tracing
Tracing(Settings())
Tracing(Settings(tracing=TracingSettings(endpoint="http://localhost:4318")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    last = done.stderr.splitlines()[-1]
    assert "WARMLINE_TRACING_ENDPOINT is set, but OpenTelemetry is not installed" in last
    assert "pip install 'warmline[tracing]'" in last
