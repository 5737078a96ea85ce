"""An attempt and its lease: renewed, lost, cancelled, handed back, cut off; without Celery, all else is real."""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from config.settings import RedisSettings
from tests.integration.conftest import NewSettings
from tests.integration.desks import NewDesk, job_for, left_in_scratch
from tests.servers import RedisServer, running_redis, wait_until
from warmline.emotion.engine import Engine, Samples, Scores
from warmline.jobs.errors import ObjectNotFound
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Job, JobState, JobStatus, Options, Source
from workers.keeper import Keeper
from workers.lease import BEAT_SECONDS, CUT_OFF_CODE, Draining, Lease
from workers.publishing import Publisher
from workers.scoring import Desk

WINDOW_SECONDS = 0.3
SECONDS_TO_STOP = 2 * WINDOW_SECONDS + BEAT_SECONDS + 2  # and what a busy machine adds


class SlowEngine:
    """An engine that takes its time for each window, as a large model on a slow machine does."""

    def __init__(self, engine: Engine, wait: Callable[[], object] = lambda: time.sleep(WINDOW_SECONDS)) -> None:
        self._engine, self._wait = engine, wait
        self.info, self.min_samples, self.windows_at_once = engine.info, engine.min_samples, 1

    def prepare(self, windows: Sequence[Samples]) -> Any:
        return self._engine.prepare(windows)

    def infer(self, prepared: Any) -> Any:
        self._wait()
        return self._engine.infer(prepared)

    def finish(self, output: Any) -> Scores:
        return self._engine.finish(output)


@pytest.fixture
def slow_desk(new_desk: NewDesk, engine: Engine, call: Source) -> NewDesk:
    """Makes desks at which the sample call takes two seconds, and a client of S3 is built before."""

    def make(**settings: Any) -> Desk:
        desk = new_desk(**settings)
        desk.store.head(call)
        return dataclasses.replace(desk, engine=SlowEngine(engine))

    return make


@contextmanager
def attempting(desk: Desk, job: Job, *, windows: int = 1) -> Iterator[threading.Thread]:
    """An attempt in another thread, which has scored so many windows when the block begins, and ends with it."""
    thread = threading.Thread(target=desk.attempt, args=(job,))
    thread.start()
    try:
        wait_until(lambda: windows_done(desk, job) >= windows, "windows are scored", interval_seconds=0.01)
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive()


def windows_done(desk: Desk, job: Job) -> int:
    states = [state for state in desk.ledger.list() if state.job.id == job.id]
    return states[0].progress.windows_done if states and states[0].progress else 0


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def seconds_taken(state: JobState) -> float:
    assert state.started_at is not None
    assert state.finished_at is not None
    return (state.finished_at - state.started_at).total_seconds()


def has_report(desk: Desk, state: JobState) -> bool:
    return state.report is not None or desk.ledger.report(state.job.id) is not None


def test_a_lease_is_renewed_while_the_job_runs(slow_desk: NewDesk, call: Source) -> None:
    # Given a job that takes longer than its lease
    desk = slow_desk(lease_seconds=1.5)
    job = job_for(call, options=Options(roles=("renewed",)))
    # When leases that are over are looked for all the time
    with attempting(desk, job, windows=0) as thread:
        while thread.is_alive():
            assert desk.ledger.lose_expired() == ()
            time.sleep(0.05)
    # Then it was never lost, and succeeds at its first attempt
    state = desk.ledger.get(job.id)
    assert (state.status, state.attempt) == (JobStatus.SUCCEEDED, 1)
    assert seconds_taken(state) > 1.6


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
    with attempting(desk, job):
        desk.drain.set()
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
        settings = RedisSettings.model_validate({"url": server.url(), "timeout_seconds": 0.2})
        desk = dataclasses.replace(desk, ledger=Ledger.connect(settings, desk.settings.jobs))
        job = job_for(call)
        with closing(redis.Redis.from_url(server.url())) as raw, attempting(desk, job):
            raw.client_pause(1500)
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
            settings = RedisSettings.model_validate({"url": server.url(), "timeout_seconds": 0.2})
            ledger = Ledger.connect(settings, desk.settings.jobs)
            desk = dataclasses.replace(desk, ledger=ledger, ledger_patience_seconds=0.5)
            thread = threading.Thread(target=desk.attempt, args=(job,))
            thread.start()
            wait_until(lambda: windows_done(desk, job) >= 1, "a window is scored", interval_seconds=0.01)
        # When its end is to be told, then that is tried for a while, and the child goes on to the next job
        thread.join(30)
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


def run_in_child(desk: Desk, *steps: Callable[[], object]) -> int:
    """What a child does at the desk, in a process of its own, which is waited for; its exit code."""
    faulthandler.cancel_dump_traceback_later()  # another desk's: it would wait in the child for a thread of ours
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        desk.scratch.enter_child()
        for step in steps:
            step()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def test_a_job_past_its_time_limit_fails(slow_desk: NewDesk, call: Source) -> None:
    # Given a limit of a second, for a job that takes two
    desk = slow_desk(time_limit_seconds=1, time_limit_factor=0.001)
    job = job_for(call, options=Options(roles=("timed_out",)))
    # When a child does it, then the job has failed soon after its limit, and the child lives
    assert run_in_child(desk, lambda: desk.attempt(job)) == 0
    state = desk.ledger.get(job.id)
    assert state.status is JobStatus.FAILED
    assert state.failure is not None
    assert state.failure.code == "timed_out"
    assert 1 < seconds_taken(state) < 1 + SECONDS_TO_STOP
    assert left_in_scratch(desk) == []


def test_work_that_never_comes_back_is_cut_off_with_its_process(
    slow_desk: NewDesk,
    engine: Engine,
    call: Source,
    tmp_path: Path,
) -> None:
    # Given an engine that waits in the kernel, for a pipe that nobody will write to
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    desk = slow_desk(time_limit_seconds=1, time_limit_factor=0.001)
    hanging = dataclasses.replace(desk, engine=SlowEngine(engine, fifo.read_bytes))
    job = job_for(call, options=Options(roles=("hung",)))
    # When a child is at such a job, then its process ends, and the job has failed
    assert run_in_child(desk, lambda: hanging.attempt(job)) == CUT_OFF_CODE
    state = desk.ledger.get(job.id)
    assert state.status is JobStatus.FAILED
    assert state.failure is not None
    assert state.failure.code == "timed_out"
    assert 2 < seconds_taken(state) < 2 + SECONDS_TO_STOP
    # And the child that takes its place removes what it left on disk
    assert len(left_in_scratch(desk)) == 1
    desk.scratch.enter_child()
    assert left_in_scratch(desk) == []


def test_a_process_in_which_nothing_runs_any_more_ends(new_desk: NewDesk, call: Source) -> None:
    # Given a job during which a library waits for ever, and lets no other thread of Python run meanwhile
    desk = new_desk(lease_seconds=1)
    job = job_for(call)

    def freeze() -> None:
        state = desk.ledger.claim(job, desk.name)
        assert isinstance(state, JobState)
        keeper, rules = Keeper(frozen_seconds=1), desk.settings.jobs
        with Lease(desk.ledger, state, keeper=keeper, drain=desk.drain, settings=rules):
            ctypes.PyDLL(None).pause()

    # When a child is at it, then the child ends
    assert run_in_child(desk, freeze) == 1
    # And the job is free for another attempt when its lease is over
    wait_until(lambda: desk.ledger.lose_expired() == (job.id,), "the job is lost", seconds=2)
