"""A healthy worker: the road from the queue to the report, dying children, bad messages.

The tests share one worker with one child and leave it as they found it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from config.settings import S3Settings, process_environment
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess, kill
from tests.servers import wait_until
from warmline.calls.report import Report
from warmline.jobs import keys
from warmline.jobs.queue import QUEUES, TASK, make_celery
from warmline.jobs.records import JobStatus, Options, Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.objects.store import ObjectStore

EARLY_JOBS = 3


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, worker_settings: NewSettings, call: Source, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A warm worker, to which jobs had been sent before it was started."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    worker = WorkerProcess(worker_settings(module_redis_url, model="mini"), log)
    submit_batch(worker.ledger, [call] * EARLY_JOBS)
    with worker:
        worker.wait_warm()
        yield worker


@pytest.fixture
def raw(module_redis_url: str) -> Iterator[Any]:
    client = redis.Redis.from_url(module_redis_url, decode_responses=True)
    yield client
    client.close()


def test_no_job_was_taken_before_the_model_was_warm(worker: WorkerProcess) -> None:
    # Given jobs that were waiting when the worker started
    (batch,) = worker.ledger.batches()
    wait_until(lambda: worker.ledger.batch(batch.id).finished, "the early jobs have ended")
    jobs = worker.ledger.list(batch_id=batch.id)
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * EARLY_JOBS
    # Then each was queued before the child was warm, and started after it
    (said,) = worker.lines("child_warm")
    (child,) = worker.ledger.workers()[0].warm
    assert said["pid"] == child.pid
    assert said["note"] == "mini model: for trying things out"
    for job in jobs:
        assert job.started_at is not None
        assert job.queued_at < child.warm_since < job.started_at
        assert job.worker is not None
        assert job.worker.endswith(f"/{child.pid}")


def test_the_heartbeat_says_what_is_warm(worker: WorkerProcess) -> None:
    (state,) = worker.ledger.workers()
    (child,) = state.warm
    assert (state.pid, state.lanes, state.children) == (worker.process.pid, ("live", "bulk"), 1)
    assert {child.pid} == worker.children()
    assert (child.model, child.mini, child.engine) == ("mini", True, "torch")
    assert (child.device, child.threads) == ("cpu", 1)
    assert child.load_seconds > 0
    # And it goes on beating
    wait_until(lambda: worker.ledger.workers()[0].seen_at > state.seen_at, "the next beat")


def test_a_job_leaves_its_report_in_redis_and_s3(
    worker: WorkerProcess, s3_settings: S3Settings, call: Source
) -> None:
    # When a job with options and metadata is submitted
    options = Options(roles=("agent", "customer"))
    state = submit_job(worker.ledger, call, options=options, metadata={"line": "7"})
    done = worker.wait_finished(state.job.id)
    # Then its report is in both places, the same
    assert done.status is JobStatus.SUCCEEDED
    assert done.attempt == 1
    assert done.report is not None
    text = worker.ledger.report(state.job.id)
    assert text is not None
    assert ObjectStore(s3_settings).get_report(done.report) == text
    # And says what was asked, of which object
    report = Report.model_validate_json(text)
    assert (report.job_id, report.metadata) == (state.job.id, {"line": "7"})
    assert report.source.uri == call.uri
    assert [channel.role for channel in report.channels] == ["agent", "customer"]
    assert sum(len(channel.windows) for channel in report.channels) > 2
    assert {"fetch", "decode", "speech", "score"} <= report.provenance.stage_seconds.keys()


def test_a_second_job_for_the_same_call_and_options_keeps_the_first_report(
    worker: WorkerProcess, s3_settings: S3Settings, call: Source
) -> None:
    # Given a report in S3
    options = Options(granularity="utterance")
    first, second = (
        worker.wait_finished(submit_job(worker.ledger, call, options=options).job.id) for _ in range(2)
    )
    # Then another job with the same question points to it, and it is still the first one's
    assert first.report is not None
    assert second.report == first.report
    stored = Report.model_validate_json(ObjectStore(s3_settings).get_report(first.report))
    assert stored.job_id == first.job.id


@pytest.mark.parametrize(
    ("key", "content", "code"),
    [("nothing-here.wav", None, "object_not_found"), ("text.wav", b"hello, this is text\n" * 50, "not_audio")],
)
def test_what_cannot_be_mended_fails_at_once(
    worker: WorkerProcess, s3_settings: S3Settings, tmp_path: Any, key: str, content: bytes | None, code: str
) -> None:
    source = Source(bucket="calls", key=f"workers/{key}")
    if content is not None:
        (tmp_path / key).write_bytes(content)
        source = ObjectStore(s3_settings).put_call("calls", source.key, tmp_path / key)
    failed = worker.wait_finished(submit_job(worker.ledger, source).job.id)
    assert (failed.status, failed.attempt) == (JobStatus.FAILED, 1)
    assert failed.failure is not None
    assert failed.failure.code == code
    assert failed.failure.message.endswith(".")


def test_a_plain_celery_client_can_send_a_job(worker: WorkerProcess, module_redis_url: str, call: Source) -> None:
    # Given a job that only its message knows
    job_id = uuid.uuid4().hex
    app = make_celery(worker.settings)
    message = {"id": job_id, "source": {"bucket": call.bucket, "key": call.key}}
    app.send_task(TASK, args=[message | {"created_at": datetime.now(UTC).isoformat()}], queue=QUEUES["bulk"])
    app.close()
    # Then it is in the ledger, and ends there
    wait_until(lambda: job_id in {state.job.id for state in worker.ledger.list()}, "the ledger knows it")
    assert worker.wait_finished(job_id).status is JobStatus.SUCCEEDED


def test_celerys_own_tools_find_the_application(worker: WorkerProcess) -> None:
    ask = [sys.executable, "-m", "celery", "-A", "workers.app", "inspect", "ping", "--timeout", "20", "--json"]
    answer = subprocess.run(
        [*ask, "--destination", worker.ledger.workers()[0].name],
        env=process_environment(worker.settings), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(answer.stdout) == {worker.ledger.workers()[0].name: {"ok": "pong"}}


def test_bad_messages_are_dropped_and_the_next_job_runs(worker: WorkerProcess, raw: Any, call: Source) -> None:
    # Given messages that are no job, no arguments, no body, no task, no JSON inside, and no message at all
    app = make_celery(worker.settings)
    before = worker.children()
    for args in ([{"id": "x"}], [], ["text"], [1, 2]):
        app.send_task(TASK, args=args)
    app.send_task(TASK, kwargs={"job": {}})
    app.send_task("somebody.elses_task")
    headers = {"task": TASK, "id": uuid.uuid4().hex, "lang": "py", "argsrepr": "", "kwargsrepr": ""}
    for body in (b'{"not": "a triple"}', b"5", b"[[], {}]", b"not json", b'[[], "kwargs", {}]'):
        raw.lpush(f"{keys.BROKER}{QUEUES['live']}", envelope(headers, body))
    no_messages = (
        b"garbage",
        b"\xff\x00",
        b"5",
        b"[]",
        b"{}",
        b'{"properties": {}}',
        b'{"properties": 5, "body": "x"}',
    )
    raw.lpush(f"{keys.BROKER}{QUEUES['live']}", *no_messages)
    app.close()
    # When a good one comes after them
    state = submit_job(worker.ledger, call)
    # Then it runs, in the same child, and nothing of the others is left to come again
    assert worker.wait_finished(state.job.id).status is JobStatus.SUCCEEDED
    assert worker.children() == before
    wait_until(lambda: raw.hlen(f"{keys.BROKER}unacked") == 0, "all is acknowledged")
    assert raw.llen(f"{keys.BROKER}{QUEUES['live']}") == 0
    assert len(worker.lines("bad_message_dropped")) == 9 + len(no_messages)


def envelope(headers: dict[str, Any], body: bytes) -> str:
    """A message as kombu puts it on a Redis list."""
    return json.dumps({
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": headers["id"],
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUES["live"]},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid.uuid4().hex,
        },
    })  # fmt: skip


def test_a_child_killed_between_jobs_is_replaced_by_one_that_serves(worker: WorkerProcess, call: Source) -> None:
    # Given a child that has done a job
    worker.wait_finished(submit_job(worker.ledger, call).job.id)
    (old,) = worker.children()
    # When it is killed and a job comes
    kill(old)
    state = submit_job(worker.ledger, call)
    # Then a new child, warm before it started, does it
    done = worker.wait_finished(state.job.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
    (child,) = worker.ledger.workers()[0].warm
    assert child.pid != old
    assert done.started_at is not None
    assert child.warm_since < done.started_at


def test_no_message_is_taken_while_no_child_is_warm(worker: WorkerProcess, raw: Any, call: Source) -> None:
    # Given a worker whose child was killed, and whose replacement is still loading
    old = worker.children()
    kill(next(iter(old)))
    replacement = worker.hold_new_child(old)
    time.sleep(1.5)  # the wait for a message that was under way at the kill lasts a second
    # When a job comes
    state = submit_job(worker.ledger, call)
    time.sleep(0.5)
    # Then it is left for other workers
    assert raw.llen(f"{keys.BROKER}{QUEUES['live']}") == 1
    assert raw.hlen(f"{keys.BROKER}unacked") == 0
    assert worker.ledger.workers()[0].warm == ()
    # And taken as soon as the child is warm
    replacement.resume()
    assert worker.wait_finished(state.job.id).status is JobStatus.SUCCEEDED


def test_a_job_whose_child_is_killed_runs_again(worker: WorkerProcess, call: Source) -> None:
    # Given a running job
    state = submit_job(worker.ledger, call)
    held = worker.hold(state.job.id)
    # When its child is killed
    held.kill()
    # Then its second attempt succeeds, and nothing of the call is left on disk
    done = worker.wait_finished(state.job.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)
    assert not [path for path in worker.settings.worker.scratch_dir.rglob("call*") if path.is_file()]
    assert held.pid not in {int(path.name) for path in worker.settings.worker.scratch_dir.glob("worker-*/[0-9]*")}


def test_a_job_that_kills_its_child_each_time_is_dead_and_its_neighbour_finishes(
    worker: WorkerProcess, call: Source
) -> None:
    # Given a job during which the child dies, three times, and another that waits behind it
    poison, neighbour = (submit_job(worker.ledger, call).job.id for _ in range(2))
    for attempt in (1, 2, 3):
        kill(worker.wait_running(poison, attempt=attempt))
    # Then it is dead, and the worker goes on
    lost = worker.wait_finished(poison)
    assert (lost.status, lost.attempt) == (JobStatus.DEAD, 3)
    assert [past.outcome for past in lost.attempts] == ["lost"] * 3
    assert lost.failure is not None
    assert lost.failure.code == "worker_lost"
    done = worker.wait_finished(neighbour)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)


def test_a_worker_that_lost_its_connections_goes_on(worker: WorkerProcess, raw: Any, call: Source) -> None:
    # Given a worker with a running job whose connections to Redis are all cut, as when Redis restarts
    running = submit_job(worker.ledger, call)
    held = worker.hold(running.job.id)
    for kind in ("normal", "pubsub"):
        raw.client_kill_filter(_type=kind, skipme=True)
    cut_at = datetime.now(UTC)
    held.resume()
    # Then the running job ends, the next one is done, and the heart beats
    assert worker.wait_finished(running.job.id).status is JobStatus.SUCCEEDED
    after = submit_job(worker.ledger, call)
    assert worker.wait_finished(after.job.id).status is JobStatus.SUCCEEDED
    wait_until(lambda: worker.ledger.workers()[0].seen_at > cut_at, "the next beat")
    # And a child that dies is replaced as before
    kill(held.pid)
    last = submit_job(worker.ledger, call)
    assert worker.wait_finished(last.job.id).status is JobStatus.SUCCEEDED
