"""Forked processes that are gone when the test is over, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

Step = Callable[[], object]
Fork = Callable[..., int]


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Runs callables, one after another, in a child process that then waits to be killed; returns its pid when
    they have run."""
    pids: list[int] = []

    def start(*steps: Step) -> int:
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)  # the end of it, even where nobody is left to see to that
            for step in steps:
                step()
            os.write(tell, b"x")
            signal.pause()
            os._exit(0)
        pids.append(pid)
        os.close(tell)
        assert os.read(ready, 1) == b"x", "the child died"
        os.close(ready)
        return pid

    yield start
    for pid in pids:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
