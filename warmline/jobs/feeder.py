"""The feeder: takes jobs from the ledger's lines to Celery's queues, a few messages ahead of the warm children.

What lies in Celery's queues can be neither reordered nor cancelled, and a broker that is killed may forget it. So
it is kept short. Many processes have a feeder, one at a time feeds: the holder of a lease in Redis. It is woken by
the bell, a channel on which the ledger's scripts say that there may be something to send.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress

import structlog

from config.settings import Settings
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.lines import Lines
from warmline.jobs.sweeper import Sweeper

log = structlog.get_logger()

HOLD_SECONDS = 3.0  # a feeder that was killed is followed by another one after this
TRY_SECONDS = 1.0  # between two tries to become the feeder; the longest sleep of the one that is
STEP_SECONDS = 0.015  # between two turns: what is rung for meanwhile is sent together
TROUBLE_SECONDS = 0.5  # after Redis did not answer
STOP_SECONDS = 5.0


class Feeder:
    """A thread that feeds while it holds the lease. Its process may fork: that never happens within a turn."""

    def __init__(self, settings: Settings, *, preferred: bool = False) -> None:
        """Connects to nothing yet. Raises SettingsError.

        Those that are not preferred stand back while one that is lives: a worker's parent has Celery's loop to
        run, and a feeder beside it costs each of its jobs time.
        """
        self._preferred = preferred
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._ledger = Ledger.connect(settings.redis, settings.jobs)
        self._lines = Lines(settings, secrets.token_hex(8))
        self._sweeper = Sweeper(self._ledger, self._lines, settings.jobs)
        self._held_until = 0.0

    def start(self) -> None:
        """Starts the thread. Redis need not be there yet."""
        # A child that is forked in the middle of a turn would inherit locks that nobody releases there.
        os.register_at_fork(
            before=self._turn.acquire, after_in_parent=self._turn.release, after_in_child=self._turn.release
        )
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and leaves the lease to others."""
        self._stopping.set()
        with suppress(LedgerUnavailable):
            self._lines.ring()  # it may be listening
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        with suppress(LedgerUnavailable):
            self._lines.release()
        self._lines.deafen()
        self._lines.close()
        self._ledger.close()

    def step(self) -> int:
        """One turn: sends what there is room for, if this is the feeder; returns how many jobs.

        Raises LedgerUnavailable.
        """
        with self._turn:
            now = time.monotonic()
            if now > self._held_until - HOLD_SECONDS / 2:
                self._held_until = (
                    now + HOLD_SECONDS if self._lines.hold(HOLD_SECONDS, preferred=self._preferred) else 0.0
                )
            if not self._held_until:
                self._lines.deafen()
                return 0
            self._lines.listen()  # before the turn: what is rung for during it must be heard
            self._sweeper.sweep_when_due()
            sent = self._lines.feed()
            if sent < 0:
                self._held_until = 0.0
            return max(0, sent)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
                self._wait()
            except LedgerUnavailable as error:
                log.warning("feeder_waits", error=error.message)
                self._held_until = 0.0
                self._lines.deafen()
                # Whoever could not reach Redis could not renew its leases either: they get time for that.
                self._sweeper.hold_off()
                self._stopping.wait(TROUBLE_SECONDS)
            except Exception:  # a bug must not stop all jobs: it is logged, and tried again
                log.exception("feeder_failed")
                self._stopping.wait(TRY_SECONDS)

    def _wait(self) -> None:
        """Until the bell rings; not much longer than a turn is due anyway."""
        if not self._held_until:
            self._stopping.wait(TRY_SECONDS)
            return
        stepped_at = time.monotonic()
        self._lines.wait_for_bell()
        self._stopping.wait(max(0.0, stepped_at + STEP_SECONDS - time.monotonic()))
