"""Batches and listings against a real Redis: whole or not at all, counted, listed before they were sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.settings import Settings
from tests.servers import wait_until
from tests.unit.jobs.conftest import NewJob, calls, claim, take_messages
from warmline.jobs import keys
from warmline.jobs.batch_ids import job_id_of
from warmline.jobs.errors import BatchNotFound, BatchTooLarge, InvalidRequest, JobNotFound
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES
from warmline.jobs.records import (
    BatchItem,
    BatchState,
    Failure,
    JobState,
    JobStatus,
    Options,
    ReportLocation,
    Source,
)
from warmline.jobs.submission import submit_batch

IN_REDIS = ReportLocation(in_redis=True)
BAD = Failure(code="not_audio", message="This is not audio.")


def counts(batch: BatchState) -> dict[str, int]:
    found = {status.value: getattr(batch, status.value) for status in JobStatus}
    assert sum(found.values()) == batch.total
    return {status: count for status, count in found.items() if count}


def jobs_of(ledger: Ledger, batch_id: str) -> list[JobState]:
    """In the order of submission."""
    return list(reversed(ledger.list(batch_id=batch_id, limit=1000)))


def test_a_waiting_job_of_a_batch_is_as_it_was_submitted(ledger: Ledger) -> None:
    # Given a batch of calls that differ in all that can differ
    whole = Options(granularity="utterance")
    items: list[Source | BatchItem] = [
        Source(bucket="calls", key="i like keys.wav"),
        Source(bucket="other", key="ä/客.wav"),
        Source(bucket="calls", key="v.wav", version_id="v1"),
        BatchItem(source=Source(bucket="calls", key="kk"), options=whole, metadata={"line": "7", "call": "mine"}),
    ]
    options = Options(roles=("agent",))
    batch = submit_batch(ledger, items, options=options, metadata={"call": "all", "night": "1"}, lane="live")
    # Then each of its jobs can be read, though it has no entry of its own yet
    states = jobs_of(ledger, batch.id)
    assert [state.job.source for state in states] == [
        item if isinstance(item, Source) else item.source for item in items
    ]
    assert [state.job.options for state in states] == [options, options, options, whole]
    assert states[0].job.metadata == {"call": "all", "night": "1"}
    assert states[3].job.metadata == {"call": "mine", "line": "7", "night": "1"}
    assert {(state.status, state.job.lane, state.job.batch_id) for state in states} == {
        (JobStatus.QUEUED, "live", batch.id)
    }
    assert [ledger.get(state.job.id) for state in states] == states


def test_a_batch_counts_its_jobs_whatever_they_go_through(ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    # Given a batch of eight, of which four have been sent
    batch = submit_batch(ledger, calls(8))
    feeder.step()
    jobs = [state.job for state in jobs_of(ledger, batch.id)]
    assert counts(ledger.batch(batch.id)) == {"queued": 8}
    assert {ledger.get(job.id).queued_at for job in jobs} == {batch.created_at}
    assert raw.hget(keys.WAITING, "bulk") == "4"
    # When they go the ways that jobs can go
    claim(ledger, jobs[0])
    ledger.succeed(jobs[0].id, 1, IN_REDIS, None)
    claim(ledger, jobs[1])
    ledger.fail(jobs[1].id, 1, BAD)
    for _ in range(2):
        claim(ledger, jobs[2])
        ledger.lost(jobs[2].id, "w/1")
    claim(ledger, jobs[3], "w/2")
    ledger.cancel(jobs[6].id)  # not sent yet
    # Then each is counted where it is
    assert counts(ledger.batch(batch.id)) == {
        "queued": 3, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 1, "dead": 1,
    }  # fmt: skip
    ledger.hand_back(jobs[3].id, 1)
    assert counts(ledger.batch(batch.id))["queued"] == 4
    # And when the others ended, too, then so did the batch, and it will go
    for _ in range(3):
        take_messages(raw, QUEUES["bulk"])
        feeder.step()
        for state in jobs_of(ledger, batch.id):
            if state.status is JobStatus.QUEUED:
                attempt = claim(ledger, state.job).attempt
                ledger.succeed(state.job.id, attempt, IN_REDIS, None)
    ended = ledger.batch(batch.id)
    assert counts(ended) == {"succeeded": 5, "failed": 1, "cancelled": 1, "dead": 1}
    assert ended.finished
    assert ended.finished_at is not None
    assert 55 <= raw.ttl(keys.batch(batch.id)) <= 60
    assert 55 <= raw.ttl(keys.calls(batch.id)) <= 60
    assert raw.hget(keys.WAITING, "bulk") == "0"
    assert raw.llen(keys.turn("bulk")) == 0


def test_a_batch_that_breaks_off_leaves_nothing(settings: Settings, raw: Any) -> None:
    jobs = settings.jobs.model_copy(update={"max_batch": 2000})
    ledger = Ledger.connect(settings.redis, jobs)

    def broken() -> Iterator[Source]:
        yield from calls(1500)
        raise OSError("the listing broke off")

    ledger.ping()  # whoever comes first says which layout the ledger has
    before = set(raw.scan_iter())
    with pytest.raises(OSError, match="broke off"):
        submit_batch(ledger, broken())
    with pytest.raises(BatchTooLarge, match="2,000"):
        submit_batch(ledger, calls(2001))
    with pytest.raises(InvalidRequest):
        submit_batch(ledger, [])
    assert set(raw.scan_iter()) == before
    assert submit_batch(ledger, calls(2000)).total == 2000
    ledger.close()


def test_a_batch_whose_writer_dies_expires(ledger: Ledger, raw: Any) -> None:
    def dies() -> Iterator[Source]:
        yield from calls(1500)
        (staged,) = raw.scan_iter(match=f"{keys.CALLS}*")
        assert 0 < raw.ttl(staged) <= 3600
        assert ledger.batches() == ()
        assert ledger.list() == ()

    batch = submit_batch(ledger, dies())
    assert raw.ttl(keys.calls(batch.id)) == -1


def test_a_batch_is_cancelled_whole(ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    # Given a batch of which one job has ended, one runs, one waits for another attempt, one was cancelled before,
    # two are sent, and the others wait
    batch = submit_batch(ledger, calls(40))
    feeder.step()
    jobs = [state.job for state in jobs_of(ledger, batch.id)]
    claim(ledger, jobs[0], "w/0")
    ledger.succeed(jobs[0].id, 1, IN_REDIS, None)
    claim(ledger, jobs[1], "w/1")
    claim(ledger, jobs[2], "w/2")
    ledger.retry(jobs[2].id, 1, BAD, delay_seconds=60)
    ledger.cancel(jobs[30].id)
    # When it is cancelled
    cancelled = ledger.cancel_batch(batch.id)
    # Then all that wait have ended, and the one that runs is to stop
    assert counts(cancelled) == {"succeeded": 1, "running": 1, "cancelled": 38}
    assert ledger.get(jobs[1].id).cancel_requested
    assert len(ledger.list(batch_id=batch.id, status=JobStatus.CANCELLED)) == 38
    assert len(ledger.list(status=JobStatus.CANCELLED)) == 38
    assert ledger.get(jobs[35].id).status is JobStatus.CANCELLED
    assert (raw.hget(keys.WAITING, "bulk"), raw.llen(keys.turn("bulk"))) == ("0", 0)
    ledger.cancelled(jobs[1].id, 1)
    assert ledger.batch(batch.id).finished
    # And nothing of it is sent any more; to cancel it again changes nothing
    assert feeder.step() == 0
    assert counts(ledger.cancel_batch(batch.id)) == {"succeeded": 1, "cancelled": 39}
    assert ledger.cancel(jobs[35].id).status is JobStatus.CANCELLED
    assert not raw.exists(keys.job(jobs[35].id))
    assert counts(ledger.batch(batch.id)) == {"succeeded": 1, "cancelled": 39}
    with pytest.raises(BatchNotFound):
        ledger.cancel_batch("nothing")


def test_a_job_that_was_cancelled_alone_is_counted_once_when_its_turn_is_over(
    ledger: Ledger, feeder: Feeder, raw: Any
) -> None:
    # Given a batch that has been sent past a job that was cancelled alone
    batch = submit_batch(ledger, calls(12))
    ledger.cancel(job_id_of(batch.id, 1))
    feeder.step()
    assert len(take_messages(raw, QUEUES["bulk"])) == 3
    # When the rest is cancelled, too, then each has ended once
    assert counts(ledger.cancel_batch(batch.id)) == {"cancelled": 12}
    assert raw.hget(keys.WAITING, "bulk") == "0"


def pages(ledger: Ledger, limit: int, **which: Any) -> list[str]:
    """The ids of all pages, in order."""
    found: list[str] = []
    before: str | None = None
    while page := ledger.list(limit=limit, before=before, **which):
        assert len(page) <= limit
        found.extend(state.job.id for state in page)
        before = found[-1]
    return found


def test_pages_of_jobs_are_newest_first_and_miss_none(ledger: Ledger, feeder: Feeder, new_job: NewJob) -> None:
    # Given jobs of several times and statuses, many of them of one millisecond, and batches between them
    start = datetime(2026, 1, 1, tzinfo=UTC)
    jobs = [new_job(created_at=start + timedelta(seconds=n // 4)) for n in range(40)]
    for number, job in enumerate(jobs):
        ledger.create(job)
        if number % 3:
            claim(ledger, job, f"w/{number}")
        if number % 3 == 1:
            ledger.fail(job.id, 1, BAD)
    batches = [submit_batch(ledger, calls(5)), submit_batch(ledger, calls(5))]
    feeder.step()
    ledger.cancel(jobs_of(ledger, batches[0].id)[4].job.id)
    everything = [*jobs, *(state.job for batch in batches for state in jobs_of(ledger, batch.id))]

    def place(job: Any) -> tuple[int, str]:
        return int(job.created_at.timestamp() * 1000), job.id

    newest_first = [job.id for job in sorted(everything, key=place, reverse=True)]
    # Then pages of any size hold them all, in order
    for limit in (1, 7, 100):
        assert pages(ledger, limit) == newest_first
    # And one status's pages hold the jobs of that status
    for status in JobStatus:
        expected = [job_id for job_id in newest_first if ledger.get(job_id).status is status]
        assert pages(ledger, 3, status=status) == expected


def test_pages_of_a_batch_are_last_submitted_first(ledger: Ledger, feeder: Feeder, new_job: NewJob) -> None:
    batch = submit_batch(ledger, calls(25))
    ledger.create(new_job())
    feeder.step()
    last_first = [state.job.id for state in ledger.list(batch_id=batch.id)]
    assert [int(job_id[24:], 16) for job_id in last_first] == list(range(25, 0, -1))
    for job_id in last_first[-4:]:
        claim(ledger, job_id, job_id)
        ledger.fail(job_id, 1, BAD)
    assert pages(ledger, 10, batch_id=batch.id) == last_first
    assert pages(ledger, 2, batch_id=batch.id, status=JobStatus.FAILED) == last_first[-4:]
    assert pages(ledger, 4, batch_id=batch.id, status=JobStatus.QUEUED) == last_first[:-4]
    with pytest.raises(JobNotFound):
        ledger.list(batch_id=batch.id, before=new_job().id)


def test_batches_are_listed_newest_first(ledger: Ledger) -> None:
    created = []
    for _ in range(3):
        batch = submit_batch(ledger, calls(1))
        created.insert(0, batch.id)
        wait_until(lambda then=batch.created_at: datetime.now(UTC) - then > timedelta(milliseconds=2), "2 ms")
    assert [batch.id for batch in ledger.batches()] == created
    assert [batch.id for batch in ledger.batches(limit=2)] == created[:2]


def test_what_is_not_there_is_named(ledger: Ledger) -> None:
    with pytest.raises(BatchNotFound):
        ledger.batch("nothing")
    with pytest.raises(BatchNotFound):
        ledger.list(batch_id="nothing")
    with pytest.raises(JobNotFound):
        ledger.list(before="0" * 32)
    assert ledger.list() == ()
    assert ledger.batches() == ()


def test_a_batch_that_somebody_deleted_does_not_come_back_half(ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    batch = submit_batch(ledger, calls(2))
    feeder.step()
    (job, _) = [state.job for state in jobs_of(ledger, batch.id)]
    raw.delete(keys.batch(batch.id))
    claim(ledger, job)
    assert ledger.succeed(job.id, 1, IN_REDIS, "{}")
    assert not raw.exists(keys.batch(batch.id))
    assert ledger.batches() == ()


def test_a_hundred_thousand_calls_are_one_batch_of_few_bytes(ledger: Ledger, raw: Any) -> None:
    # Given a night's calls
    before = int(raw.info("memory")["used_memory"])
    keys_of_a_night = (f"2026/11/22/agent-{n % 200:04}/call-{n:06}.wav" for n in range(100_000))
    # When they are submitted
    batch = submit_batch(ledger, (Source(bucket="calls", key=key) for key in keys_of_a_night))
    # Then they wait in little more than their keys
    assert batch.total == 100_000
    assert (int(raw.info("memory")["used_memory"]) - before) / batch.total < 100
    assert ledger.list(limit=1)[0].job.source.key == "2026/11/22/agent-0199/call-099999.wav"
    ledger.cancel_batch(batch.id)


def test_a_sample_is_of_one_status_in_order_and_the_same_each_time(ledger: Ledger) -> None:
    # Given a batch of sixty, of which every third has succeeded
    batch = submit_batch(ledger, calls(60), options=Options(), metadata={}, lane="bulk")
    jobs = jobs_of(ledger, batch.id)
    done = [state.job.id for state in jobs[::3]]
    for state in jobs[::3]:
        claim(ledger, state.job)
        assert ledger.succeed(state.job.id, 1, IN_REDIS, "{}")
    # Then a sample of more than there are is all of them, in the order of submission
    everything = ledger.sample(batch.id, JobStatus.SUCCEEDED, 100)
    assert [state.job.id for state in everything] == done
    assert all(state.status is JobStatus.SUCCEEDED for state in everything)
    # And a smaller one is some of them, not the first, in the same order, and no other the next time
    some = [state.job.id for state in ledger.sample(batch.id, JobStatus.SUCCEEDED, 8)]
    assert len(some) == 8
    assert some == [job_id for job_id in done if job_id in some] != done[:8]
    assert some == [state.job.id for state in ledger.sample(batch.id, JobStatus.SUCCEEDED, 8)]
    with pytest.raises(BatchNotFound):
        ledger.sample("0" * 32, JobStatus.SUCCEEDED, 4)
