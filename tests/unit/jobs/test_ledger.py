"""The ledger against a real Redis: every step of a job's life, alone and against other writers."""

from __future__ import annotations

import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings
from tests.servers import running_redis, wait_until
from tests.unit.jobs.conftest import NewJob, calls, claim, end_lease
from warmline.jobs import keys
from warmline.jobs.batch_ids import job_id_of
from warmline.jobs.errors import BacklogFull, JobNotFound, LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import (
    Failure,
    Hold,
    Job,
    JobState,
    JobStatus,
    Options,
    Progress,
    Refusal,
    ReportLocation,
    Source,
)
from warmline.jobs.submission import submit_batch
from warmline.jobs.transitions import KEPT_ENDED

IN_REDIS = ReportLocation(in_redis=True)
BAD = Failure(code="not_audio", message="This is not audio.")
SLOW = Failure(code="store_unavailable", message="It did not answer, 100%.")


def test_a_job_is_queued_then_running_then_succeeded_with_its_report(ledger: Ledger, new_job: NewJob) -> None:
    # Given a job with everything in it
    job = new_job(
        source=Source(bucket="calls", key="ä/客 1.wav", version_id="v1"),
        options=Options(granularity="utterance", roles=("agent", "customer")),
        metadata={"call": "7 ☎"},
        lane="bulk",
    )
    # When it is entered
    assert ledger.create(job)
    # Then it waits
    queued = ledger.get(job.id)
    assert (queued.job, queued.status, queued.attempt) == (job, JobStatus.QUEUED, 0)
    # When a worker claims it, then it runs
    claimed = claim(ledger, job, 'work "er"/77')
    assert (claimed.status, claimed.attempt, claimed.worker) == (JobStatus.RUNNING, 1, 'work "er"/77')
    assert claimed.started_at is not None
    # When the worker says how far it is, then so does the ledger
    progress = Progress(stage="score", windows_done=3, windows_total=9)
    assert ledger.heartbeat(job.id, 1, progress) is Hold.HELD
    assert ledger.get(job.id).progress == progress
    # When it ends, then the report is there, and the attempt is history
    location = ReportLocation(in_redis=True, bucket="reports", key="k.json")
    assert ledger.succeed(job.id, 1, location, '{"channels": "≤2"}')
    done = ledger.get(job.id)
    assert (done.status, done.report, done.progress) == (JobStatus.SUCCEEDED, location, None)
    assert done.finished_at is not None
    assert ledger.report(job.id) == '{"channels": "≤2"}'.encode()
    (attempt,) = done.attempts
    assert (attempt.number, attempt.worker, attempt.outcome) == (1, 'work "er"/77', "succeeded")
    assert attempt.started_at <= attempt.ended_at == done.finished_at


def test_a_report_that_is_only_in_s3_is_not_in_redis(ledger: Ledger, new_job: NewJob) -> None:
    job = new_job()
    claim(ledger, job)
    ledger.succeed(job.id, 1, ReportLocation(bucket="reports", key="k"), None)
    assert ledger.report(job.id) is None


def test_a_job_that_is_there_is_not_created_again(ledger: Ledger, new_job: NewJob) -> None:
    job = new_job()
    assert ledger.create(job)
    claim(ledger, job)
    assert not ledger.create(job)
    assert ledger.get(job.id).status is JobStatus.RUNNING
    assert len(ledger.list()) == 1


def test_a_job_of_a_plain_celery_client_is_entered_when_it_is_claimed(ledger: Ledger, new_job: NewJob) -> None:
    # Given a message whose batch is made up, or is somebody else's
    theirs = submit_batch(ledger, calls(2)).id
    beyond = new_job(batch_id=theirs, id=job_id_of(theirs, 2))
    for job in (*(new_job(batch_id=batch_id) for batch_id in (None, "a-batch-of-theirs", theirs)), beyond):
        # When it is claimed, then the ledger knows it, and no batch counts it
        assert claim(ledger, job).attempt == 1
        assert ledger.get(job.id).job == job
        assert ledger.succeed(job.id, 1, IN_REDIS, "{}")
    batch = ledger.batch(theirs)
    assert (batch.total, batch.queued, batch.succeeded) == (2, 2, 0)


@pytest.mark.parametrize("end", ["succeed", "fail", "cancelled"])
def test_a_job_that_has_ended_stays_as_it_is(ledger: Ledger, new_job: NewJob, end: str) -> None:
    # Given a job that has ended
    job = new_job()
    claim(ledger, job)
    match end:
        case "succeed":
            ledger.succeed(job.id, 1, IN_REDIS, '"first"')
        case "fail":
            ledger.fail(job.id, 1, BAD)
        case _:
            ledger.cancelled(job.id, 1)
    ended = ledger.get(job.id)
    # When somebody else, or the same one, writes once more
    assert ledger.claim(job, "other") == Refusal(reason="ended")
    assert ledger.heartbeat(job.id, 1, Progress(stage="fetch")) is Hold.LOST
    assert not ledger.succeed(job.id, 1, ReportLocation(bucket="reports", key="other"), '"second"')
    assert not ledger.fail(job.id, 1, Failure(code="other", message="other"))
    assert ledger.retry(job.id, 1, SLOW, delay_seconds=0) is None
    assert not ledger.hand_back(job.id, 1)
    assert not ledger.cancelled(job.id, 1)
    assert ledger.cancel(job.id) == ended
    # Then nothing has changed
    assert ledger.get(job.id) == ended
    assert ledger.report(job.id) == (b'"first"' if end == "succeed" else None)


def test_a_second_delivery_of_a_running_job_is_refused(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    # Given a job that somebody holds, and one whose holder has been silent for too long
    job = new_job()
    claim(ledger, job, "w/1")
    end_lease(raw, job.id)
    # When another worker gets it again, then it steps back: the sweeper decides who is lost
    assert ledger.claim(job, "w/2") == Refusal(reason="leased", holder="w/1")
    # And the holder, whose answer may have been lost, has what it had
    assert claim(ledger, job, "w/1").attempt == 1


def test_one_job_is_claimed_once_by_racing_workers(settings: Settings, new_job: NewJob) -> None:
    # Given eight claimers at once
    job = new_job()
    gate = threading.Barrier(8)

    def race(n: int) -> str:
        ledger = Ledger.connect(settings.redis, settings.jobs)
        gate.wait()
        claimed = ledger.claim(job, f"w/{n}")
        ledger.close()
        return "won" if isinstance(claimed, JobState) else claimed.reason

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(race, range(8)))
    # Then one has it
    assert results == ["leased"] * 7 + ["won"]


def test_a_job_is_tried_again_until_its_attempts_are_used_up(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    # Given a job whose store does not answer
    job = new_job()
    ledger.create(job)
    for number in (1, 2):
        assert claim(ledger, job, f"w/{number}").attempt == number
        ledger.heartbeat(job.id, number, Progress(stage="fetch"))
        before = time.time()
        assert ledger.retry(job.id, number, SLOW, delay_seconds=7) is JobStatus.QUEUED
        # Then it waits for its time, without a trace of its worker
        waiting = ledger.get(job.id)
        assert waiting.retry_at is not None
        assert 6 < waiting.retry_at.timestamp() - before < 60
        assert (waiting.status, waiting.worker, waiting.progress) == (JobStatus.QUEUED, None, None)
        assert raw.zrange(keys.DELAYED, 0, -1) == [job.id]
        assert ledger.retry(job.id, number, SLOW, delay_seconds=0) is None  # said twice
    # When it has failed as often as it may, then it is dead, with its history and the last error
    claim(ledger, job, "w/3")
    assert raw.zcard(keys.DELAYED) == 0
    assert ledger.retry(job.id, 3, SLOW, delay_seconds=7) is JobStatus.DEAD
    dead = ledger.get(job.id)
    assert (dead.status, dead.failure) == (JobStatus.DEAD, SLOW)
    assert [(a.number, a.worker, a.outcome, a.failure) for a in dead.attempts] == [
        (1, "w/1", "retried", SLOW), (2, "w/2", "retried", SLOW), (3, "w/3", "dead", SLOW),
    ]  # fmt: skip
    assert [raw.zcard(key) for key in (keys.LEASES, keys.DELAYED, keys.SENT)] == [0, 0, 0]
    assert raw.hlen(keys.HOLDERS) == 0


def test_a_job_whose_lease_ends_is_lost_and_dead_after_so_many_losses(
    ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    # Given two jobs, one of whose holders is silent
    lost, held = new_job(), new_job()
    claim(ledger, lost, "w/1")
    claim(ledger, held, "w/2")
    assert ledger.lose_expired() == ()
    end_lease(raw, lost.id, held.id)
    assert ledger.heartbeat(held.id, 1) is Hold.HELD
    # When leases are looked at, then that one is lost, and waits for its next attempt
    assert ledger.lose_expired() == (lost.id,)
    assert ledger.get(lost.id).status is JobStatus.QUEUED
    assert ledger.get(held.id).status is JobStatus.RUNNING
    # And what its first holder says late changes nothing once somebody else has it
    assert claim(ledger, lost, "w/3").attempt == 2
    assert ledger.heartbeat(lost.id, 1) is Hold.LOST
    assert not ledger.succeed(lost.id, 1, IN_REDIS, "{}")
    # When the second holder is known to be dead, then so is the job
    assert not ledger.lost(held.id, "w/3x")
    assert ledger.lost_holder("w/3") == lost.id
    dead = ledger.get(lost.id)
    assert dead.status is JobStatus.DEAD
    assert dead.failure is not None
    assert dead.failure.code == "worker_lost"
    assert [attempt.outcome for attempt in dead.attempts] == ["lost", "lost"]
    # And the neighbour is as it was
    assert ledger.succeed(held.id, 1, IN_REDIS, None)
    assert (raw.zcard(keys.LEASES), raw.hlen(keys.HOLDERS)) == (0, 0)


def test_a_result_that_comes_after_the_lease_counts_if_nobody_else_has_the_job(
    ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    job = new_job()
    claim(ledger, job)
    assert ledger.lost(job.id, "w/1")
    assert ledger.succeed(job.id, 1, IN_REDIS, "{}")
    assert ledger.get(job.id).status is JobStatus.SUCCEEDED
    assert raw.zcard(keys.DELAYED) == 0


def test_a_job_that_is_handed_back_waits_and_has_lost_nothing(ledger: Ledger, new_job: NewJob) -> None:
    job = new_job()
    for number in range(1, 6):  # more often than it may fail
        claim(ledger, job, f"w/{number}")
        assert ledger.hand_back(job.id, number)
    state = ledger.get(job.id)
    assert (state.status, state.failure) == (JobStatus.QUEUED, None)
    assert {attempt.outcome for attempt in state.attempts} == {"handed_back"}


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_worker(
    ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    waiting, running, retried = new_job(), new_job(), new_job()
    for job in (waiting, running, retried):
        ledger.create(job)
    # When a job is cancelled that waits, then it has ended, and nobody waits in its line
    assert ledger.cancel(waiting.id).status is JobStatus.CANCELLED
    assert raw.hget(keys.WAITING, "live") == "2"
    # When one is cancelled that runs, then its worker hears of it
    claim(ledger, running)
    state = ledger.cancel(running.id)
    assert (state.status, state.cancel_requested) == (JobStatus.RUNNING, True)
    assert ledger.heartbeat(running.id, 1) is Hold.CANCEL
    assert ledger.cancelled(running.id, 1)
    assert ledger.get(running.id).status is JobStatus.CANCELLED
    # And one that was to be cancelled is not tried again
    claim(ledger, retried)
    ledger.cancel(retried.id)
    assert ledger.retry(retried.id, 1, SLOW, delay_seconds=0) is JobStatus.CANCELLED
    with pytest.raises(JobNotFound):
        ledger.cancel(uuid.uuid4().hex)


def test_past_the_backlog_nothing_is_taken(settings: Settings, new_job: NewJob) -> None:
    jobs = settings.jobs.model_copy(update={"max_backlog": 3})
    ledger = Ledger.connect(settings.redis, jobs)
    # Given as many waiting jobs as may wait
    submit_batch(ledger, calls(2))
    ledger.create(new_job())
    # Then no more are taken
    with pytest.raises(BacklogFull):
        ledger.create(new_job())
    with pytest.raises(BacklogFull):
        submit_batch(ledger, calls(1))
    assert (len(ledger.list()), len(ledger.batches())) == (3, 1)
    # And when one waits no longer, one more is
    ledger.cancel(ledger.list(limit=1)[0].job.id)
    ledger.create(new_job())
    ledger.close()


def test_finished_jobs_expire_and_waiting_ones_do_not(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    done, waiting, dead = new_job(), new_job(), new_job()
    ledger.create(waiting)
    claim(ledger, done, "w/1")
    ledger.succeed(done.id, 1, IN_REDIS, "{}")
    for _ in range(2):
        claim(ledger, dead, "w/2")
        ledger.lost(dead.id, "w/2")
    assert 55 <= raw.ttl(keys.job(done.id)) <= 60
    assert 55 <= raw.ttl(keys.report(done.id)) <= 60
    assert 85 <= raw.ttl(keys.job(dead.id)) <= 90
    assert raw.ttl(keys.job(waiting.id)) == -1


def test_the_last_to_end_are_told_in_that_order_whenever_they_were_submitted(
    ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    def fail(job: Job) -> None:
        ledger.fail(job.id, claim(ledger, job).attempt, BAD)

    def last(limit: int = 10) -> list[str]:
        return [state.job.id for state in ledger.last_ended(JobStatus.FAILED, limit)]

    # Given a job that was submitted long ago, and more jobs after it than are remembered by their ends
    old = new_job(created_at=datetime.now(UTC) - timedelta(days=3))
    ledger.create(old)
    young = [new_job() for _ in range(2 * KEPT_ENDED)]
    for job in young:
        fail(job)
    # When it ends at last, then it is the first
    fail(old)
    newest = [job.id for job in reversed(young)]
    assert last() == [old.id, *newest[:9]]
    assert raw.llen(keys.ended("failed")) == KEPT_ENDED
    # And it has the same place as ever in the order of submission
    assert old.id not in {state.job.id for state in ledger.list(status=JobStatus.FAILED, limit=10)}
    # When one of them is to be tried again, then it is none of them, and there once when it has failed again
    ledger.replay(newest[1])
    assert last() == [old.id, newest[0], *newest[2:10]]
    fail(young[-2])
    assert last(3) == [newest[1], old.id, newest[0]]
    # And what an older version ended is there by its submission, as long as it is needed
    raw.ltrim(keys.ended("failed"), 0, 1)
    assert last(5)[:2] == [newest[1], old.id]
    assert len(set(last(5))) == 5
    assert ledger.last_ended(JobStatus.DEAD, 5) == ()


def test_what_is_not_there_is_named(ledger: Ledger) -> None:
    nobody = uuid.uuid4().hex
    with pytest.raises(JobNotFound):
        ledger.get(nobody)
    assert ledger.report(nobody) is None
    assert not ledger.succeed(nobody, 1, IN_REDIS, "{}")
    assert ledger.heartbeat(nobody, 1) is Hold.LOST
    assert ledger.lost_holder("nobody/1") is None
    assert ledger.report(nobody) is None


def test_every_key_is_under_the_prefix(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    submit_batch(ledger, calls(2))
    for job in (new_job(), new_job()):
        ledger.create(job)
    claim(ledger, job)
    assert all(key.startswith(keys.PREFIX) for key in raw.scan_iter())


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
    with pytest.raises(LedgerUnavailable):
        submit_batch(ledger, calls(3))


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


def test_listings_lose_what_has_expired(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    # Given a failed job whose retention is over
    old, new = new_job(), new_job()
    claim(ledger, old)
    ledger.fail(old.id, 1, BAD)
    raw.pexpire(keys.job(old.id), 1)
    wait_until(lambda: not raw.exists(keys.job(old.id)), "it has expired")
    assert raw.zcard(keys.jobs("failed")) == 1
    # Then a listing does not show it
    assert ledger.list() == ()
    # And when the next one fails, then its place in Redis is gone too
    claim(ledger, new)
    ledger.fail(new.id, 1, BAD)
    assert raw.zrange(keys.jobs("failed"), 0, -1) == [new.id]
