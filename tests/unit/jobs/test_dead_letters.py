"""Dead letters against a real Redis: replayed one, all, or a batch's; purged."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.jobs.conftest import NewJob, calls, claim, take_messages
from warmline.jobs import keys
from warmline.jobs.errors import BatchNotFound, JobNotFound, NotReplayable
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES
from warmline.jobs.records import Failure, Job, JobStatus, ReportLocation
from warmline.jobs.submission import submit_batch

BAD = Failure(code="not_audio", message="This is not audio.")


def kill(ledger: Ledger, job: Job | str) -> str:
    """Has it lose as many workers as it may."""
    job_id = job if isinstance(job, str) else job.id
    for _ in range(2):
        claim(ledger, job, f"w/{job_id}")
        assert ledger.lost(job_id, f"w/{job_id}")
    assert ledger.get(job_id).status is JobStatus.DEAD
    return job_id


def test_a_dead_job_is_replayed_with_all_its_attempts(
    ledger: Ledger, feeder: Feeder, new_job: NewJob, raw: Any
) -> None:
    # Given a dead job
    job_id = kill(ledger, new_job())
    # When it is replayed
    replayed = ledger.replay(job_id)
    # Then it waits like a new one, its history beside it
    assert (replayed.status, replayed.failure, replayed.finished_at) == (JobStatus.QUEUED, None, None)
    assert [attempt.outcome for attempt in replayed.attempts] == ["lost", "lost"]
    assert raw.ttl(keys.job(job_id)) == -1
    # And it is sent, and may be lost again as often as a new one
    assert feeder.step() == 1
    assert claim(ledger, job_id).attempt == 3
    assert ledger.lost(job_id, "w/1")
    assert ledger.get(job_id).status is JobStatus.QUEUED
    # And what waits or runs is not replayed, nor what succeeded
    with pytest.raises(NotReplayable, match="queued"):
        ledger.replay(job_id)
    claim(ledger, job_id)
    ledger.succeed(job_id, 4, ReportLocation(in_redis=True), None)
    with pytest.raises(NotReplayable, match="succeeded"):
        ledger.replay(job_id)
    with pytest.raises(JobNotFound):
        ledger.replay(new_job().id)


def test_a_batchs_failures_are_replayed_and_nothing_else(
    ledger: Ledger, feeder: Feeder, new_job: NewJob, raw: Any
) -> None:
    # Given a batch with a success, a failure, a dead job and one that was cancelled, and a dead job beside it
    batch = submit_batch(ledger, calls(4))
    feeder.step()
    good, bad, dead, cancelled = (state.job.id for state in reversed(ledger.list(batch_id=batch.id)))
    claim(ledger, good)
    ledger.succeed(good, 1, ReportLocation(in_redis=True), None)
    claim(ledger, bad)
    ledger.fail(bad, 1, BAD)
    kill(ledger, dead)
    ledger.cancel(cancelled)
    assert ledger.batch(batch.id).finished
    stranger = kill(ledger, new_job())
    # When the batch is replayed
    assert ledger.replay_all(batch.id) == 2
    # Then its failures wait again, and it is not finished any more
    state = ledger.batch(batch.id)
    assert (state.queued, state.succeeded, state.cancelled, state.finished) == (2, 1, 1, False)
    assert state.finished_at is None
    assert ledger.get(stranger).status is JobStatus.DEAD
    # And all that are dead are replayed without a batch's name
    assert ledger.replay_all() == 1
    take_messages(raw, QUEUES["bulk"])
    assert feeder.step() == 3
    with pytest.raises(BatchNotFound):
        ledger.replay_all("nothing")


def test_a_dead_job_is_forgotten_when_it_is_purged(ledger: Ledger, new_job: NewJob) -> None:
    first, second, third = (kill(ledger, new_job()) for _ in range(3))
    failed = new_job()
    claim(ledger, failed)
    ledger.fail(failed.id, 1, BAD)
    assert ledger.purge(first)
    assert not ledger.purge(first)
    assert not ledger.purge(failed.id)
    assert {state.job.id for state in ledger.list(status=JobStatus.DEAD)} == {second, third}
    assert ledger.purge_all() == 2
    assert [state.job.id for state in ledger.list()] == [failed.id]


def test_none_of_many_is_passed_over(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    # Given more dead letters than are read at once
    model = kill(ledger, new_job())
    job, created_ms = ledger.get(model).job, raw.zscore(keys.jobs("dead"), model)
    many = [f"{number:032x}" for number in range(1100)]
    with raw.pipeline(transaction=False) as pipe:
        for job_id in many:
            pipe.copy(keys.job(model), keys.job(job_id))
            pipe.hset(keys.job(job_id), "job", job.model_copy(update={"id": job_id}).model_dump_json())
        pipe.zadd(keys.jobs("dead"), dict.fromkeys(many, created_ms))
        pipe.execute()
    # Then all of them are purged
    assert ledger.purge_all() == 1101
    assert ledger.list(status=JobStatus.DEAD) == ()
