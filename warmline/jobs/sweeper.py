"""The sweeper: finds jobs whose worker or whose message is gone, and has them run again. The feeder runs it."""

from __future__ import annotations

import time

import structlog

from config.settings import JobsSettings
from warmline.jobs.ledger import Ledger
from warmline.jobs.lines import Lines

log = structlog.get_logger()

LEASE_SWEEP_SECONDS = 1.0
MESSAGE_SWEEP_SECONDS = 2.0
# A message that was sent so long ago should be somewhere. On its way from a queue to a worker it is nowhere for a
# moment, so one that is missing is looked for twice.
MESSAGE_AGE_SECONDS = 5.0


class Sweeper:
    """Looks when it is time to. Every method raises LedgerUnavailable."""

    def __init__(self, ledger: Ledger, lines: Lines, jobs: JobsSettings) -> None:
        self._ledger = ledger
        self._lines = lines
        self._jobs = jobs
        self._leases_at = 0.0
        self._messages_at = 0.0
        self._missing: dict[str, str] = {}

    def hold_off(self) -> None:
        """Redis was away: nobody could renew a lease. Workers get the time for that before they are lost."""
        self._leases_at = time.monotonic() + self._jobs.lease_seconds / 2

    def sweep_when_due(self) -> None:
        """Looks at the leases and at the messages, each now and then."""
        now = time.monotonic()
        if now >= self._leases_at:
            self._leases_at = now + LEASE_SWEEP_SECONDS
            for job_id in self._ledger.lose_expired():
                log.warning("lease_expired", job_id=job_id)
        if now >= self._messages_at:
            self._messages_at = now + MESSAGE_SWEEP_SECONDS
            self._sweep_messages()

    def _sweep_messages(self) -> None:
        sent = self._lines.sent_before(MESSAGE_AGE_SECONDS)
        present = self._lines.in_queues() if sent else set()
        if present is None:
            return
        # What was missing before an outage counts: a broker that is killed every few seconds forgets most.
        before, self._missing = self._missing, {i: when for i, when in sent.items() if i not in present}
        lost = {job_id: when for job_id, when in self._missing.items() if before.get(job_id) == when}
        if lost:
            log.warning("messages_sent_again", jobs=self._lines.send_again(lost))
