"""What the backlog counts, on a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.settings import Settings
from tests.unit.jobs.conftest import NewJob
from warmline.jobs import keys
from warmline.jobs.backlog import BacklogLedger
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import RETRY_QUEUE, Messages
from warmline.jobs.records import BatchItem, Failure, Job, JobState, ReportLocation, Source

WORKER = "worker-1@host/7"


@pytest.fixture
def backlogs(settings: Settings) -> Iterator[BacklogLedger]:
    with closing(BacklogLedger.connect(settings.redis, settings.jobs)) as ledger:
        yield ledger


def batch_of(ledger: Ledger, new_job: NewJob, size: int, **fields: object) -> str:
    template = new_job(batch_id="b" * 32, **fields)
    items = [BatchItem(source=Source(bucket="calls", key=f"{n}.wav")) for n in range(size)]
    return ledger.create_batch(template, items).id


def claim(ledger: Ledger, job: Job, worker: str = WORKER) -> JobState:
    claimed = ledger.claim(job, worker)
    assert isinstance(claimed, JobState)
    return claimed


def test_an_empty_ledger_has_no_backlog(backlogs: BacklogLedger) -> None:
    backlog = backlogs.backlog()
    assert {lane: (b.waiting, b.running, b.oldest_seconds) for lane, b in backlog.lanes.items()} == {
        "live": (0, 0, None),
        "bulk": (0, 0, None),
    }
    assert (backlog.waiting, backlog.running, backlog.work, backlog.dead, backlog.workers) == (0, 0, 0, 0, 0)
    assert backlogs.counts() == {}


def test_jobs_are_counted_in_their_lane_before_and_after_they_are_sent(
    ledger: Ledger, backlogs: BacklogLedger, feeder: Feeder, new_job: NewJob
) -> None:
    # Given live jobs that came alone and a batch in the bulk lane
    for _ in range(3):
        ledger.create(new_job(lane="live"))
    batch_of(ledger, new_job, 50, lane="bulk")
    before = backlogs.backlog()
    # When some of them are sent to Celery's queues
    sent = feeder.step()
    assert sent > 3
    # Then they still wait: nobody has claimed them
    after = backlogs.backlog()
    for backlog in (before, after):
        assert (backlog.lanes["live"].waiting, backlog.lanes["bulk"].waiting) == (3, 50)
        assert (backlog.waiting, backlog.running, backlog.work) == (53, 0, 53)


def test_a_running_job_is_work_but_does_not_wait(ledger: Ledger, backlogs: BacklogLedger, new_job: NewJob) -> None:
    claim(ledger, new_job(lane="bulk"))
    backlog = backlogs.backlog()
    assert (backlog.lanes["live"].running, backlog.lanes["bulk"].running) == (0, 1)
    assert (backlog.waiting, backlog.running, backlog.work) == (0, 1, 1)


def test_a_message_whose_job_was_cancelled_is_no_work(
    ledger: Ledger, backlogs: BacklogLedger, feeder: Feeder, new_job: NewJob, raw: Any
) -> None:
    batch_id = batch_of(ledger, new_job, 3, lane="bulk")
    feeder.step()
    ledger.cancel_batch(batch_id)
    for job in ledger.list(batch_id=batch_id):
        ledger.cancel(job.job.id)
    assert raw.llen(f"{keys.QUEUE}bulk") == 3
    bulk = backlogs.backlog().lanes["bulk"]
    assert (bulk.waiting, bulk.oldest_seconds) == (0, None)


def test_a_message_of_a_plain_celery_client_is_work(
    backlogs: BacklogLedger, settings: Settings, new_job: NewJob, raw: Any
) -> None:
    raw.lpush(f"{keys.QUEUE}live", Messages.of(settings).write(new_job(), "warmline.live"))
    assert backlogs.backlog().lanes["live"].waiting == 1


def test_the_oldest_is_found_alone_in_a_batch_and_in_the_queue(
    ledger: Ledger, backlogs: BacklogLedger, feeder: Feeder, new_job: NewJob, raw: Any
) -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    # Given a young job before an old batch
    young = new_job(lane="bulk")
    ledger.create(young)
    only_young = backlogs.backlog().lanes["bulk"].oldest_seconds
    assert only_young is not None
    assert 0 <= only_young < 30
    batch_of(ledger, new_job, 1, lane="bulk", created_at=hour_ago)
    # Then the batch is the oldest, in its line and in the queue
    for _ in range(2):
        oldest = backlogs.backlog().lanes["bulk"].oldest_seconds
        assert oldest is not None
        assert 3590 < oldest < 3660
        feeder.step()
    assert raw.llen(f"{keys.QUEUE}bulk") == 2
    # And the lane beside it has none
    assert backlogs.backlog().lanes["live"].oldest_seconds is None


def test_a_replayed_job_waits_since_its_replay(ledger: Ledger, backlogs: BacklogLedger, new_job: NewJob) -> None:
    job = new_job(created_at=datetime.now(UTC) - timedelta(days=3))
    ledger.create(job)
    ledger.fail(job.id, claim(ledger, job).attempt, Failure(code="not_audio", message="It is none."))
    ledger.replay(job.id)
    oldest = backlogs.backlog().lanes[job.lane].oldest_seconds
    assert oldest is not None
    assert oldest < 30


def test_what_is_tried_again_waits_when_it_is_due_and_not_before(
    ledger: Ledger, backlogs: BacklogLedger, new_job: NewJob
) -> None:
    for delay in (0.0, 300.0):
        job = new_job()
        ledger.create(job)
        failure = Failure(code="store_unavailable", message="S3 does not answer.")
        ledger.retry(job.id, claim(ledger, job).attempt, failure, delay_seconds=delay)
    time.sleep(0.002)
    backlog = backlogs.backlog()
    assert (backlog.retrying, backlog.delayed) == (1, 1)


def test_a_job_that_is_tried_again_waits_for_a_worker_once_it_is_sent(
    ledger: Ledger, backlogs: BacklogLedger, feeder: Feeder, new_job: NewJob, raw: Any
) -> None:
    # Given two jobs that are due for another attempt
    failure = Failure(code="store_unavailable", message="S3 does not answer.")
    first, second = new_job(created_at=datetime.now(UTC) - timedelta(hours=1)), new_job()
    for job in (first, second):
        ledger.create(job)
        ledger.retry(job.id, claim(ledger, job).attempt, failure, delay_seconds=0.0)
    # Then no worker has kept them waiting before they are in its queue
    assert backlogs.backlog().oldest_retry_seconds is None
    time.sleep(0.002)
    feeder.step()
    assert raw.llen(f"{keys.BROKER}{RETRY_QUEUE}") == 2
    # And from then on they wait since they were due, whenever they were submitted
    raw.hincrby(keys.job(first.id), "retry_at_ms", -100_000)
    assert 100 <= (backlogs.backlog().oldest_retry_seconds or 0.0) < 1000
    # And one that was cancelled, or is worked on, does not
    ledger.cancel(first.id)
    assert (backlogs.backlog().oldest_retry_seconds or 0.0) < 100
    claim(ledger, second)
    assert backlogs.backlog().oldest_retry_seconds is None


def test_every_end_is_counted_once(ledger: Ledger, backlogs: BacklogLedger, new_job: NewJob) -> None:
    failure = Failure(code="store_unavailable", message="S3 does not answer.")
    # Given a job that succeeds at its second attempt, one that fails, one that a lost worker had, and a batch
    job = new_job()
    first = claim(ledger, job)
    ledger.retry(job.id, first.attempt, failure, delay_seconds=0)
    second = claim(ledger, job)
    assert ledger.succeed(job.id, second.attempt, ReportLocation(in_redis=True), "{}")
    assert not ledger.succeed(job.id, first.attempt, ReportLocation(in_redis=True), "{}")
    bad = new_job()
    ledger.fail(bad.id, claim(ledger, bad).attempt, failure)
    claim(ledger, new_job(), "worker-1@host/9")
    ledger.lost_holder("worker-1@host/9")
    ledger.cancel_batch(batch_of(ledger, new_job, 5))
    # Then
    assert backlogs.counts() == {
        "job:succeeded": 1,
        "job:failed": 1,
        "job:cancelled": 5,
        "attempt:retried": 1,
        "attempt:succeeded": 1,
        "attempt:failed": 1,
        "attempt:lost": 1,
    }
