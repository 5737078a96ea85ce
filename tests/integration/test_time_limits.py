"""Jobs that take too long: stopped where they can be, and ended with their process where not."""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.integration.desks import (
    SECONDS_TO_STOP,
    NewDesk,
    SlowEngine,
    job_for,
    left_in_scratch,
    seconds_taken,
)
from tests.servers import wait_until
from warmline.emotion.engine import Engine
from warmline.jobs.records import JobState, JobStatus, Options, Source
from workers.keeper import Keeper
from workers.lease import CUT_OFF_CODE, Lease
from workers.scoring import Desk


def run_in_child(desk: Desk, *steps: Callable[[], object]) -> int:
    """What a child does at the desk, in a process of its own, which is waited for; its exit code."""
    faulthandler.cancel_dump_traceback_later()  # another desk's: it would wait in the child for a thread of ours
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(120)
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
    limit_seconds = 3  # within which even a busy machine gets to the engine
    desk = slow_desk(time_limit_seconds=limit_seconds, time_limit_factor=0.001)
    hanging = dataclasses.replace(desk, engine=SlowEngine(engine, fifo.read_bytes))
    job = job_for(call, options=Options(roles=("hung",)))
    # When a child is at such a job, then its process ends, and the job has failed
    assert run_in_child(desk, lambda: hanging.attempt(job)) == CUT_OFF_CODE
    state = desk.ledger.get(job.id)
    assert state.status is JobStatus.FAILED
    assert state.failure is not None
    assert state.failure.code == "timed_out"
    assert 2 * limit_seconds < seconds_taken(state) < 2 * limit_seconds + SECONDS_TO_STOP
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
        with Lease(desk.ledger, state, keeper=keeper, sign=desk.sign, drain=desk.drain, settings=rules):
            ctypes.PyDLL(None).pause()

    # When a child is at it, then the child ends
    assert run_in_child(desk, freeze) == 1
    # And the job is free for another attempt when its lease is over
    wait_until(lambda: desk.ledger.lose_expired() == (job.id,), "the job is lost")
