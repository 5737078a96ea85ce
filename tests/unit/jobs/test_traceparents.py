"""The trace of a submission, in the ledger: with a single job, and once for all of a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from config.settings import Settings, TracingSettings
from tests.trace_receiver import running_trace_receiver
from tests.unit.jobs.conftest import NewJob
from warmline.jobs import keys
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.telemetry.tracing import Span, Tracing

CALL = Source(bucket="calls", key="a.wav")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def request_span() -> Iterator[Span]:
    with running_trace_receiver() as receiver:
        tracing = Tracing(Settings(tracing=TracingSettings(endpoint=receiver.endpoint)), process="test")
        with tracing.root("request") as span:
            yield span
        tracing.stop(5)


def test_a_job_that_is_not_traced_is_written_as_ever(ledger: Ledger, raw: Any) -> None:
    job_id = submit_job(ledger, CALL).job.id
    assert "traceparent" not in json.loads(raw.hget(keys.job(job_id), "job"))


def test_a_single_job_keeps_the_trace_of_its_submission(ledger: Ledger, request_span: Span) -> None:
    job = ledger.get(submit_job(ledger, CALL).job.id).job
    assert job.traceparent is not None
    assert request_span.traceparent is not None
    assert job.traceparent[:35] == request_span.traceparent[:35]  # the trace
    assert job.traceparent != request_span.traceparent  # of which it is a part of its own


def test_a_batch_keeps_it_once_however_many_jobs_wait(ledger: Ledger, raw: Any, request_span: Span) -> None:
    batch_id = submit_batch(ledger, [CALL] * 500).id
    assert set(raw.lrange(keys.calls(batch_id), 0, -1)) == {"ka.wav"}
    waiting = ledger.list(batch_id=batch_id, limit=500)
    assert len({state.job.traceparent for state in waiting}) == 1
    assert waiting[0].job.traceparent is not None


@pytest.mark.parametrize("text", ["", "nonsense", PARENT.upper(), f"{PARENT}-more", f"ff{PARENT[2:]}"])
def test_what_is_no_traceparent_is_no_jobs(new_job: NewJob, text: str) -> None:
    assert new_job(traceparent=PARENT).traceparent == PARENT
    with pytest.raises(ValidationError):
        new_job(traceparent=text)
