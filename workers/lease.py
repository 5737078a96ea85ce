"""The lease of a running job, kept: renewed while the work goes on, and a reason to stop when there is one.

A thread renews it, so that a window that takes long, or a store that is slow, does not lose it. What the thread
learns, the work asks for between windows, blocks and pieces of the object (`check`). Work that never comes back
to ask, because it hangs in a library, is ended with its process.
"""

from __future__ import annotations

import contextvars
import os
import threading
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from config.settings import JobsSettings
from warmline.jobs.errors import LedgerUnavailable, TransientError
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Failure, Hold, JobState, Progress
from workers.drain import DrainFlag
from workers.keeper import Keeper
from workers.pulse import Sign
from workers.time_limit import TimeLimit

log = structlog.get_logger()

# Between two renewals, at most: they carry the progress that people watch, and bring the news of a cancellation.
BEAT_SECONDS = 0.5
CUT_OFF_CODE = 3  # a child's exit code


class Stopped(Exception):
    """The work is to stop, and nothing of it to be published."""

    is_fault = False  # in traces


class Cancelled(Stopped):
    """Nobody wants the job any more."""


class Superseded(Stopped):
    """The job has ended, or another attempt has it."""


class Draining(Stopped):
    """The worker ends: somebody else is to run the job."""


class Lease:
    """Of one attempt at a job, kept while the block lasts."""

    def __init__(
        self,
        ledger: Ledger,
        state: JobState,
        *,
        keeper: Keeper,
        sign: Sign,
        drain: DrainFlag,
        settings: JobsSettings,
    ) -> None:
        self.limit = TimeLimit(settings)
        self._ledger = ledger
        self._job_id, self._attempt = state.job.id, state.attempt
        self._drain = drain
        self._beat_seconds = min(BEAT_SECONDS, settings.lease_seconds / 3)
        self._hold = Hold.HELD
        self._progress: Progress | None = None  # what has not been told yet
        self._released = False
        self._ending = threading.Lock()  # a job is released, or cut off
        self._away = False  # the ledger did not answer the last time
        self._keeper = keeper
        self._sign = sign
        self._context = contextvars.copy_context()  # of the log

    def __enter__(self) -> Self:
        self._keeper.begin(partial(self._context.run, self._keep), every_seconds=self._beat_seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A renewal may be under way: it is refused, or does no harm, once the job has ended.
        self._keeper.end()
        with self._ending:
            self._released = True

    def tell(self, progress: Progress) -> None:
        """How far the work is; goes to the ledger with the next renewal."""
        self._sign.come_on()
        self._progress = progress

    def check(self) -> None:
        """To be asked wherever the work can stop. Raises Stopped when it is to, TimedOut past its time limit."""
        self._sign.come_on()
        self._check_hold()
        if self._drain.is_set():
            raise Draining
        self.limit.check()

    def on_windows(self, done: int, total: int) -> None:
        """See `Watcher`."""
        self.tell(Progress(stage="score", windows_done=done, windows_total=total))
        self.check()

    def on_audio(self, seconds: float) -> None:
        """See `Watcher`."""
        self.limit.grow_by_audio(seconds)
        self.check()

    def confirm(self) -> None:
        """Asks the ledger itself, before something is published. Raises Stopped when the job is not ours any more.

        A ledger that does not answer is taken for a yes: what is published is this job's in any case.
        """
        self._renew()
        self._check_hold()

    def _check_hold(self) -> None:
        if self._hold is Hold.CANCEL:
            raise Cancelled
        if self._hold is Hold.LOST:
            raise Superseded

    def _keep(self) -> None:
        """From the keeper's thread."""
        self._renew()
        if self.limit.overrun_seconds > self.limit.cut_off_seconds:
            self._cut_off()

    def _renew(self) -> None:
        progress, self._progress = self._progress, None
        try:
            hold = self._ledger.heartbeat(self._job_id, self._attempt, progress)
        except LedgerUnavailable as error:
            if not self._away:
                log.warning("lease_not_renewed", error=error.message)  # the work goes on
            self._away = True
            self._progress = self._progress or progress
            return
        self._away = False
        if self._hold is not Hold.LOST:  # from there is no way back
            self._hold = hold

    def _cut_off(self) -> None:
        """Ends the job and this process, unless the work came back in this moment."""
        with self._ending:
            if self._released:
                return
            error = self.limit.failure()
            log.critical("job_cut_off", code=error.code, seconds=round(self.limit.seconds))
            failure = Failure(code=error.code, message=error.message)
            try:
                if isinstance(error, TransientError):
                    self._ledger.retry(self._job_id, self._attempt, failure, delay_seconds=0)
                else:
                    self._ledger.fail(self._job_id, self._attempt, failure)
            except LedgerUnavailable as unavailable:
                log.warning("job_left_to_its_lease", error=unavailable.message)
            os._exit(CUT_OFF_CODE)
