"""A worker's heartbeat: that it is alive, who is warm in it, and how it gets on.

It beats from the event loop alone, and from what stands in for that while the first children load: a parent whose
loop hangs must fall silent, whatever its threads still do.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import structlog

from config.settings import WorkerSettings
from warmline.jobs.conditions import DEATHS_WINDOW_SECONDS
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import WorkerState
from workers.processes import is_alive
from workers.supervision import Children
from workers.vitals import Vitals

log = structlog.get_logger()

BEATS_TO_LIVE = 3  # a worker whose heart missed so many beats is missing
MOST_REASON = 900  # characters
# A worker that is started again after a crash looks so long for what the crashed one left: a process that is being
# killed may take a moment to die.
SUCCESSION_BEATS = 2 * BEATS_TO_LIVE


class Heart:
    """One worker's."""

    def __init__(
        self,
        ledger: Ledger,
        children: Children,
        vitals: Vitals,
        settings: WorkerSettings,
        on_beat: Callable[[WorkerState], None] = lambda _: None,
    ) -> None:
        """`on_beat` is told of each state that is to be written."""
        self.ledger = ledger
        self.draining = False
        self.answered = False  # Redis took the last beat
        self._children = children
        self.vitals = vitals
        self._settings = settings
        self._on_beat = on_beat
        self._next_beat = 0.0
        self._beats = 0
        self._started_at = datetime.now(UTC)
        self._mourned: set[tuple[str, datetime | None]] = set()

    def beat(self, worker: Any) -> None:
        """Now. A Redis that does not answer is logged; the next beat comes anyway."""
        self._next_beat = time.monotonic() + self._settings.heartbeat_seconds
        try:
            if self._beats < SUCCESSION_BEATS:
                self._succeed(worker.hostname)
            state = self._state(worker)
            self._on_beat(state)
            self.ledger.beat(
                state,
                ttl_seconds=BEATS_TO_LIVE * self._settings.heartbeat_seconds,
                remembered_seconds=self._settings.missing_seconds,
            )
        except LedgerUnavailable as error:
            self.answered = False
            self.vitals.forgive()  # what waits cannot be taken meanwhile
            log.warning("heartbeat_missed", error=error.message)
        else:
            self._beats += 1
            self.answered = True

    def beat_when_due(self, worker: Any) -> None:
        """Unless the last beat is younger than the interval."""
        if time.monotonic() >= self._next_beat:
            self.beat(worker)

    def stop(self, worker: Any, *, failure: str | None) -> None:
        """This worker has ended: it is forgotten if it was told to, and remembered if it had to give up."""
        try:
            if failure is None:
                self.ledger.leave(worker.hostname)
            else:
                ended = self._state(worker).model_copy(update={"warm": (), "ended_because": failure[:MOST_REASON]})
                self.ledger.give_up(ended, remembered_seconds=self._settings.missing_seconds)
        except LedgerUnavailable as error:
            log.warning("heartbeat_missed", error=error.message)

    def _state(self, worker: Any) -> WorkerState:
        vitals = self.vitals
        return WorkerState(
            name=worker.hostname,
            host=socket.gethostname(),
            pid=os.getpid(),
            lanes=self._settings.lanes,
            children=worker.concurrency,
            warm=() if self.draining else self._children.warm,
            seen_at=datetime.now(UTC),
            version=version("warmline"),
            started_at=self._started_at,
            draining=self.draining,
            busy=vitals.busy,
            taken=vitals.taken,
            last_taken_at=vitals.last_taken_at,
            respawns=self._children.respawns,
            recent_deaths=self._children.recent_deaths + self._children.inherited_deaths,
            stuck=vitals.stuck,
            hungry_seconds=vitals.hungry_seconds(),
            hungry_for_retries_seconds=vitals.hungry_for_retries_seconds(),
        )

    def _succeed(self, own_name: str) -> None:
        """Takes the place of workers that died on this host: their supervisor has started this one instead.

        They are missing no more; but their deaths count, so that a worker which is started again and again, and
        dies each time, is seen to do so.
        """
        alive, silent = self.ledger.everyone()
        ages = {each.worker.name: each.seconds for each in silent}
        # One that was killed a moment ago counts as alive until its beats are missed.
        for past in (*alive, *(each.worker for each in silent)):
            if not self._is_dead_and_from_here(past, own_name):
                continue
            life = past.name, past.started_at
            if life not in self._mourned:
                self._mourned.add(life)
                seconds_ago = ages.get(past.name, 0.0)
                if seconds_ago < DEATHS_WINDOW_SECONDS:
                    self._children.inherit_deaths(1 + past.recent_deaths, seconds_ago=seconds_ago)
            if past.name != own_name:
                self.ledger.leave(past.name)

    def _is_dead_and_from_here(self, past: WorkerState, own_name: str) -> bool:
        if past.name == own_name:  # a container that was started again has the same host, and the same pids
            return past.started_at != self._started_at
        # One that beat when this one had begun already was a neighbour: nobody has taken its place.
        is_earlier = past.seen_at <= self._started_at
        return is_earlier and past.host == socket.gethostname() and not is_alive(past.pid)
