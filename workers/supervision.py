"""The parent's view of its children: who is warm, and whether those that are not will ever be.

Celery replaces a dead child for ever, also one that can never come up: a model that is gone, or too little memory,
would be a fork loop that looks alive. Here such a worker stops, with one line that says why.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any, NoReturn

import structlog
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE

from warmline.jobs.records import ChildState
from workers.announcements import Announcements, HostLost, HostWarm, LoadFailed

log = structlog.get_logger()

MAX_COLD_DEATHS = 3  # children in a row that died before they were warm and did not say why


class Children:
    """The children of one worker, by what they announce and by who is alive."""

    def __init__(self, announcements: Announcements) -> None:
        self.announcements = announcements
        self.failure: str | None = None  # why no more children are made
        self.warm_hosts: set[int] = set()  # pids of engine hosts that have been warm
        self._waiting: set[int] = set()  # pids of children that were warm and have lost their host
        self._warm: dict[int, ChildState] = {}
        self._forks = 0
        self._warm_deaths = 0
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
            self._warm_deaths += 1
        cold_deaths = self._forks - len(alive) - self._warm_deaths
        if heard_warm:
            self._excused_deaths = cold_deaths
        if cold_deaths - self._excused_deaths >= MAX_COLD_DEATHS:
            self.fail(f"{MAX_COLD_DEATHS} children in a row died before they were warm; is there enough memory?")
        return set(self._warm) != before

    def count_fork(self) -> None:
        """One more child is made now."""
        self._forks += 1

    def may_have_job(self, pid: int) -> bool:
        """Whether the child is warm or has been."""
        return pid in self._warm or pid in self._waiting

    def fail(self, reason: str) -> None:
        """There is no use in going on. The first reason stays."""
        self.failure = self.failure or reason

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
                    self.warm_hosts.add(said.pid)
                case _:
                    self._waiting.discard(said.pid)
                    self._warm[said.pid] = said
                    heard_warm = True
        return heard_warm


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
