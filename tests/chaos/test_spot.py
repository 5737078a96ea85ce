"""Machines that may be taken away: one vanishes, one is given notice, and every job still ends, once."""

from __future__ import annotations

import pytest

from tests.chaos.spot import CHILDREN, LEASE_SECONDS, NOTICE_SECONDS, SpotLoss, run_spot_loss

REPORTED_SECONDS = 90.0  # what is promised; here it beats every second
SWEEP_SECONDS = 10.0  # the sweeper looks every few seconds; this machine may be busy


def check(outcome: SpotLoss, *, short: int, long: int) -> None:
    """What must be so whatever was taken away. Raises AssertionError."""
    # Every job ended, once
    assert outcome.jobs == short + 2 * long
    assert outcome.statuses == {"succeeded": outcome.jobs}
    assert outcome.lost == []
    assert outcome.published_twice == 0
    assert outcome.left == {}
    # What had vanished with its host was known to be lost when its lease was over, and ran again
    assert len(outcome.noticed_after) == len(outcome.again_after) == outcome.vanished_with >= 1
    assert LEASE_SECONDS / 2 < max(outcome.noticed_after) < LEASE_SECONDS + SWEEP_SECONDS
    # Its worker was reported, and no other: those that are told to end say that they do
    assert outcome.missing_after < REPORTED_SECONDS
    assert outcome.missing == 1
    # The host that was given notice was gone well before its time, and lost nothing
    assert outcome.noticed_with >= 1
    assert outcome.gone_after < NOTICE_SECONDS
    assert set(outcome.exit_codes) == {0}
    assert outcome.vanished_with <= outcome.outcomes["lost"] <= CHILDREN


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_spot_machines_that_go_take_no_job_with_them() -> None:
    check(run_spot_loss(short=60, long=4), short=60, long=4)
