"""Whether workers are well: one word for each, and a sentence that says what to look at.

A worker that has died is seen by its silence. The others are those that still beat, and do no work: their children
die as fast as they are replaced, hang in a library, or nothing is asked for any more though jobs wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from warmline.jobs.backlog import Backlog, BacklogLedger
from warmline.jobs.fleet import Silent
from warmline.jobs.records import Lane, Record, WorkerState

DEATHS_WINDOW_SECONDS: Final = 300.0
LOOPING_DEATHS: Final = 3  # within that window

FleetStatus = Literal["healthy", "degraded", "unhealthy"]
# Where jobs wait for a worker: those that are tried again have a queue of their own, which all workers take from.
Waiting = Lane | Literal["retry"]


class Condition(StrEnum):
    """How a worker is."""

    OK = "ok"  # it is warm, and takes what there is
    LOADING = "loading"  # no child is warm yet, or again
    DRAINING = "draining"  # it was told to end, and finishes what runs
    STALLED = "stalled"  # it beats, but has stopped working: it takes nothing, or a child hangs with a job
    LOOPING = "looping"  # its processes die again and again
    MISSING = "missing"  # it fell silent without a word, or gave up; not one that was told to end

    @property
    def is_well(self) -> bool:
        """Whether nobody has to look."""
        return self in {Condition.OK, Condition.LOADING, Condition.DRAINING}


class WorkerCondition(Record):
    """A worker, and how it is."""

    condition: Condition
    reason: str = Field(description="what to look at; empty when it is ok")
    silent_seconds: float | None = Field(None, description="how long it has been missing; null: its heart beats")
    worker: WorkerState = Field(description="what its last heartbeat said")


@dataclass(frozen=True, kw_only=True)
class FleetState:
    """All workers and all work, of one moment."""

    workers: tuple[WorkerCondition, ...]  # by name; those that are missing, too
    backlog: Backlog

    @property
    def status(self) -> FleetStatus:
        """Unhealthy: no job can be worked on. Degraded: work gets done, and somebody should look at a worker."""
        if not any(each.worker.warm for each in self.workers if each.silent_seconds is None):
            return "unhealthy"
        return "healthy" if all(each.condition.is_well for each in self.workers) else "degraded"

    @property
    def counts(self) -> dict[Condition, int]:
        """How many workers are in each condition; every condition is there."""
        found = Counter(each.condition for each in self.workers)
        return {condition: found[condition] for condition in Condition}


class FleetLedger(BacklogLedger):
    """The part of the ledger that knows how the fleet is."""

    def fleet(self, *, stalled_seconds: float) -> FleetState:
        """How all workers are. Raises LedgerUnavailable."""
        alive, silent = self.everyone()
        backlog = self.backlog(alive)
        waiting = oldest_waiting(backlog)
        conditions = [
            *(condition_of(worker, waiting=waiting, stalled_seconds=stalled_seconds) for worker in alive),
            *(condition_of_silent(each) for each in silent),
        ]
        return FleetState(workers=tuple(sorted(conditions, key=lambda each: each.worker.name)), backlog=backlog)


def oldest_waiting(backlog: Backlog) -> dict[Waiting, float]:
    """For how many seconds a job has waited in each lane, and to be tried again; where none does is left out."""
    ages: dict[Waiting, float | None] = {name: lane.oldest_seconds for name, lane in backlog.lanes.items()}
    ages["retry"] = backlog.oldest_retry_seconds
    return {name: age for name, age in ages.items() if age is not None}


def condition_of(
    worker: WorkerState, *, waiting: Mapping[Waiting, float], stalled_seconds: float
) -> WorkerCondition:
    """How a worker is whose heart beats. `waiting`: what `oldest_waiting` found."""
    condition, reason = _judge(worker, waiting, stalled_seconds)
    return WorkerCondition(condition=condition, reason=reason, worker=worker)


def condition_of_silent(silent: Silent) -> WorkerCondition:
    """How a worker is that does not beat any more."""
    worker = silent.worker
    condition = Condition.LOOPING if worker.recent_deaths >= LOOPING_DEATHS else Condition.MISSING
    if worker.ended_because:
        reason = f"It gave up {silent.seconds:.0f} s ago: {worker.ended_because}"
    else:
        reason = (
            f"No heartbeat for {silent.seconds:.0f} s: its process was killed or hangs, its host is gone, or it "
            "does not reach Redis. Its last log lines say more."
        )
    return WorkerCondition(condition=condition, reason=reason, silent_seconds=silent.seconds, worker=worker)


def _judge(worker: WorkerState, waiting: Mapping[Waiting, float], stalled_seconds: float) -> tuple[Condition, str]:
    if worker.draining:
        return Condition.DRAINING, f"It was told to end, and {worker.busy} of its jobs still run."
    if worker.recent_deaths >= LOOPING_DEATHS:
        return Condition.LOOPING, (
            f"{worker.recent_deaths} of its processes died within five minutes: look for `child_lost` and "
            "`worker_stopped` in its log; is there enough memory, and which calls did they have?"
        )
    if worker.stuck:
        return Condition.STALLED, (
            f"{worker.stuck} of its children have not come on with their jobs for too long: a library, the object "
            "store or the machine hangs. Each ends at its time limit; GET /v1/jobs?status=running names the jobs."
        )
    if not worker.warm:
        return Condition.LOADING, "No child is warm: its log says what it loads."
    if left := _left_waiting(worker, waiting, stalled_seconds):
        return Condition.STALLED, (
            f"Jobs wait in {' and '.join(left)}, its children are free, and it has taken none for "
            f"{max(left.values()):.0f} s: its connection to the broker may be dead, or it was told to consume no "
            "more. Restart it."
        )
    return Condition.OK, ""


def _left_waiting(
    worker: WorkerState, waiting: Mapping[Waiting, float], stalled_seconds: float
) -> dict[Waiting, float]:
    """From where it should have taken a job, and for how many seconds it has had room for one.

    It must have had room all the while, and a job must have waited as long: one that came to an idle worker just
    now is about to be taken. That others take jobs meanwhile excuses nobody whose children are free.
    """
    hungry: dict[Waiting, float] = dict(worker.hungry_seconds.items())  # its own lanes, as far as it has room
    if worker.hungry_for_retries_seconds is not None:  # an older version does not say
        hungry["retry"] = worker.hungry_for_retries_seconds
    return {
        name: seconds
        for name, seconds in hungry.items()
        if name in waiting and min(seconds, waiting[name]) >= stalled_seconds
    }
