"""Which jobs a real worker takes when: children beside the planned ones are there for live jobs and no others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.servers import wait_until
from warmline.jobs.records import JobStatus, Lane, Source
from warmline.jobs.submission import submit_batch, submit_job

PLANNED, LIVE = 2, 1
SOON_SECONDS = 1.5  # longer than a question to Redis for the next message lasts


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, worker_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A warm worker with two children and one for live jobs."""
    settings = worker_settings(module_redis_url, children=PLANNED)
    settings = settings.model_copy(update={"worker": settings.worker.model_copy(update={"live_children": LIVE})})
    with WorkerProcess(settings, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        worker.wait_warm(PLANNED + LIVE)
        yield worker


def submit(worker: WorkerProcess, call: Source, number: int, lane: Lane) -> list[str]:
    """The ids of so many new jobs of this lane, in order."""
    if lane == "live":
        return [submit_job(worker.ledger, call, lane=lane).job.id for _ in range(number)]
    batch = submit_batch(worker.ledger, [call] * number, lane=lane)
    return [state.job.id for state in reversed(worker.ledger.list(batch_id=batch.id))]


def running(worker: WorkerProcess, jobs: list[str]) -> list[str]:
    return [job_id for job_id in jobs if worker.ledger.get(job_id).status is JobStatus.RUNNING]


def count(worker: WorkerProcess, jobs: list[str], status: JobStatus) -> int:
    return [worker.ledger.get(job_id).status for job_id in jobs].count(status)


def hold_running(worker: WorkerProcess, jobs: list[str], number: int) -> list[psutil.Process]:
    """Stops the children that run these jobs as soon as so many of them run."""
    wait_until(lambda: len(running(worker, jobs)) == number, f"{number} run", interval_seconds=0.001)
    return [worker.hold(job_id) for job_id in running(worker, jobs)]


def test_a_live_job_does_not_wait_for_bulk_ones(worker: WorkerProcess, call: Source) -> None:
    # Given more bulk jobs than children, and as many as may be in the middle of their work for long
    bulk = submit(worker, call, 5, "bulk")
    held = hold_running(worker, bulk, PLANNED)
    # Then the last child is left alone
    time.sleep(SOON_SECONDS)
    assert count(worker, bulk, JobStatus.RUNNING) == PLANNED
    assert count(worker, bulk, JobStatus.QUEUED) == 5 - PLANNED
    # When live jobs come, then they are done meanwhile, one after another
    for job_id in submit(worker, call, 2, "live"):
        assert worker.wait_finished(job_id).status is JobStatus.SUCCEEDED
    assert count(worker, bulk, JobStatus.QUEUED) == 5 - PLANNED
    # When one of the bulk jobs goes on, then the next ones follow, still in the planned children
    held[0].resume()
    for job_id in bulk[PLANNED:]:
        assert worker.wait_finished(job_id).status is JobStatus.SUCCEEDED
    held[1].resume()
    assert [worker.wait_finished(job_id).attempt for job_id in bulk] == [1] * 5


def test_live_jobs_may_have_every_child(worker: WorkerProcess, call: Source) -> None:
    live = submit(worker, call, 4, "live")
    held = hold_running(worker, live, PLANNED + LIVE)
    # Then a bulk job waits for the first of them to end
    (bulk,) = submit(worker, call, 1, "bulk")
    time.sleep(SOON_SECONDS)
    assert worker.ledger.get(bulk).status is JobStatus.QUEUED
    for child in held:
        child.resume()
    for job_id in (*live, bulk):
        done = worker.wait_finished(job_id)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)


def test_bulk_jobs_follow_each_other_without_a_pause(worker: WorkerProcess, call: Source) -> None:
    # When many bulk jobs keep the planned children busy, and the live one idle
    bulk = submit(worker, call, 18, "bulk")
    for job_id in bulk:
        worker.wait_finished(job_id)
    # Then each starts when one of those before it has ended, far sooner than a question for live jobs is over
    states = [worker.ledger.get(job_id) for job_id in bulk]
    ends = sorted(state.finished_at for state in states if state.finished_at)
    starts = sorted(state.started_at for state in states if state.started_at)
    pauses = sorted((s - e).total_seconds() for s, e in zip(starts[PLANNED:], ends, strict=False))
    assert pauses[len(pauses) // 2] < 0.4, pauses


def test_a_child_that_dies_costs_its_job_no_time(worker: WorkerProcess, call: Source) -> None:
    # Given a job in the middle of its work
    (job_id,) = submit(worker, call, 1, "bulk")
    held = worker.hold(job_id)
    # When its child is killed
    killed_at = time.monotonic()
    held.kill()
    # Then it runs again long before its lease would have ended, and its history says what happened
    done = worker.wait_finished(job_id)
    assert time.monotonic() - killed_at < worker.settings.jobs.lease_seconds / 2
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)
    assert [attempt.outcome for attempt in done.attempts] == ["lost", "succeeded"]
    worker.wait_warm(PLANNED + LIVE)
