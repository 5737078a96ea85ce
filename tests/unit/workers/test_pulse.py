"""What a parent sees of its children's work, whatever they are at."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable

from tests.servers import wait_until
from workers.pulse import MOST_CHILDREN, Pulse, Sign

SECONDS = 0.3


def test_who_has_a_job_is_seen_until_it_is_over() -> None:
    pulse = Pulse()
    sign = pulse.of_child(0)
    assert pulse.working() == {}
    with sign:
        (pid,) = pulse.working()
        assert pid == os.getpid()
    assert pulse.working() == {}


def test_every_place_is_seen_and_a_new_child_has_no_job() -> None:
    pulse = Pulse()
    pids = [in_child(die_with_a_job, pulse, index) for index in (0, 7, MOST_CHILDREN - 1)]
    for pid in pids:
        os.waitpid(pid, 0)
    assert set(pulse.working()) == set(pids)
    # When another child takes the place of a dead one, then it has no job yet
    pulse.of_child(7)
    assert set(pulse.working()) == {pids[0], pids[2]}


def in_child(work: Callable[[Sign], None], pulse: Pulse, index: int = 3) -> int:
    """Forks a child that begins with a job, and then does this."""
    pid = os.fork()
    if pid == 0:
        try:
            sign = pulse.of_child(index)
            with sign:
                work(sign)
        finally:
            os._exit(0)
    return pid


def die_with_a_job(_: Sign) -> None:
    os._exit(0)


def is_stuck(pulse: Pulse, pid: int) -> bool:
    return pulse.working().get(pid, 0.0) >= SECONDS


def is_well(pulse: Pulse, pid: int) -> bool:
    return pulse.working().get(pid, SECONDS) < SECONDS


def test_a_child_that_hangs_in_a_library_is_seen() -> None:
    pulse = Pulse()
    pid = in_child(lambda _: ctypes.PyDLL(None).pause(), pulse)  # it holds Python's lock: no thread runs there
    try:
        wait_until(lambda: is_stuck(pulse, pid), "it is stuck")
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
        began = time.monotonic()
        wait_until(lambda: is_well(pulse, pid) and time.monotonic() - began > SECONDS, "it comes on for so long")
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: is_stuck(pulse, pid), "it is stuck")
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: is_well(pulse, pid), "it comes on")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
