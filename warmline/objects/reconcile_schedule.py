"""Reconciling by itself, now and then: whoever takes the turn does it, of all API processes one."""

from __future__ import annotations

import threading

import structlog

from config.settings import Settings
from warmline.jobs.errors import LedgerUnavailable, WarmlineError
from warmline.jobs.reconcile_ledger import ReconcileLedger
from warmline.jobs.reconciliation import ReconcileStatus, Wanted
from warmline.objects.reconcile import Reconciler, warm_model_hashes

log = structlog.get_logger()

LOOK_SECONDS = 10.0  # how often each process asks whether it is time
AGAIN_SECONDS = 60.0  # after a reconciliation that could not be done
STOP_SECONDS = 1.0


class ReconcileSchedule:
    """A thread that reconciles the prefixes in the settings; none where there are none."""

    def __init__(self, settings: Settings, reconciler: Reconciler) -> None:
        """Connects to nothing yet."""
        jobs = settings.jobs
        self._wanted = [_wanted(uri, by_rules=jobs.reconcile_by_rules) for uri in jobs.reconcile_prefixes]
        self._seconds = jobs.reconcile_seconds
        self._reconciler = reconciler
        self._ledger = ReconcileLedger.connect(settings.redis, jobs)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, if there is something to do. Redis need not be there yet."""
        if self._wanted and self._seconds:
            self._thread = threading.Thread(target=self._run, name="reconcile-schedule", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread. A reconciliation that it is at is interrupted with the process."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        self._ledger.close()

    def step(self) -> bool:
        """Reconciles if it is time and nobody else does; True when all was done. Raises LedgerUnavailable."""
        if not self._ledger.take_turn(self._seconds):
            return False
        hashes = warm_model_hashes(self._ledger.workers())
        if len(hashes) == 1:
            outcomes = [self._reconcile(wanted, *hashes) for wanted in self._wanted]
            done = all(outcomes)
        else:
            log.info("reconciliation_waits", reason="no warm model, or several", models=len(hashes))
            done = False
        if not done:
            self._ledger.postpone(min(AGAIN_SECONDS, self._seconds))
        return done

    def _reconcile(self, wanted: Wanted, model_hash: str) -> bool:
        try:
            run = self._reconciler.begin(wanted, model_hash)
        except WarmlineError as error:
            log.warning("reconciliation_refused", code=error.code, error=error.message)
            return False
        return self._reconciler.carry_out(run).status is ReconcileStatus.FINISHED

    def _run(self) -> None:
        while not self._stopping.wait(min(LOOK_SECONDS, self._seconds)):
            try:
                self.step()
            except LedgerUnavailable as error:
                log.warning("reconciliation_waits", reason=error.message)


def _wanted(uri: str, *, by_rules: bool) -> Wanted:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return Wanted(bucket=bucket, prefix=prefix, by_rules=by_rules)
