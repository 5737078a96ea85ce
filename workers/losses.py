"""The jobs of children that died: the ledger is told at once, so that nobody waits for a lease to run out.

Celery delivers the message of such a job again, but the lease still holds then, and a second delivery of a leased
job is dropped. Either may come first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from workers.supervision import Children

log = structlog.get_logger()


class Losses:
    """Tells the ledger which holders of leases are no more. While Redis is away they are kept for later."""

    def __init__(self, ledger: Ledger, children: Children, *, on_lost: Callable[[], None] = lambda: None) -> None:
        """`on_lost` is called for each job that was lost with its child."""
        self._on_lost = on_lost
        self.ledger = ledger
        self._children = children
        self._untold: list[int] = []
        self._telling = threading.Lock()  # at a worker's end Celery's timers have a thread of their own

    def tell(self, worker_name: str) -> None:
        """Of all children that have died since they were warm. Waits for Redis as long as its timeout."""
        with self._telling:
            self._untold += self._children.take_dead()
            while self._untold:
                pid = self._untold[0]
                try:
                    job_id = self.ledger.lost_holder(f"{worker_name}/{pid}")
                except LedgerUnavailable as error:
                    log.warning("loss_not_told", pid=pid, error=error.message)
                    return
                del self._untold[0]
                if job_id is not None:
                    self._on_lost()
                    log.warning("child_lost", pid=pid, job_id=job_id)
