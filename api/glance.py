"""One look at the fleet for whoever asks within a second: `/health` is open to all, and must not cost Redis more
when many ask."""

from __future__ import annotations

import threading
import time
from typing import Final

from warmline.jobs.conditions import FleetLedger, FleetState
from warmline.jobs.errors import LedgerUnavailable

KEPT_SECONDS: Final = 1.0


class FleetGlance:
    """Threads share it."""

    def __init__(self, fleet: FleetLedger, *, stalled_seconds: float) -> None:
        self._fleet = fleet
        self._stalled_seconds = stalled_seconds
        self._looking = threading.Lock()
        self._seen: FleetState | LedgerUnavailable | None = None
        self._seen_at = -KEPT_SECONDS

    def state(self) -> FleetState:
        """How the fleet is, or was within the last second. Raises LedgerUnavailable."""
        with self._looking:
            if self._seen is None or time.monotonic() - self._seen_at >= KEPT_SECONDS:
                try:
                    self._seen = self._fleet.fleet(stalled_seconds=self._stalled_seconds)
                except LedgerUnavailable as error:
                    self._seen = error  # those who wait here need not find it out one after another
                self._seen_at = time.monotonic()
            if isinstance(self._seen, LedgerUnavailable):
                raise self._seen
            return self._seen
