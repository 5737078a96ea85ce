"""What a worker's children are at, seen from outside: whether each has a job, and when it last came on with it.

The signs lie in memory that parent and children share. So the parent sees a child that hangs, whatever hangs in
it: a library that holds Python's lock, a window, the kernel; one that was stopped (SIGSTOP) could not say so.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from types import TracebackType

MOST_CHILDREN = 256
_PID, _JOB_SINCE, _SIGN_AT, _FIELDS = (
    0,
    1,
    2,
    3,
)  # a child's numbers: seconds of the monotonic clock, 0.0 for no job


class Sign:
    """One child's place. Only that child writes there. It has a job while the block lasts."""

    def __init__(self, numbers: memoryview[float], start: int) -> None:
        self._numbers = numbers
        self._start = start

    def __enter__(self) -> None:
        now = time.monotonic()
        self._numbers[self._start + _PID] = float(os.getpid())
        self._numbers[self._start + _SIGN_AT] = now
        self._numbers[self._start + _JOB_SINCE] = now

    def come_on(self) -> None:
        """It is not stuck. Costs nothing, so it may be said at every window."""
        self._numbers[self._start + _SIGN_AT] = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """It has no job."""
        self._numbers[self._start + _JOB_SINCE] = 0.0


class Pulse:
    """Made in the parent before it forks."""

    def __init__(self) -> None:
        size = 8 * _FIELDS * MOST_CHILDREN
        # Anonymous, MAP_SHARED. A number is written with one store, and never seen half.
        self._numbers = memoryview(mmap.mmap(-1, size)).cast("d")

    def of_child(self, index: int) -> Sign:
        """In a child: its place, by its index in the pool. One that replaces another has the same."""
        sign = Sign(self._numbers, _FIELDS * (index % MOST_CHILDREN))
        sign.clear()
        return sign

    def working(self) -> dict[int, float]:
        """In the parent: the pids of those that have a job -> for how many seconds they have not come on with it.

        The dead are among them, until others have taken their places.
        """
        now = time.monotonic()
        return {pid: now - sign_at for pid, sign_at in self._signs()}

    def _signs(self) -> Iterator[tuple[int, float]]:
        for start in range(0, _FIELDS * MOST_CHILDREN, _FIELDS):
            pid, since, sign_at = self._numbers[start : start + _FIELDS]
            if since:
                yield int(pid), sign_at
