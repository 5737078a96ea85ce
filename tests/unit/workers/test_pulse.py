"""What a parent sees of its children's work, whatever they are at."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

from tests.servers import wait_until
from workers.pulse import MOST_CHILDREN, Pulse, Sign

SECONDS = 0.3


def test_who_has_no_job_is_not_stuck() -> None:
    pulse = Pulse()
    sign = pulse.of_child(0)
    assert pulse.stuck([os.getpid()], 0.0) == ()
    sign.begin()
    assert pulse.stuck([os.getpid()], 0.0) == (os.getpid(),)
    assert pulse.stuck([os.getpid()], 60.0) == ()
    sign.end()
    assert pulse.stuck([os.getpid()], 0.0) == ()


def test_every_place_is_seen_and_the_dead_are_not() -> None:
    pulse = Pulse()
    for index in (0, 7, MOST_CHILDREN - 1):
        pulse.of_child(index).begin()
    assert pulse.stuck([os.getpid()], 0.0) == (os.getpid(),) * 3
    assert pulse.stuck([1], 0.0) == ()
    # When another child takes the place of a dead one, then it has no job yet
    pulse.of_child(7)
    assert pulse.stuck([os.getpid()], 0.0) == (os.getpid(),) * 2


def in_child(work: Callable[[Sign], None], pulse: Pulse) -> int:
    """Forks a child that begins with a job, and then does this."""
    pid = os.fork()
    if pid == 0:
        try:
            sign = pulse.of_child(3)
            sign.begin()
            work(sign)
        finally:
            os._exit(0)
    return pid


def test_a_child_that_hangs_in_a_library_is_seen() -> None:
    pulse = Pulse()
    pid = in_child(lambda _: ctypes.PyDLL(None).pause(), pulse)  # it holds Python's lock: no thread runs there
    try:
        wait_until(lambda: pulse.stuck([pid], SECONDS) == (pid,), "it is stuck", seconds=10)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_child_that_comes_on_is_well_until_it_is_stopped() -> None:
    pulse = Pulse()

    def come_on(sign: Sign) -> None:
        while True:
            sign.come_on()
            signal.sigtimedwait([], 0.005)

    pid = in_child(come_on, pulse)
    try:
        assert not [
            seen for _ in range(50) if (seen := pulse.stuck([pid], SECONDS)) or signal.sigtimedwait([], 0.01)
        ]
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: pulse.stuck([pid], SECONDS) == (pid,), "it is stuck", seconds=10)
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: pulse.stuck([pid], SECONDS) == (), "it comes on", seconds=10)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
