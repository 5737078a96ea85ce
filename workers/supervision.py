"""The parent's view of its children: who is warm, and whether those that are not will ever be.

Celery replaces a dead child for ever, also one that can never come up: a model that is gone, or too little memory,
would be a fork loop that looks alive. Here such a worker stops, with one line that says why.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from typing import Any, NoReturn

import structlog
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE

from warmline.jobs.conditions import DEATHS_WINDOW_SECONDS
from warmline.jobs.records import ChildState
from workers.announcements import Announcements, HostLost, HostWarm, LoadFailed

log = structlog.get_logger()

MAX_COLD_DEATHS = 3  # children in a row that died before they were warm and did not say why
REPLACEMENT_LOADS = 3.0  # a replacement may take so many times as long to get warm as the slowest child before it


class Children:
    """The children of one worker, by what they announce and by who is alive."""

    def __init__(self, announcements: Announcements, *, replacement_timeout_seconds: float) -> None:
        self.announcements = announcements
        self.failure: str | None = None  # why no more children are made
        self.warm_hosts: dict[int, float] = {}  # pids of engine hosts that serve -> when they last said so
        self._replacement_timeout_seconds = replacement_timeout_seconds
        self._slowest_load_seconds = 0.0
        self._cold_since: dict[
            int, float
        ] = {}  # pid -> when it was first seen; with the dead, until one gets warm
        self._dead: list[int] = []  # that were warm, and that nobody has asked for yet
        self._waiting: set[int] = set()  # pids of children that were warm and have lost their host
        self._warm: dict[int, ChildState] = {}
        self._forks = 0
        self._planned = 0
        self._warm_deaths = 0
        self._deaths_seen = 0
        self._deaths_expected = False
        # Monotonic seconds, of the last five minutes.
        self._death_times: list[float] = []
        self._inherited_death_times: list[float] = []
        self._excused_deaths = 0  # cold ones, before the last child that got warm

    @property
    def warm(self) -> tuple[ChildState, ...]:
        """Those that can take a job now."""
        return tuple(self._warm.values())

    def look(self, alive: Iterable[int]) -> bool:
        """Takes in what was announced and who is alive (pids); True when the warm ones are others than before."""
        before = set(self._warm)
        heard_warm = self._listen()
        alive = set(alive)
        for pid in (self._warm.keys() | self._waiting) - alive:
            self._warm.pop(pid, None)
            self._waiting.discard(pid)
            self._dead.append(pid)
            self._warm_deaths += 1
        deaths = self._forks - len(alive)
        self.note_deaths(deaths - self._deaths_seen)
        self._deaths_seen = max(deaths, self._deaths_seen)
        cold_deaths = deaths - self._warm_deaths
        if heard_warm:
            self._excused_deaths = cold_deaths
        self._note_cold(alive, heard_warm=heard_warm)
        if cold_deaths - self._excused_deaths >= MAX_COLD_DEATHS:
            self.fail(f"{MAX_COLD_DEATHS} children in a row died before they were warm; is there enough memory?")
        return set(self._warm) != before

    def plan(self, children: int) -> None:
        """So many are made at first; what is made after that replaces one of them."""
        self._planned = children

    @property
    def respawns(self) -> int:
        """How many were made to replace others."""
        return max(0, self._forks - self._planned)

    def note_deaths(self, count: int) -> None:
        """So many processes of this worker have died: children, engine hosts."""
        if not self._deaths_expected:
            self._death_times += [time.monotonic()] * count

    def inherit_deaths(self, count: int, *, seconds_ago: float) -> None:
        """So many of the worker's before this one on this host have died, itself among them."""
        self._inherited_death_times += [time.monotonic() - seconds_ago] * count

    def expect_deaths(self) -> None:
        """The worker ends, and its processes with it: no death counts from now on."""
        self._deaths_expected = True

    @property
    def recent_deaths(self) -> int:
        """How many of its processes have died within the last five minutes."""
        self._death_times = _recent(self._death_times)
        return len(self._death_times)

    @property
    def inherited_deaths(self) -> int:
        """The same of those before it."""
        self._inherited_death_times = _recent(self._inherited_death_times)
        return len(self._inherited_death_times)

    def take_dead(self) -> list[int]:
        """The pids of children that were warm and have died since the last call."""
        dead, self._dead = self._dead, []
        return dead

    @property
    def replacement_seconds(self) -> float:
        """How long a process that replaces another may take to get warm."""
        return max(self._replacement_timeout_seconds, REPLACEMENT_LOADS * self._slowest_load_seconds)

    def give_up_on_cold(self) -> None:
        """After the first start: there is no use in going on where a child has been cold for too long."""
        oldest = min(self._cold_since.values(), default=None)
        if oldest is not None and time.monotonic() - oldest > self.replacement_seconds:
            self.fail(f"a child that was to replace another is not warm after {self.replacement_seconds:.0f} s")

    def count_fork(self) -> None:
        """One more child is made now."""
        self._forks += 1

    def may_have_job(self, pid: int) -> bool:
        """Whether the child is warm or has been."""
        return pid in self._warm or pid in self._waiting

    def fail(self, reason: str) -> None:
        """There is no use in going on. The first reason stays."""
        self.failure = self.failure or reason

    def _note_cold(self, alive: set[int], *, heard_warm: bool) -> None:
        now = time.monotonic()
        cold = alive - self._warm.keys() - self._waiting
        gone = set() if heard_warm else self._cold_since.keys() - alive
        self._cold_since = {pid: self._cold_since.get(pid, now) for pid in cold | gone}

    def _listen(self) -> bool:
        heard_warm = False
        for said in self.announcements.read():
            match said:
                case LoadFailed():
                    self.fail(f"{said.who} {said.pid} cannot get warm: {said.reason}")
                case HostLost():
                    self._warm.pop(said.pid, None)
                    self._waiting.add(said.pid)
                case HostWarm():
                    self.warm_hosts[said.pid] = time.monotonic()
                case _:
                    self._waiting.discard(said.pid)
                    self._warm[said.pid] = said
                    self._slowest_load_seconds = max(self._slowest_load_seconds, said.load_seconds)
                    heard_warm = True
        return heard_warm


def _recent(moments: list[float]) -> list[float]:
    oldest = time.monotonic() - DEATHS_WINDOW_SECONDS
    return [moment for moment in moments if moment > oldest]


def pool_pids(pool: Any) -> list[int]:
    """The pids of those of a billiard pool's children that it has not found dead yet."""
    return [process.pid for process in pool._pool]


def first_death(pool: Any) -> str | None:
    """What became of the first of a billiard pool's children that has ended; None when all live."""
    for process in pool._pool:
        code = process.exitcode
        if code is not None:
            end = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            return f"child {process.pid} died ({end}) before it was warm; is there enough memory?"
    return None


def stop_worker(reason: str) -> NoReturn:
    """Ends the worker with a non-zero exit, from its main thread: children finish the jobs that they run."""
    log.critical("worker_stopped", reason=reason)
    raise WorkerShutdown(EX_FAILURE)
