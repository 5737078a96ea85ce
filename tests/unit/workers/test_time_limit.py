"""How long a job may take, as more is known of it."""

from __future__ import annotations

import time

import pytest

from config.settings import JobsSettings
from warmline.jobs.errors import StoreUnavailable, TimedOut
from workers.time_limit import LEAST_BYTES_PER_SECOND, TimeLimit


def limit(seconds: float = 600.0) -> TimeLimit:
    return TimeLimit(JobsSettings(time_limit_seconds=seconds, time_limit_factor=20))


def test_it_grows_with_the_objects_size_and_then_with_the_audio() -> None:
    made = limit()
    assert made.seconds == 600
    made.grow_by_size(100 * LEAST_BYTES_PER_SECOND)
    assert made.seconds == 700
    # When the object has arrived, what it took counts, not what it might have taken
    made.arrived()
    assert made.seconds == pytest.approx(600, abs=50)
    made.grow_by_audio(60)
    made.grow_by_audio(30)  # less than the header said
    assert made.seconds == pytest.approx(600 + 20 * 60, abs=50)
    made.check()


def test_past_it_a_store_may_get_better_and_a_call_does_not() -> None:
    made = limit(0.001)
    time.sleep(0.01)
    with pytest.raises(StoreUnavailable, match="did not arrive within"):
        made.check()
    made.arrived()
    time.sleep(0.01)
    with pytest.raises(TimedOut, match="WARMLINE_JOBS_TIME_LIMIT_FACTOR"):
        made.check()
    assert made.overrun_seconds > 0
    # And an analysis that is done may wait for the ledger as long as it takes
    made.lift()
    made.check()
    assert made.overrun_seconds < 0
