"""Nothing is lost and nothing is published twice, whatever is killed: the short form of `make chaos`."""

from __future__ import annotations

import pytest

from tests.chaos.outcome import Outcome
from tests.chaos.storm import Forecast, run_storm

SHORT = Forecast(
    jobs=160,
    bad=4,
    live=20,
    cancelled_alone=4,
    cancelled_batch=20,
    faults={"child": 2, "parent": 1, "group": 1, "redis": 1, "s3": 1},
    children=1,
    lease_seconds=4,
    down_seconds=(0.3, 1.0),
    end_seconds=120,
)


def check(outcome: Outcome, forecast: Forecast) -> None:
    """What holds after every storm."""
    # Every job that anybody was told of has ended, in one way
    assert not outcome.lost
    assert outcome.jobs >= outcome.accepted == forecast.jobs + 1  # the poisoned one
    assert outcome.jobs == sum(outcome.statuses.values())
    assert set(outcome.statuses) <= {"succeeded", "failed", "cancelled", "dead"}
    # Each success has one report, and no report is there twice
    assert outcome.published_twice == 0
    assert outcome.notes["report objects"] >= outcome.statuses["succeeded"]
    # What is no audio failed, or was cancelled before that was known; nothing else did
    assert outcome.statuses.get("failed", 0) <= forecast.bad
    # The job that kills its process is dead, and lives when it is replayed in peace
    assert outcome.notes["the poisoned job"] == "dead (worker_lost) after lost, lost, lost"
    assert outcome.replayed >= 1
    assert outcome.dead_after_replay == 0
    # And everything is tidy
    assert not outcome.left
    assert not outcome.scratch_files
    assert not outcome.orphans
    assert outcome.notes["workers' exit codes at SIGTERM"] == [0] * forecast.workers


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_storm_loses_nothing_and_publishes_nothing_twice() -> None:
    # When children, workers, Redis and S3 are killed while some hundred jobs run
    outcome = run_storm(SHORT)
    # Then all of them were injected, and the books are right
    assert sum(each.injected for each in outcome.recoveries) >= sum(SHORT.faults.values()) - 1
    check(outcome, SHORT)
