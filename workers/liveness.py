"""A worker's `/live` and `/ready`: whether its supervisor should start it again, and whether it takes jobs.

A worker is restarted over what a restart mends, and over nothing else. While Redis is away its event loop waits
for Redis, and a restart would only cost warm models; a call that kills every child that reads it kills the next
worker's children, too.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from warmline.jobs.conditions import LOOPING_DEATHS
from warmline.jobs.errors import LedgerUnavailable
from workers.heart import Heart
from workers.probes import Answer, Page
from workers.supervision import Children

LIVE_PATH: Final = "/live"
READY_PATH: Final = "/ready"
# An event loop that has not turned for so long does not turn any more. It turns every second.
STUCK_SECONDS: Final = 60.0
STUCK_BEATS: Final = 12  # or for so many heartbeats, if that is less


class Liveness:
    """One worker's. Threads ask it, while the event loop may be stuck."""

    def __init__(
        self,
        heart: Heart,
        children: Children,
        turn_age_seconds: Callable[[], float],
        *,
        beat_seconds: float,
    ) -> None:
        self._heart = heart
        self._children = children
        self._turn_age_seconds = turn_age_seconds
        self._stuck_seconds = min(STUCK_SECONDS, STUCK_BEATS * beat_seconds)
        self._excused_until = 0.0
        self._asking = threading.Lock()

    def pages(self) -> dict[str, Page]:
        """The pages by their paths."""
        return {LIVE_PATH: self.live, READY_PATH: self.ready}

    def live(self) -> Answer:
        """200 as long as a restart would mend nothing."""
        if self._heart.draining:
            return _answer("draining")  # it is about to end, and its event loop has ended
        if self._children.recent_deaths >= LOOPING_DEATHS and not self._children.warm:
            return _answer("looping", "its processes die one after the other, and none is warm")
        if self._is_stuck():
            return _answer("stuck", f"its event loop has not turned for {self._turn_age_seconds():.0f} s")
        return _answer("alive")

    def ready(self) -> Answer:
        """200 when it takes jobs."""
        if self._heart.draining:
            return _answer("draining", "it takes no more jobs")
        if not self._children.warm:
            return _answer("loading", "no child is warm")
        if not self._heart.answered:
            return _answer("redis", "Redis did not answer its last heartbeat")
        return _answer("ready")

    def _is_stuck(self) -> bool:
        age = self._turn_age_seconds()
        if age < self._stuck_seconds:
            return False
        with self._asking:
            # Celery tries to reconnect from the event loop, for as long as the broker is away.
            try:
                self._heart.ledger.ping()
            except LedgerUnavailable:
                self._excused_until = time.monotonic() + self._stuck_seconds
            return time.monotonic() >= self._excused_until


def _answer(status: str, why_not: str = "") -> Answer:
    said = {"status": status} | ({"reason": why_not} if why_not else {})
    code = HTTPStatus.SERVICE_UNAVAILABLE if why_not else HTTPStatus.OK
    return Answer(status=code, body=json.dumps(said).encode() + b"\n")
