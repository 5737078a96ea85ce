"""The ledger against a real Redis: every step of a job's life, alone and against other writers."""

from __future__ import annotations

import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings
from tests.servers import running_redis
from tests.unit.jobs.conftest import NewJob
from warmline.jobs import keys
from warmline.jobs.errors import BatchNotFound, JobNotFound, LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import (
    ChildState,
    Failure,
    JobState,
    JobStatus,
    Options,
    Progress,
    ReportLocation,
    Source,
    WorkerState,
)

IN_REDIS = ReportLocation(in_redis=True)
BAD = Failure(code="not_audio", message="This is not audio.")


@pytest.fixture
def raw(redis_url: str) -> Any:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()


def expire(raw: Any, ledger: Ledger, job_id: str) -> None:
    """What Redis does when the retention is over."""
    raw.pexpire(keys.job(job_id), 1)
    while raw.exists(keys.job(job_id)):
        pass


def test_a_job_is_queued_then_running_then_succeeded_with_its_report(ledger: Ledger, new_job: NewJob) -> None:
    # Given a job with everything in it
    job = new_job(
        source=Source(bucket="calls", key="ä/客 1.wav", version_id="v1"),
        options=Options(granularity="utterance", roles=("agent", "customer")),
        metadata={"call": "7 ☎"},
        lane="bulk",
    )
    before = datetime.now(UTC) - timedelta(milliseconds=1)

    # When it is entered
    assert ledger.create(job)
    # Then it is queued, and reads as it was written
    queued = ledger.get(job.id)
    assert queued == JobState(job=job, status=JobStatus.QUEUED, queued_at=queued.queued_at)
    assert before <= queued.queued_at <= datetime.now(UTC) + timedelta(milliseconds=1)

    # When a worker claims it and gets on
    claimed = ledger.claim(job, "worker-1/77")
    assert claimed is not None
    assert (claimed.status, claimed.attempt, claimed.worker) == (JobStatus.RUNNING, 1, "worker-1/77")
    assert claimed.started_at is not None
    assert claimed.started_at >= queued.queued_at
    progress = Progress(stage="score", windows_done=3, windows_total=9)
    assert ledger.progress(job.id, progress)
    assert ledger.get(job.id).progress == progress

    # When it is done
    location = ReportLocation(in_redis=True, bucket="reports", key="k.json")
    assert ledger.succeed(job.id, location, '{"channels": "≤2"}')
    # Then the report is there, and the progress is not
    done = ledger.get(job.id)
    assert (done.status, done.report, done.progress) == (JobStatus.SUCCEEDED, location, None)
    assert done.finished_at is not None
    assert done.finished_at >= claimed.started_at
    assert ledger.report(job.id) == '{"channels": "≤2"}'.encode()


def test_a_report_that_redis_does_not_keep_is_none(ledger: Ledger, new_job: NewJob) -> None:
    job = new_job()
    ledger.claim(job, "w")
    ledger.succeed(job.id, ReportLocation(bucket="reports", key="k"), None)
    assert ledger.report(job.id) is None


def test_entering_a_job_twice_changes_nothing(ledger: Ledger, new_job: NewJob) -> None:
    job = new_job()
    assert ledger.create(job)
    ledger.claim(job, "w")
    assert not ledger.create(job)
    assert ledger.get(job.id).status is JobStatus.RUNNING
    assert len(ledger.list()) == 1


def test_a_failed_job_says_why(ledger: Ledger, new_job: NewJob) -> None:
    job = new_job()
    ledger.create(job)
    ledger.claim(job, "w")
    assert ledger.fail(job.id, BAD)
    failed = ledger.get(job.id)
    assert (failed.status, failed.failure) == (JobStatus.FAILED, BAD)


def test_a_job_that_no_one_entered_is_entered_when_it_is_claimed(ledger: Ledger, new_job: NewJob) -> None:
    # Given a message that a plain Celery client sent
    job = new_job(batch_id="a-batch-of-theirs")
    # When a worker claims it
    claimed = ledger.claim(job, "w")
    # Then the ledger has it, and it can end as any other
    assert claimed is not None
    assert claimed.status is JobStatus.RUNNING
    assert [state.job for state in ledger.list()] == [job]
    assert ledger.succeed(job.id, IN_REDIS, "{}")
    with pytest.raises(BatchNotFound):
        ledger.batch("a-batch-of-theirs")


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_finished_job_is_neither_claimed_nor_changed(ledger: Ledger, new_job: NewJob, end: str) -> None:
    # Given a job that has ended
    job = new_job()
    ledger.claim(job, "w")
    _ = ledger.succeed(job.id, IN_REDIS, '"first"') if end == "succeed" else ledger.fail(job.id, BAD)
    ended = ledger.get(job.id)
    # When its message comes again, or a second runner ends it
    assert ledger.claim(job, "other") is None
    assert not ledger.progress(job.id, Progress(stage="fetch"))
    assert not ledger.succeed(job.id, ReportLocation(bucket="reports", key="other"), '"second"')
    assert not ledger.fail(job.id, Failure(code="other", message="other"))
    assert not ledger.retry(job.id)
    # Then it stays as it was
    assert ledger.get(job.id) == ended
    assert ledger.report(job.id) == (b'"first"' if end == "succeed" else None)


def test_a_job_whose_worker_dies_each_time_is_given_up(ledger: Ledger, new_job: NewJob) -> None:
    # Given three attempts that nobody ended
    job = new_job()
    ledger.create_batch("b", [job])
    attempts = [ledger.claim(job, f"w{n}") for n in range(3)]
    assert [a and a.attempt for a in attempts] == [1, 2, 3]
    # When the message comes a fourth time
    assert ledger.claim(job, "w4") is None
    # Then the job is failed, and counted so
    lost = ledger.get(job.id)
    assert lost.status is JobStatus.FAILED
    assert lost.failure is not None
    assert lost.failure.code == "worker_lost"
    assert "3 times" in lost.failure.message
    assert (lost.attempt, lost.worker) == (3, "w2")
    assert ledger.batch("b").failed == 1


def test_a_retried_job_waits_again_with_its_attempts_counted(ledger: Ledger, new_job: NewJob) -> None:
    job = new_job()
    ledger.claim(job, "w")
    ledger.progress(job.id, Progress(stage="score"))
    assert ledger.retry(job.id)
    waiting = ledger.get(job.id)
    assert (waiting.status, waiting.attempt, waiting.worker) == (JobStatus.QUEUED, 1, None)
    assert (waiting.progress, waiting.started_at) == (None, None)
    assert not ledger.retry(job.id)
    again = ledger.claim(job, "w")
    assert again is not None
    assert again.attempt == 2


def test_one_job_is_claimed_once_for_each_attempt_by_racing_workers(settings: Settings, new_job: NewJob) -> None:
    # Given more claimers than attempts, all at once
    job = new_job()
    gate = threading.Barrier(8)

    def claim(n: int) -> int | None:
        ledger = Ledger.connect(settings.redis, settings.jobs)
        gate.wait()
        state = ledger.claim(job, f"w{n}")
        ledger.close()
        return state and state.attempt

    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(claim, range(8)))
    # Then each attempt was given out once
    assert sorted(a for a in attempts if a) == [1, 2, 3]


def test_a_batch_counts_its_jobs_whatever_they_go_through(ledger: Ledger, new_job: NewJob) -> None:
    # Given a batch of four
    jobs = [new_job(batch_id="b") for _ in range(4)]
    ledger.create_batch("b", jobs)
    assert ledger.batch("b").model_dump(include={"total", "queued", "running", "succeeded", "failed"}) == {
        "total": 4, "queued": 4, "running": 0, "succeeded": 0, "failed": 0,
    }  # fmt: skip
    # When one succeeds, one fails, one is retried and one runs
    ledger.claim(jobs[0], "w")
    ledger.succeed(jobs[0].id, IN_REDIS, None)
    ledger.fail(jobs[1].id, BAD)
    for job in jobs[2:]:
        ledger.claim(job, "w")
    ledger.retry(jobs[2].id)
    # Then the counters say so
    state = ledger.batch("b")
    assert (state.total, state.queued, state.running, state.succeeded, state.failed) == (4, 1, 1, 1, 1)
    assert not state.finished
    assert state.finished_at is None
    # When all have ended, then so has the batch
    for job in jobs[2:]:
        ledger.claim(job, "w")
        ledger.succeed(job.id, IN_REDIS, None)
    state = ledger.batch("b")
    assert (state.queued, state.running, state.succeeded, state.failed) == (0, 0, 3, 1)
    assert state.finished
    assert state.finished_at is not None


def test_batches_are_listed_newest_first(ledger: Ledger, new_job: NewJob) -> None:
    for name in ("one", "two", "three"):
        ledger.create_batch(name, [new_job(batch_id=name)])
        threading.Event().wait(0.002)  # the order is by the millisecond
    assert [batch.id for batch in ledger.batches()] == ["three", "two", "one"]
    assert [batch.id for batch in ledger.batches(limit=2)] == ["three", "two"]


def pages(ledger: Ledger, limit: int, **which: Any) -> list[str]:
    """The ids of all pages, in order."""
    found: list[str] = []
    before: str | None = None
    while page := ledger.list(limit=limit, before=before, **which):
        assert len(page) <= limit
        found.extend(state.job.id for state in page)
        before = found[-1]
    return found


def test_pages_of_jobs_are_newest_first_and_miss_none(ledger: Ledger, new_job: NewJob) -> None:
    # Given jobs of several times and statuses, many of them of one millisecond
    start = datetime(2026, 1, 1, tzinfo=UTC)
    jobs = [new_job(created_at=start + timedelta(seconds=n // 4)) for n in range(40)]
    for number, job in enumerate(jobs):
        ledger.create(job)
        if number % 3 == 1:
            ledger.fail(job.id, BAD)
        if number % 3 == 2:
            ledger.claim(job, "w")
    newest_first = [j.id for j in sorted(jobs, key=lambda j: (j.created_at, j.id), reverse=True)]
    # Then pages of any size hold them all, in order
    assert pages(ledger, 7) == newest_first
    assert pages(ledger, 1) == newest_first
    assert pages(ledger, 100) == newest_first
    # And one status's pages hold the jobs of that status
    failed = {job.id for number, job in enumerate(jobs) if number % 3 == 1}
    assert pages(ledger, 3, status=JobStatus.FAILED) == [job_id for job_id in newest_first if job_id in failed]


def test_pages_of_a_batch_are_last_submitted_first(ledger: Ledger, new_job: NewJob) -> None:
    now = datetime.now(UTC)
    jobs = [new_job(batch_id="b", created_at=now) for _ in range(25)]
    ledger.create_batch("b", jobs)
    ledger.create(new_job())
    for job in jobs[::5]:
        ledger.fail(job.id, BAD)
    last_first = [job.id for job in reversed(jobs)]
    assert pages(ledger, 10, batch_id="b") == last_first
    failed = {job.id for job in jobs[::5]}
    assert pages(ledger, 2, batch_id="b", status=JobStatus.FAILED) == [i for i in last_first if i in failed]


def test_what_is_not_there_is_named(ledger: Ledger) -> None:
    nobody = uuid.uuid4().hex
    with pytest.raises(JobNotFound):
        ledger.get(nobody)
    with pytest.raises(JobNotFound):
        ledger.list(before=nobody)
    with pytest.raises(BatchNotFound):
        ledger.batch("nothing")
    with pytest.raises(BatchNotFound):
        ledger.list(batch_id="nothing")
    assert ledger.list() == ()
    assert ledger.batches() == ()
    assert ledger.report(nobody) is None
    assert not ledger.succeed(nobody, IN_REDIS, "{}")
    assert ledger.report(nobody) is None


def test_finished_jobs_and_batches_expire_and_waiting_ones_do_not(
    ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    # Given a batch with one finished and one waiting job
    done, waiting = new_job(batch_id="b"), new_job(batch_id="b")
    ledger.create_batch("b", [done, waiting])
    ledger.claim(done, "w")
    ledger.succeed(done.id, IN_REDIS, "{}")
    # Then only what has ended has an end
    assert 55 <= raw.ttl(keys.job(done.id)) <= 60
    assert 55 <= raw.ttl(keys.report(done.id)) <= 60
    assert raw.ttl(keys.job(waiting.id)) == -1
    assert raw.ttl(keys.batch("b")) == -1
    # When the last has ended too, then the batch will go with them
    ledger.fail(waiting.id, BAD)
    assert 55 <= raw.ttl(keys.batch("b")) <= 60
    assert 55 <= raw.ttl(keys.batch_jobs("b")) <= 60


def test_listings_lose_what_has_expired(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    # Given a failed job whose retention is over
    old = new_job(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    ledger.create(old)
    ledger.fail(old.id, BAD)
    expire(raw, ledger, old.id)
    assert raw.zcard(keys.jobs("failed")) == 1
    # Then a listing does not show it
    assert ledger.list() == ()
    # And when the next one fails, then its place in Redis is gone too
    new = new_job()
    ledger.create(new)
    ledger.fail(new.id, BAD)
    assert raw.zrange(keys.jobs("failed"), 0, -1) == [new.id]


def test_a_batch_that_somebody_deleted_does_not_come_back_half(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    job = new_job(batch_id="b")
    ledger.create_batch("b", [job])
    raw.delete(keys.batch("b"))
    ledger.claim(job, "w")
    assert ledger.succeed(job.id, IN_REDIS, "{}")
    assert not raw.exists(keys.batch("b"))
    assert ledger.batches() == ()


def test_every_key_is_under_the_prefix(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    jobs = [new_job(batch_id="b"), new_job(batch_id="b")]
    ledger.create_batch("b", jobs)
    ledger.claim(jobs[0], "w")
    ledger.succeed(jobs[0].id, IN_REDIS, "{}")
    ledger.beat(worker("a"), ttl_seconds=5)
    assert all(key.startswith(keys.PREFIX) for key in raw.scan_iter())


def worker(name: str, warm: int = 1) -> WorkerState:
    now = datetime.now(UTC)
    child = ChildState(
        pid=9, model="mini", mini=True, engine="torch", device="cpu", precision="fp32", threads=1,
        load_seconds=0.5, warm_since=now,
    )  # fmt: skip
    return WorkerState(
        name=name, host="h", pid=1, lanes=("live", "bulk"), children=2, warm=(child,) * warm, seen_at=now
    )


def test_a_worker_is_alive_while_its_heart_beats(ledger: Ledger, raw: Any) -> None:
    # Given two workers, one of which stops beating
    steady, silent = worker("steady"), worker("silent", warm=0)
    ledger.beat(steady, ttl_seconds=30)
    ledger.beat(silent, ttl_seconds=0.05)
    assert {w.name for w in ledger.workers()} == {"steady", "silent"}
    threading.Event().wait(0.1)
    # Then it is gone, and forgotten
    assert ledger.workers() == (steady,)
    assert raw.zrange(keys.WORKERS, 0, -1) == ["steady"]
    # And one that leaves is gone at once
    ledger.leave("steady")
    assert ledger.workers() == ()


def test_a_ledger_outlives_a_fork(ledger: Ledger, new_job: NewJob) -> None:
    # Given a ledger with an open connection
    ledger.ping()
    job = new_job()
    # When a child uses it, too
    child = os.fork()
    if child == 0:
        os._exit(0 if ledger.create(job) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    # Then neither disturbed the other
    assert ledger.get(job.id).job == job


def test_a_redis_that_is_gone_is_named_at_once(new_job: NewJob) -> None:
    settings = RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_seconds=0.5)
    ledger = Ledger.connect(settings, JobsSettings())
    for call in (ledger.ping, lambda: ledger.create(new_job()), ledger.list, ledger.workers):
        with pytest.raises(LedgerUnavailable, match="WARMLINE_REDIS_URL"):
            call()


def test_a_redis_that_came_back_is_used_again(tmp_path: Path, new_job: NewJob) -> None:
    # Given a ledger whose Redis is full
    with running_redis(tmp_path) as server:
        ledger = Ledger.connect(RedisSettings(url=SecretStr(server.url())), JobsSettings())
        ledger.ping()
        admin: Any = redis.Redis.from_url(server.url())
        admin.config_set("maxmemory", 1)
        # Then it says so
        with pytest.raises(LedgerUnavailable, match="refuses"):
            ledger.create(new_job())
        # And when there is room again and the connections were cut, it goes on
        admin.config_set("maxmemory", 0)
        admin.client_kill_filter(_type="normal", skipme=True)
        assert ledger.create(new_job())
        admin.close()
        ledger.close()
