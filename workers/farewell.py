"""From SIGTERM to the end: jobs that run get time, then they are handed back, then their children are killed.

Celery waits in the parent's main thread until every child has ended, however long that takes. A thread sees to it
that it does not take for ever.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from workers.drain import DrainFlag

log = structlog.get_logger()

HAND_BACK_SECONDS = 10.0  # from the end of the grace period; a window of a large model on a slow CPU takes some


class Farewell:
    """The last part of a worker's life."""

    def __init__(
        self, flag: DrainFlag, *, grace_seconds: float, hand_back_seconds: float = HAND_BACK_SECONDS
    ) -> None:
        self._flag = flag
        self._grace_seconds = grace_seconds
        self._hand_back_seconds = hand_back_seconds
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, alive: Callable[[], Sequence[int]]) -> None:
        """No job is taken any more; `alive` lists the children that still run. Returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._hurry, args=(alive,), name="farewell", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # there is no memory for it: nobody would see to the end of a long job
                self._flag.set()

    def end(self) -> None:
        """Every child has ended."""
        self._over.set()

    def _hurry(self, alive: Callable[[], Sequence[int]]) -> None:
        if self._over.wait(self._grace_seconds):
            return
        log.warning("jobs_to_be_handed_back", children=len(alive()), grace_seconds=self._grace_seconds)
        self._flag.set()
        if self._over.wait(self._hand_back_seconds):
            return
        left = alive()
        log.error("children_killed", pids=list(left), reason="their jobs were not handed back in time")
        kill_all(left)


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
