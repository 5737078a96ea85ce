"""Whether a worker is well: the word for it, at the edges of each rule."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.jobs.conftest import NewJob, worker
from warmline.jobs.backlog import Backlog, LaneBacklog
from warmline.jobs.conditions import (
    Condition,
    FleetLedger,
    FleetState,
    Waiting,
    WorkerCondition,
    condition_of,
    condition_of_silent,
    oldest_waiting,
)
from warmline.jobs.fleet import Silent
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Lane, WorkerState

STALLED_SECONDS = 60.0
LONG, SHORT = 60.0, 59.9
WAITING: dict[Waiting, float] = {"live": LONG, "bulk": LONG}


def judge(state: WorkerState, waiting: dict[Waiting, float] | None = None) -> WorkerCondition:
    return condition_of(state, waiting=waiting or {}, stalled_seconds=STALLED_SECONDS)


def like(warm: int = 2, **fields: object) -> WorkerState:
    return worker("w", warm).model_copy(update=fields)


@pytest.mark.parametrize(
    ("state", "waiting", "condition"),
    [
        (like(), WAITING, Condition.OK),
        (like(warm=0), {}, Condition.LOADING),
        # A lane's job waits for as long as this worker has had room for it
        (like(hungry_seconds={"live": LONG}), WAITING, Condition.STALLED),
        (like(hungry_seconds={"bulk": LONG}), {"bulk": LONG}, Condition.STALLED),
        # It has had room for less than that: it ran other jobs, has just become warm, or Redis was away
        (like(hungry_seconds={"live": SHORT, "bulk": SHORT}), WAITING, Condition.OK),
        # A job has come to an idle worker just now
        (like(hungry_seconds={"live": 3600.0}), {"live": SHORT}, Condition.OK),
        # What waits is nothing that this worker has room for: the bulk lane's share is used up
        (like(hungry_seconds={"live": LONG}), {"bulk": LONG}, Condition.OK),
        # Or it does not serve that lane
        (like(lanes=("live",), hungry_seconds={"live": LONG}), {"bulk": LONG}, Condition.OK),
        # Nothing waits
        (like(hungry_seconds={"live": 3600.0, "bulk": 3600.0}), {}, Condition.OK),
        # A job to be tried again waits, and nothing else; the same edges
        (like(hungry_for_retries_seconds=LONG), {"retry": LONG}, Condition.STALLED),
        (like(hungry_for_retries_seconds=SHORT), {"retry": LONG}, Condition.OK),
        (like(hungry_for_retries_seconds=3600.0), {"retry": SHORT}, Condition.OK),
        (like(hungry_for_retries_seconds=3600.0), {}, Condition.OK),
        (like(hungry_for_retries_seconds=LONG), WAITING, Condition.OK),
        # Its lanes are taken care of; and a worker of an older version does not say
        (like(hungry_seconds={"live": LONG, "bulk": LONG}), {"retry": LONG}, Condition.OK),
        (like(stuck=1), {}, Condition.STALLED),
        (like(recent_deaths=2), {}, Condition.OK),
        (like(recent_deaths=3), {}, Condition.LOOPING),
        (like(warm=0, recent_deaths=3), {}, Condition.LOOPING),  # and not loading, for ever
        (like(recent_deaths=3, stuck=1), {}, Condition.LOOPING),
        (like(warm=0, stuck=1), {}, Condition.STALLED),
        # Told to end, whatever else is so
        (like(warm=0, draining=True, recent_deaths=9, stuck=1), WAITING, Condition.DRAINING),
    ],
)
def test_the_word_for_it(state: WorkerState, waiting: dict[Waiting, float], condition: Condition) -> None:
    found = judge(state, waiting)
    assert found.condition is condition
    assert bool(found.reason) == (condition is not Condition.OK)
    assert found.silent_seconds is None


def test_a_stalled_workers_reason_names_the_lane_and_the_time() -> None:
    found = judge(like(hungry_seconds={"live": 75.0, "bulk": 5.0}), WAITING)
    assert "Jobs wait in live" in found.reason
    assert "for 75 s" in found.reason
    both = like(hungry_seconds={"bulk": 75.0}, hungry_for_retries_seconds=80.0)
    found = judge(both, {**WAITING, "retry": LONG})
    assert "Jobs wait in bulk and retry" in found.reason
    assert "for 80 s" in found.reason


@pytest.mark.parametrize(
    ("state", "condition", "words"),
    [
        (like(), Condition.MISSING, "No heartbeat for 20 s"),
        (like(draining=True, ended_because="no such model"), Condition.MISSING, "gave up 20 s ago: no such model"),
        (like(ended_because="no such model"), Condition.MISSING, "gave up 20 s ago: no such model"),
        (like(recent_deaths=3, ended_because="no such model"), Condition.LOOPING, "no such model"),
    ],
)
def test_one_that_is_silent_is_missing(state: WorkerState, condition: Condition, words: str) -> None:
    found = condition_of_silent(Silent(worker=state, seconds=20.4))
    assert (found.condition, found.silent_seconds) == (condition, 20.4)
    assert words in found.reason


def fleet(*workers: WorkerCondition) -> FleetState:
    lanes: dict[Lane, LaneBacklog] = {
        "live": LaneBacklog(waiting=1, running=0, oldest_seconds=7.0),
        "bulk": LaneBacklog(waiting=0, running=0),
    }
    numbers = dict.fromkeys(set(Backlog.model_fields) - {"lanes", "oldest_retry_seconds"}, 0)
    return FleetState(workers=workers, backlog=Backlog.model_validate({"lanes": lanes, **numbers}))


def test_the_fleet_is_as_well_as_its_workers() -> None:
    well, loading = judge(like()), judge(like(warm=0))
    draining, stalled = judge(like(draining=True)), judge(like(stuck=1))
    missing = condition_of_silent(Silent(worker=like(), seconds=20))
    assert fleet(well, loading, draining.model_copy()).status == "healthy"
    assert fleet(well, stalled).status == "degraded"
    assert fleet(well, missing).status == "degraded"
    assert fleet(stalled).status == "degraded"  # it is warm, and may work yet
    # Nobody is warm: the last state of one that is missing does not count
    assert fleet().status == fleet(loading).status == fleet(missing).status == "unhealthy"
    assert fleet(well, well, missing).counts == {
        Condition.OK: 2, Condition.LOADING: 0, Condition.DRAINING: 0,
        Condition.STALLED: 0, Condition.LOOPING: 0, Condition.MISSING: 1,
    }  # fmt: skip
    assert oldest_waiting(fleet().backlog) == {"live": 7.0}
    with_retry = fleet().backlog.model_copy(update={"oldest_retry_seconds": 9.0})
    assert oldest_waiting(with_retry) == {"live": 7.0, "retry": 9.0}


def test_the_ledger_tells_of_all_workers_and_of_what_waits(ledger: Ledger, settings: Any, new_job: NewJob) -> None:
    # Given a job that waits, a worker that has room for it, one that serves another lane, and one that fell silent
    ledger.create(new_job(lane="live"))
    ledger.beat(like(hungry_seconds={"live": 1.0}).model_copy(update={"name": "b"}), ttl_seconds=30)
    ledger.beat(worker("c", 1, lanes=("bulk",)), ttl_seconds=30)
    ledger.beat(worker("a", 1), ttl_seconds=0.001, remembered_seconds=30)
    fleet_ledger = FleetLedger.connect(settings.redis, settings.jobs)
    # When the job has waited for as long as makes a worker stalled
    state = fleet_ledger.fleet(stalled_seconds=0.0)
    assert {each.worker.name: each.condition for each in state.workers} == {
        "a": Condition.MISSING, "b": Condition.STALLED, "c": Condition.OK,
    }  # fmt: skip
    assert (state.status, state.backlog.waiting, state.backlog.workers) == ("degraded", 1, 2)
    # And before it has
    state = fleet_ledger.fleet(stalled_seconds=60.0)
    assert [each.condition for each in state.workers] == [Condition.MISSING, Condition.OK, Condition.OK]
    fleet_ledger.close()
