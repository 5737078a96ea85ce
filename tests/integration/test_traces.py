"""A job's trace, from the HTTP request to each stage: a real API, a real worker, a receiver at the other end."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from config.settings import LogSettings, RedisSettings, S3Settings, Settings, TracingSettings, process_environment
from tests.api_process import ApiProcess, running_api
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.moto_server import AwsServer
from tests.servers import wait_until
from tests.sqs_process import body, record, running_sqs, uploaded
from tests.trace_receiver import TakenSpan, TraceReceiver, running_trace_receiver
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus, Source

TOKEN = "receiver-t0ken-of-ours"
STAGES = {"fetch", "decode", "speech", "score", "summarise", "store"}


@dataclass(frozen=True)
class Traced:
    """A small Warmline that is traced."""

    receiver: TraceReceiver
    api: ApiProcess
    worker: WorkerProcess
    settings: Settings

    def submit(self, key: str, path: str = "/v1/jobs", **headers: str) -> JobState:
        source = {"bucket": "calls", "key": key}
        answer = httpx.post(
            f"{self.api.url}{path}", json={"source": source}, headers=headers, trust_env=False, timeout=60
        )
        assert answer.status_code == 202, answer.text
        return self.worker.wait_finished(answer.json()["id"])

    def trace_of(self, job_id: str) -> list[TakenSpan]:
        """All spans of the trace of a job that has ended."""
        (job,) = self.receiver.wait_named("job", warmline__job__id=job_id)

        def of_trace() -> list[TakenSpan]:
            return self.receiver.of_trace(job.trace_id)

        # The API sends by itself, and may be the later one.
        wait_until(lambda: not job.parent_id or any(each.kind == "server" for each in of_trace()), "its request")
        return of_trace()


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory,
    module_redis_url: str,
    s3_settings: S3Settings,
    worker_settings: NewSettings,
    call: Source,
) -> Iterator[Traced]:
    directory = tmp_path_factory.mktemp("traced")
    with running_trace_receiver() as receiver:
        settings = worker_settings(module_redis_url).model_copy(
            update={
                "tracing": TracingSettings(
                    endpoint=receiver.endpoint, headers=SecretStr(f"authorization=Bearer%20{TOKEN},x-tenant=calls")
                ),
                "log": LogSettings(level="INFO"),
            }
        )
        variables = {
            name: value
            for name, value in process_environment(settings).items()
            if name.startswith("WARMLINE_TRACING_")
        }
        with (
            WorkerProcess(settings, directory / "worker.log") as worker,
            running_api(directory, module_redis_url, s3_settings, **variables) as api,
        ):
            worker.wait_warm()
            yield Traced(receiver=receiver, api=api, worker=worker, settings=settings)


def test_one_trace_from_the_request_to_each_stage(traced: Traced, call: Source) -> None:
    # When a call is submitted and scored
    job = traced.submit(call.key).job
    # Then all of it is one trace, and each span is part of the right one
    spans = {span.name: span for span in traced.trace_of(job.id)}
    request, submit, attempt = spans["POST /v1/jobs"], spans["submit"], spans["job"]
    assert (request.kind, request.parent_id, request.service) == ("server", "", "warmline-api")
    assert (submit.kind, submit.parent_id) == ("producer", request.span_id)
    assert (attempt.kind, attempt.parent_id, attempt.service) == ("consumer", submit.span_id, "warmline-worker")
    assert job.traceparent == f"00-{submit.trace_id}-{submit.span_id}-01"
    assert set(spans) >= STAGES
    assert {spans[stage].parent_id for stage in STAGES} == {attempt.span_id}
    assert {spans[stage].pid for stage in STAGES} <= traced.worker.children()  # none is sent by the parent
    for requests, stage in (({"S3 HeadObject", "S3 GetObject"}, "fetch"), ({"S3 PutObject"}, "store")):
        assert {spans[name].parent_id for name in requests} == {spans[stage].span_id}
    for stage in STAGES:
        assert attempt.began_ns <= spans[stage].began_ns <= spans[stage].ended_ns <= attempt.ended_ns
    assert spans["fetch"].ended_ns <= spans["score"].began_ns <= spans["score"].ended_ns <= spans["store"].began_ns
    assert not any(span.failed for span in spans.values())
    assert request.attributes["http.response.status_code"] == 202
    told = attempt.attributes
    assert told["warmline.outcome"] == "succeeded"
    assert told["warmline.attempt"] == 1
    assert told["messaging.destination.name"] == "warmline.live"
    assert told["aws.s3.key"] == call.key
    assert 23 < float(str(told["warmline.audio_seconds"])) < 25
    # And lines of the log lead to it
    (line,) = [line for line in traced.worker.lines("job_finished") if line["job_id"] == job.id]
    assert line["trace_id"] == attempt.trace_id
    answered = [json.loads(text) for text in traced.api.log.read_text().splitlines()]
    assert attempt.trace_id in {line.get("trace_id") for line in answered if line["action"] == "http_request"}
    # And the receiver was told who we are, while no log tells how
    assert {headers["authorization"] for headers in traced.receiver.headers} == {f"Bearer {TOKEN}"}
    assert {headers["x-tenant"] for headers in traced.receiver.headers} == {"calls"}
    assert TOKEN not in traced.worker.log_text() + traced.api.log.read_text()


def test_a_client_that_traces_has_the_job_in_its_own_trace(traced: Traced, call: Source) -> None:
    theirs, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    job = traced.submit(call.key, traceparent=f"00-{theirs}-{parent}-01").job
    spans = {span.name: span for span in traced.trace_of(job.id)}
    assert spans["POST /v1/jobs"].parent_id == parent
    assert spans["job"].trace_id == theirs
    # One that does not want this trace kept is obeyed, by the worker too
    unwanted = "5bf92f3577b34da6a3ce929d0e0e4736"
    job = traced.submit(call.key, traceparent=f"00-{unwanted}-{parent}-00").job
    assert job.traceparent is not None
    assert job.traceparent.startswith(f"00-{unwanted}-")
    # And what is no traceparent is none
    other = traced.submit(call.key, traceparent=f"00-{'0' * 32}-{parent}-01").job
    assert len(traced.trace_of(other.id)) >= 9
    assert traced.receiver.of_trace(unwanted) == []


def test_jobs_of_a_batch_have_traces_of_their_own_that_link_to_its_submission(
    traced: Traced, call: Source
) -> None:
    body = {"bucket": "calls", "keys": [call.key, call.key]}
    answer = httpx.post(f"{traced.api.url}/v1/batches", json=body, trust_env=False, timeout=60)
    batch_id = answer.json()["id"]
    jobs = traced.receiver.wait_named("job", 2, warmline__batch__id=batch_id)
    (submit,) = traced.receiver.wait_named("submit batch", warmline__batch__id=batch_id)
    assert len({job.trace_id for job in jobs} | {submit.trace_id}) == 3
    for job in jobs:
        assert job.links == ((submit.trace_id, submit.span_id),)
        assert job.parent_id == ""
        assert {span.name for span in traced.receiver.of_trace(job.trace_id)} >= STAGES
    assert submit.attributes["messaging.batch.message_count"] == 2


def test_a_failure_has_its_code_in_the_job_and_in_the_stage(traced: Traced) -> None:
    state = traced.submit("no/such.wav")
    assert state.status is JobStatus.FAILED
    spans = {span.name: span for span in traced.trace_of(state.job.id)}
    for name in ("job", "fetch"):
        assert spans[name].failed
        assert spans[name].attributes["error.type"] == "object_not_found"
        assert "s3://calls/no/such.wav" in spans[name].message
    assert spans["job"].attributes["warmline.outcome"] == "failed"
    assert not spans["POST /v1/jobs"].failed


def test_attempts_at_a_job_are_spans_of_one_trace(traced: Traced, call: Source) -> None:
    # Given a job of a batch, which has no trace of its submission to be in, that fails and is replayed
    body = {"bucket": "calls", "keys": ["no/such/either.wav"]}
    batch_id = httpx.post(f"{traced.api.url}/v1/batches", json=body, trust_env=False, timeout=60).json()["id"]
    (first,) = traced.receiver.wait_named("job", warmline__batch__id=batch_id)
    assert (
        httpx.post(f"{traced.api.url}/v1/batches/{batch_id}/replay", trust_env=False, timeout=60).status_code
        == 202
    )
    # Then its second attempt is beside the first one
    second = traced.receiver.wait_named("job", 2, warmline__batch__id=batch_id)[1]
    assert second.attributes["warmline.attempt"] == 2
    assert second.trace_id == first.trace_id
    assert second.span_id != first.span_id


def test_who_only_looks_is_not_traced(traced: Traced) -> None:
    for path in ("/live", "/v1/jobs", "/health"):
        httpx.get(f"{traced.api.url}{path}", trust_env=False, timeout=60)
    httpx.post(f"{traced.api.url}/v1/nothing", json={}, trust_env=False, timeout=60)
    (refused,) = traced.receiver.wait_named("POST /…")
    assert refused.attributes["warmline.code"] == "route_not_found"
    assert [span.name for span in traced.receiver.spans if span.name.startswith("GET")] == []


def test_an_upload_that_is_announced_is_part_of_the_announcement(traced: Traced, call: Source) -> None:
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-05-04T10:00:00.000Z",
        "s3": {
            "bucket": {"name": "calls"},
            "object": {"key": call.key, "eTag": "5d41402abc4b2a76b9719d911017c592"},
        },
    }
    answer = httpx.post(f"{traced.api.url}/v1/events/s3", json={"Records": [record]}, trust_env=False, timeout=60)
    spans = {span.name: span for span in traced.trace_of(answer.json()["jobs"][0]["id"])}
    assert spans["submit uploads"].parent_id == spans["POST /v1/events/s3"].span_id
    assert spans["job"].parent_id == spans["submit uploads"].span_id


def test_an_upload_that_sqs_announces_is_part_of_the_lot_it_came_in(
    traced: Traced, aws: AwsServer, call: Source, redis_url: str, tmp_path: Path
) -> None:
    queue = aws.new_queue()
    aws.send(queue, [body([record("calls", call.key, sequencer="01")])])
    settings = traced.settings.model_copy(
        update={"sqs": aws.sqs_settings(queue), "redis": RedisSettings(url=SecretStr(redis_url))}
    )
    with running_sqs(tmp_path, settings):
        wait_until(lambda: bool(uploaded(settings.redis)), "the upload has a job")
    (lot,) = traced.receiver.wait_named("events")
    (submit,) = [span for span in traced.receiver.of_trace(lot.trace_id) if span.name == "submit uploads"]
    assert (submit.parent_id, submit.service, lot.kind) == (lot.span_id, "warmline-sqs", "consumer")
    with closing(Ledger.connect(settings.redis, settings.jobs)) as ledger:
        (state,) = ledger.list(limit=10)
    assert state.job.traceparent == f"00-{submit.trace_id}-{submit.span_id}-01"


def test_jobs_succeed_while_the_receiver_is_away_and_the_log_says_so_once(traced: Traced, call: Source) -> None:
    # When the receiver refuses for a while
    traced.receiver.status = 400
    for _ in range(2):
        asked = traced.receiver.requests
        assert traced.submit(call.key).status is JobStatus.SUCCEEDED
        wait_until(lambda asked=asked: traced.receiver.requests >= asked + 2, "API and worker sent")  # type: ignore[misc]
    traced.receiver.status = 200
    # Then what comes later arrives, and there is one line about it
    assert len(traced.trace_of(traced.submit(call.key).job.id)) >= 9
    wait_until(lambda: bool(traced.worker.lines("traces_sent_again")), "the log says that it is over")
    assert len(traced.worker.lines("traces_not_sent")) == 1
    assert '"logger": "opentelemetry' not in traced.worker.log_text()
    assert traced.worker.lines("traces_sent_again")[0]["spans_lost"] >= 12


def test_what_was_not_sent_yet_is_sent_when_the_worker_ends(traced: Traced, call: Source) -> None:
    job = traced.submit(call.key).job
    traced.worker.signal(signal.SIGTERM)
    assert traced.worker.wait_exit() == 0
    assert len(traced.receiver.named("job", warmline__job__id=job.id)) == 1  # without waiting any more
