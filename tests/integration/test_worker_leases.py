"""Leases in a real worker: a message that is delivered twice, a job that is cancelled, one that hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import redis

from config.settings import Settings
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.servers import is_over, wait_until
from warmline.jobs import keys
from warmline.jobs.queue import QUEUES, TASK, make_celery
from warmline.jobs.records import Job, JobStatus, Source
from warmline.jobs.submission import submit_job

LEASE_SECONDS = 4.0
CHILDREN = 2


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, worker_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A warm worker with two children, short leases and the shortest visibility timeout."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    settings = worker_settings(
        module_redis_url, children=CHILDREN, lease_seconds=LEASE_SECONDS, visibility_timeout_seconds=10
    )
    with WorkerProcess(settings, log) as worker:
        worker.wait_warm(CHILDREN)
        yield worker


@pytest.fixture
def raw(module_redis_url: str) -> Iterator[Any]:
    client = redis.Redis.from_url(module_redis_url, decode_responses=True)
    yield client
    client.close()


def send_with_celery(settings: Settings, call: Source) -> str:
    """A job as a client sends it that has no Warmline; returns its id."""
    job = Job(id=uuid4().hex, source=call, created_at=datetime.now(UTC))
    with closing(make_celery(settings)) as app:
        app.send_task(TASK, args=[job.model_dump(mode="json")], task_id=job.id, queue=QUEUES["live"])
    return job.id


def test_a_job_longer_than_lease_and_visibility_timeout_is_done_once(
    worker: WorkerProcess, raw: Any, call: Source
) -> None:
    # Given a job of a plain Celery client's, whose message is kept. It runs, and the message has been
    # unacknowledged for longer than it may
    job_id = send_with_celery(worker.settings, call)
    wait_until(lambda: raw.exists(keys.job(job_id)) == 1, "it is taken", interval_seconds=0.001)
    child = worker.hold(job_id)
    started = time.monotonic()
    index = f"{keys.BROKER}unacked_index"
    wait_until(lambda: raw.zcard(index) == 1, "its message is kept")
    raw.zincrby(index, -worker.settings.jobs.visibility_timeout_seconds, raw.zrange(index, 0, 0)[0])
    # When it is delivered again, while the first child works on, slowly
    while not worker.lines("job_stepped_back") or time.monotonic() < started + 2 * LEASE_SECONDS:
        assert time.monotonic() < started + 90
        child.resume()
        time.sleep(0.01)
        child.suspend()
        time.sleep(LEASE_SECONDS / 8)  # it must have renewed its lease before that is over
    assert worker.ledger.get(job_id).status is JobStatus.RUNNING
    child.resume()
    # Then the second child stepped back, and the first one's report is the only one
    done = worker.wait_finished(job_id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
    (stepped_back,) = worker.lines("job_stepped_back")
    assert (stepped_back["job_id"], stepped_back["holder"]) == (job_id, done.worker)
    wait_until(lambda: bool(worker.lines("job_finished")), "it is in the worker's log")  # after the ledger has it
    assert len(worker.lines("job_started")) == len(worker.lines("job_finished")) == 1
    wait_until(lambda: raw.hlen(f"{keys.BROKER}unacked") == 0, "both messages are done with")


def test_a_running_job_is_cancelled_and_its_child_goes_on(
    worker: WorkerProcess, call: Source, long_call: Source
) -> None:
    # Given a running job of several seconds
    before = worker.children()
    job_id = submit_job(worker.ledger, long_call).job.id
    worker.wait_running(job_id)
    # When it is cancelled
    worker.ledger.cancel(job_id)
    cancelled_at = time.monotonic()
    cancelled = worker.wait_finished(job_id)
    # Then it is within a window, as its history says, without a report
    assert time.monotonic() - cancelled_at < 30
    assert (cancelled.status, cancelled.report) == (JobStatus.CANCELLED, None)
    assert [past.outcome for past in cancelled.attempts] == ["cancelled"]
    # And the next job is done by the same children
    assert worker.wait_finished(submit_job(worker.ledger, call).job.id).status is JobStatus.SUCCEEDED
    assert worker.children() == before


def with_host(settings: Settings) -> Settings:
    """The same worker with one host for the model."""
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"engine_hosts": "1"})})


def test_a_job_that_hangs_is_cut_off_and_its_child_replaced(
    redis_url: str, worker_settings: NewSettings, call: Source, tmp_path: Path
) -> None:
    # Given a job whose child waits for a model that has stopped to answer; the next job keeps the limit, even on a
    # busy machine
    settings = with_host(worker_settings(redis_url, time_limit_seconds=5, time_limit_factor=0.01))
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        worker.wait_warm()
        (child,) = worker.ledger.workers()[0].warm
        (host,) = (psutil.Process(pid) for pid in worker.children() - {child.pid})
        host.suspend()
        hung = submit_job(worker.ledger, call).job.id
        # Then it has failed after its time limit, with its child
        failed = worker.wait_finished(hung)
        assert (failed.status, failed.attempt) == (JobStatus.FAILED, 1)
        assert failed.failure is not None
        assert failed.failure.code == "timed_out"
        wait_until(lambda: is_over(child.pid), "the child has ended")
        # And the next job is done by another child, with nothing of the old one's on disk
        host.resume()

        def next_succeeds() -> bool:  # where all is slow one that is well may pass the limit, too
            return worker.wait_finished(submit_job(worker.ledger, call).job.id).status is JobStatus.SUCCEEDED

        wait_until(next_succeeds, "a job succeeds")
        (other,) = worker.ledger.workers()[0].warm
        assert other.pid != child.pid
        assert not [path for path in settings.worker.scratch_dir.rglob("call*") if path.is_file()]
        assert worker.ledger.get(hung) == failed
