"""The last part of a worker's life, with children that end by themselves, hand back, or have to be killed."""

from __future__ import annotations

import os
import signal
import threading
import time

from tests.servers import wait_until
from tests.unit.workers.conftest import Fork
from workers.drain import DrainFlag
from workers.farewell import Farewell


def ended(pid: int) -> int | None:
    """How the child ended; None while it lives."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def test_children_that_do_not_hand_back_are_killed(fork: Fork) -> None:
    # Given a child that hears nothing
    flag = DrainFlag()
    pid = fork()
    farewell = Farewell(flag, grace_seconds=0.2, hand_back_seconds=0.3)
    # When the worker is told to end, then the child has its time
    began = time.monotonic()
    farewell.begin(lambda: [pid])
    # And is asked for its job
    wait_until(flag.is_set, "the flag is set")
    assert time.monotonic() - began >= 0.2
    # And is killed
    wait_until(lambda: ended(pid) == -signal.SIGKILL, "the child is killed")
    assert time.monotonic() - began >= 0.2 + 0.3


def test_jobs_that_end_in_time_are_not_handed_back(fork: Fork) -> None:
    flag = DrainFlag()
    pid = fork()
    farewell = Farewell(flag, grace_seconds=60, hand_back_seconds=0.0)
    farewell.begin(lambda: [pid])
    # When every child has ended within the grace period
    farewell.end()
    wait_until(lambda: "farewell" not in {thread.name for thread in threading.enumerate()}, "it is over")
    # Then nobody is asked for anything
    assert not flag.is_set()
    assert ended(pid) is None
