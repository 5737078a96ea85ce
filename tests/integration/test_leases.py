"""An attempt and its lease: renewed, lost, cancelled, handed back; without Celery, all else is real."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from config.settings import RedisSettings
from tests.integration.conftest import NewSettings
from tests.integration.desks import (
    SECONDS_TO_STOP,
    WINDOW_SECONDS,
    NewDesk,
    SlowEngine,
    attempting,
    job_for,
    left_in_scratch,
    seconds_taken,
    windows_done,
)
from tests.servers import RedisServer, running_redis, wait_until
from warmline.emotion.engine import Engine, Scores
from warmline.jobs.errors import ObjectNotFound
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus, Options, Source
from workers.lease import Draining
from workers.publishing import Publisher
from workers.scoring import Desk, End


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def has_report(desk: Desk, state: JobState) -> bool:
    return state.report is not None or desk.ledger.report(state.job.id) is not None


def test_a_lease_is_renewed_while_the_job_runs(slow_desk: NewDesk, engine: Engine, call: Source) -> None:
    # Given a job that takes longer than its lease, which is longer than a busy machine holds us up
    desk = slow_desk(lease_seconds=3)
    desk = dataclasses.replace(desk, engine=SlowEngine(engine, lambda: time.sleep(2 * WINDOW_SECONDS)))
    job = job_for(call, options=Options(roles=("renewed",)))
    # When leases that are over are looked for all the time
    with attempting(desk, job, windows=0) as thread:
        while thread.is_alive():
            assert desk.ledger.lose_expired() == ()
            time.sleep(0.05)
    # Then it was never lost, and succeeds at its first attempt
    state = desk.ledger.get(job.id)
    assert (state.status, state.attempt) == (JobStatus.SUCCEEDED, 1)
    assert seconds_taken(state) > 3.1


def test_a_running_job_is_cancelled_within_a_window(slow_desk: NewDesk, call: Source) -> None:
    desk = slow_desk()
    job = job_for(call, options=Options(roles=("cancelled",)))
    # Given a running job; when it is cancelled
    with attempting(desk, job):
        assert desk.ledger.cancel(job.id).cancel_requested
        cancelled_at = datetime.now(UTC)
    # Then it soon is, and has left nothing behind
    state = desk.ledger.get(job.id)
    assert (state.status, [past.outcome for past in state.attempts]) == (JobStatus.CANCELLED, ["cancelled"])
    assert state.finished_at is not None
    assert (state.finished_at - cancelled_at).total_seconds() < SECONDS_TO_STOP
    assert not has_report(desk, state)
    assert left_in_scratch(desk) == []


def test_a_draining_worker_hands_its_job_back_and_takes_no_other(slow_desk: NewDesk, call: Source) -> None:
    desk = slow_desk()
    job = job_for(call, options=Options(roles=("handed_back",)))
    # Given a running job; when its worker drains
    ends: list[End] = []
    with attempting(desk, job, on_end=ends.append):
        desk.drain.set()
    assert [(end.code, end.comes_again) for end in ends] == [("handed_back", True)]
    # Then the job waits for another worker, to run at once, and that is no failure
    state = desk.ledger.get(job.id)
    assert (state.status, [past.outcome for past in state.attempts]) == (JobStatus.QUEUED, ["handed_back"])
    assert state.failure is None
    assert left_in_scratch(desk) == []
    # And a message that comes now is not for this worker
    with pytest.raises(Draining):
        desk.attempt(job)
    assert desk.ledger.get(job.id) == state


def test_an_attempt_that_lost_its_lease_publishes_nothing(slow_desk: NewDesk, call: Source) -> None:
    desk = slow_desk()
    job = job_for(call, options=Options(roles=("superseded",)))
    # Given a running job that is taken for lost
    with attempting(desk, job):
        assert desk.ledger.lost(job.id, desk.name)
        lost_at = time.monotonic()
    # Then its attempt stops soon, and leaves the job to the next one
    assert time.monotonic() - lost_at < SECONDS_TO_STOP
    state = desk.ledger.get(job.id)
    assert (state.status, state.attempt) == (JobStatus.QUEUED, 1)
    assert not has_report(desk, state)
    assert left_in_scratch(desk) == []


def test_an_attempt_asks_whether_the_job_is_its_own_before_it_publishes(
    new_desk: NewDesk, engine: Engine, call: Source
) -> None:
    # Given a job that is taken for lost after its first window, too late for a renewal to hear of it
    desk = new_desk(results="s3")
    job = job_for(call, options=Options(roles=("asked",), granularity="utterance"))

    class LosesTheJob(SlowEngine):
        def finish(self, output: Any) -> Scores:
            desk.ledger.lost(job.id, desk.name)
            return super().finish(output)

    dataclasses.replace(desk, engine=LosesTheJob(engine, lambda: None)).attempt(job)
    # Then there is no report
    facts = desk.store.head(call)
    publisher = Publisher(desk.store, desk.settings, job, facts, engine.info.model_hash)
    with pytest.raises(ObjectNotFound):
        desk.store.get_report(publisher.location)
    assert desk.ledger.get(job.id).status is JobStatus.QUEUED


def test_a_job_goes_on_while_the_ledger_is_away(slow_desk: NewDesk, call: Source, tmp_path: Path) -> None:
    # Given a running job; when Redis answers nobody for longer than a renewal waits
    desk = slow_desk(results="redis")
    with running_redis(tmp_path) as server:
        settings = RedisSettings.model_validate({"url": server.url(), "timeout_seconds": 1.0})
        desk = dataclasses.replace(desk, ledger=Ledger.connect(settings, desk.settings.jobs))
        job = job_for(call)
        with closing(redis.Redis.from_url(server.url())) as raw, attempting(desk, job):
            raw.client_pause(2500)
        # Then it has succeeded nevertheless, at its first attempt
        state = desk.ledger.get(job.id)
        assert (state.status, state.attempt) == (JobStatus.SUCCEEDED, 1)
        desk.ledger.close()


def test_a_job_whose_end_cannot_be_told_is_left_to_its_lease(
    slow_desk: NewDesk, call: Source, tmp_path: Path
) -> None:
    # Given a Redis that goes away during a job, and stays away
    desk = slow_desk(results="redis")
    job = job_for(call)
    with capture_logs() as lines:
        with running_redis(tmp_path) as server:
            settings = RedisSettings.model_validate({"url": server.url(), "timeout_seconds": 5.0})
            ledger = Ledger.connect(settings, desk.settings.jobs)
            desk = dataclasses.replace(desk, ledger=ledger, ledger_patience_seconds=0.5)
            thread = threading.Thread(target=desk.attempt, args=(job,))
            thread.start()
            wait_until(lambda: windows_done(desk, job) >= 1, "a window is scored", interval_seconds=0.01)
        # When its end is to be told, then that is tried for a while, and the child goes on to the next job
        thread.join(60)
    assert not thread.is_alive()
    said = [line["event"] for line in lines]
    assert "ledger_awaited" in said
    assert said[-1] == "job_left_to_its_lease"
    assert left_in_scratch(desk) == []
    ledger.close()


def test_a_second_delivery_steps_back_unless_a_dead_process_of_this_worker_has_the_job(
    new_desk: NewDesk, call: Source
) -> None:
    desk = new_desk()
    for holder, is_lost in (
        (f"w/{os.getppid()}", False),  # a living process
        (f"other/{dead_pid()}", False),  # nobody here knows of another worker's
        (f"w/{dead_pid()}", True),
    ):
        job = job_for(call)
        desk.ledger.claim(job, holder)
        # When the job's message is delivered again
        desk.attempt(job)
        # Then the job is left alone, or waits to be sent again
        state = desk.ledger.get(job.id)
        if is_lost:
            assert (state.status, [past.outcome for past in state.attempts]) == (JobStatus.QUEUED, ["lost"])
        else:
            assert (state.status, state.worker, state.attempt) == (JobStatus.RUNNING, holder, 1)


def test_a_report_that_was_published_before_its_worker_died_settles_the_job(
    new_desk: NewDesk, worker_settings: NewSettings, redis_server: RedisServer, call: Source
) -> None:
    # Given an attempt that put its report into S3 and died before it could say so: for this ledger
    job = job_for(call, options=Options(roles=("settled",)))
    desk = new_desk()
    elsewhere = Ledger.connect(worker_settings(redis_server.new_database_url()).redis, desk.settings.jobs)
    dataclasses.replace(desk, ledger=elsewhere).attempt(job)
    written = elsewhere.get(job.id).report
    elsewhere.close()
    assert written is not None
    holder = f"w/{dead_pid()}"
    desk.ledger.claim(job, holder)
    desk.ledger.lost(job.id, holder)
    # When the job is tried again
    with capture_logs() as lines:
        desk.attempt(job)
    # Then the report counts, and nothing is scored
    state = desk.ledger.get(job.id)
    assert (state.status, state.attempt, state.report) == (JobStatus.SUCCEEDED, 2, written)
    assert desk.ledger.report(job.id) == desk.store.get_report(written)
    assert "job_settled" in [line["event"] for line in lines]


def test_another_jobs_report_settles_nothing(new_desk: NewDesk, call: Source) -> None:
    # Given a report on the same question, by another job
    desk = new_desk()
    first, job = (job_for(call, options=Options(roles=("not_settled",))) for _ in range(2))
    desk.attempt(first)
    holder = f"w/{dead_pid()}"
    desk.ledger.claim(job, holder)
    desk.ledger.lost(job.id, holder)
    # When this one is tried again, then it is scored
    with capture_logs() as lines:
        desk.attempt(job)
    assert "job_finished" in [line["event"] for line in lines]
