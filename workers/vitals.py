"""How a worker gets on, as far as its parent can tell: what it takes, who waits for work, who is stuck with it.

Looked at from the event loop, every second. The judgement is made elsewhere (`warmline.jobs.conditions`), by those
who know what waits.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from celery.worker import state as celery_state

from config.settings import WorkerSettings
from warmline.jobs.conditions import Waiting
from warmline.jobs.queue import RETRY_QUEUE
from warmline.jobs.records import Lane
from workers.lanes import LIVE_QUEUE, count_taken
from workers.pulse import Pulse

# The event loop did not turn for so long: it waited for Redis, or the machine slept. Nothing could be taken then.
PAUSE_SECONDS = 10.0


class Vitals:
    """One worker's."""

    def __init__(self, pulse: Pulse, settings: WorkerSettings, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._pulse = pulse
        self._settings = settings
        self._pause_seconds = pause_seconds
        self._wrong: tuple[bool, int] = (False, 0)  # at the last look: whether it starves, how many are stuck
        self._looked_at = time.monotonic()
        self._hungry_since: dict[Waiting, float] = {}
        self._not_begun: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self.taken = 0
        self.last_taken_at: datetime | None = None
        self.stuck = 0

    @property
    def busy(self) -> int:
        """How many jobs this worker has taken and not finished."""
        return count_taken()[1]

    def hungry_seconds(self) -> dict[Lane, float]:
        """For how long there has been room for a job of each lane, while none came."""
        hungry = self._hungry()
        return {lane: hungry[lane] for lane in self._settings.lanes if lane in hungry}

    def hungry_for_retries_seconds(self) -> float | None:
        """The same for jobs that are tried again; None: there is no room for one."""
        return self._hungry().get("retry")

    def forgive(self) -> None:
        """Nothing could be taken lately, and that was not this worker's fault."""
        self._hungry_since.clear()

    def on_message(self, request: Any, **_: Any) -> None:
        """A message came: a receiver of Celery's signal `task_received`."""
        self.took(request.delivery_info.get("routing_key", ""))

    def took(self, queue: str) -> None:
        """A message came from this queue."""
        self.taken += 1
        self.last_taken_at = datetime.now(UTC)
        self._hungry_since.pop(
            "live" if queue == LIVE_QUEUE else "retry" if queue == RETRY_QUEUE else "bulk", None
        )

    def look(self, warm: Collection[int], *, planned: int) -> bool:
        """Takes in who can work (pids) and who does; True when something is wrong from now, or is so no more.

        `planned` children may have jobs of other lanes than live.
        """
        now = time.monotonic()
        if now - self._looked_at > self._pause_seconds:
            self.forgive()
            self._not_begun.clear()
        self._looked_at = now
        others, jobs = count_taken()
        free = jobs < len(warm)
        room_for_others = free and others < planned
        room: dict[Waiting, bool] = {"live": free, "bulk": room_for_others, "retry": room_for_others}
        served: tuple[Waiting, ...] = (*self._settings.lanes, "retry")
        self._hungry_since = {name: self._hungry_since.get(name, now) for name in served if room[name]}
        working = self._pulse.working()
        stuck = sum(working.get(pid, 0.0) >= self._settings.stalled_seconds for pid in warm)
        self.stuck = stuck + self._count_not_begun(working, now)
        before, self._wrong = self._wrong, (self._starving(), self.stuck)
        return self._wrong != before

    def _starving(self) -> bool:
        return any(age >= self._settings.stalled_seconds for age in self._hungry().values())

    def _hungry(self) -> dict[Waiting, float]:
        now = time.monotonic()
        return {name: round(now - since, 3) for name, since in self._hungry_since.items()}

    def _count_not_begun(self, working: Collection[int], now: float) -> int:
        """Jobs that were given to a child which does not begin with them: it hung before they came to it."""
        waiting = [
            request
            for request in celery_state.reserved_requests | celery_state.active_requests
            if request.worker_pid not in working  # None before a child has accepted it
        ]
        since = {request: self._not_begun.get(request, now) for request in waiting}
        self._not_begun = weakref.WeakKeyDictionary(since)
        return sum(now - first >= self._settings.stalled_seconds for first in since.values())
