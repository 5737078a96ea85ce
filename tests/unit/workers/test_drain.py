"""The flag that a worker's parent shares with its children."""

from __future__ import annotations

import os

from workers.drain import DrainFlag


def test_children_that_are_forked_before_and_after_see_it_set() -> None:
    flag = DrainFlag()
    go, tell = os.pipe()

    def fork() -> int:
        """A child that waits to be told, and ends with what the flag says then."""
        pid = os.fork()
        if pid == 0:
            os.read(go, 1)
            os._exit(flag.is_set())
        return pid

    def ask(*pids: int) -> list[int]:
        os.write(tell, b"x" * len(pids))
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

    # Given children; while the flag is not set, they see that
    assert ask(fork()) == [0]
    # When the parent sets it, then those that are there and those that come see it
    early = fork()
    flag.set()
    assert ask(early, fork()) == [1, 1]
    assert flag.is_set()
    os.close(go)
    os.close(tell)
