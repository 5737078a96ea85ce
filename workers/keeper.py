"""The thread that keeps leases: one for a process, since a thread for each job would cost more than a short job.

A timer that needs no Python watches the thread. Where a library hangs and holds Python's lock, so that nothing
runs any more, the timer ends the process; its job has long been somebody else's then.
"""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

# A process in which the thread has not run for so long is frozen, and the timer ends it with code 1. A renewal
# that waits for a Redis that is away does not wait as long.
FROZEN_SECONDS = 90.0
STDERR = 2  # where the timer says what every thread was at
IDLE_BEATS = 10  # without a job, before the thread ends


class Keeper:
    """Calls something again and again while a job runs. Its thread starts with the first job."""

    def __init__(self, *, frozen_seconds: float = FROZEN_SECONDS) -> None:
        self._frozen_seconds = frozen_seconds
        self._lock = threading.Lock()
        self._beat: Callable[[], None] | None = None
        self._beat_seconds = 0.0
        self._timer_set = False
        self._thread: threading.Thread | None = None

    def begin(self, beat: Callable[[], None], *, every_seconds: float) -> None:
        """A job runs from now: `beat` is called from the thread, first within `every_seconds`."""
        with self._lock:
            self._beat, self._beat_seconds = beat, every_seconds
            if not self._timer_set:
                self._set_timer()
            if self._thread is None or not self._thread.is_alive():  # it does not survive a fork
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """The job is over. A call that is under way is not waited for."""
        with self._lock:
            self._beat = None

    def _run(self) -> None:
        idle = 0
        while idle <= IDLE_BEATS:
            time.sleep(self._beat_seconds)
            with self._lock:
                beat = self._beat
                if beat is not None:
                    self._set_timer()
                elif self._timer_set:
                    faulthandler.cancel_dump_traceback_later()
                    self._timer_set = False
                idle = 0 if beat is not None else idle + 1
                if idle > IDLE_BEATS:
                    self._thread = None  # the next job starts another
            if beat is not None:
                try:
                    beat()
                except Exception:  # a bug must not cost the leases of all jobs to come
                    log.exception("beat_failed")

    def _set_timer(self) -> None:
        faulthandler.dump_traceback_later(self._frozen_seconds, exit=True, file=STDERR)
        self._timer_set = True
