"""Whether a worker is about to end: one byte that its parent shares with its children.

A signal to a child would end the child, and a pipe can be read by one child only. The byte is in memory that is
mapped before the first fork, so that every child sees what the parent writes, those that are forked later too.
"""

from __future__ import annotations

import mmap


class DrainFlag:
    """Made in the parent before it forks. Once set, children hand the jobs that they run back to the ledger."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)  # anonymous, MAP_SHARED

    def set(self) -> None:
        """In the parent: jobs that run are to be handed back at their next window."""
        self._shared[0] = 1

    def is_set(self) -> bool:
        """Whether to hand back. Costs nothing, so it may be asked at every window."""
        return self._shared[0] == 1
