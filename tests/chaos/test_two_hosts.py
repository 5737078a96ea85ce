"""A host that is cut off loses its jobs to another, is not heard when it is back, and works again by itself."""

from __future__ import annotations

import pytest

from tests.chaos.two_hosts import LEASE_SECONDS, run_two_hosts

SWEEP_SECONDS = 25.0  # a lease's end is noticed, and the other host has to have a child free


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cut_link_moves_the_jobs_and_the_late_report_is_refused() -> None:
    outcome = run_two_hosts()
    # Every job that was cut off ran elsewhere when its lease was over
    assert len(outcome.elsewhere_after) == outcome.cut_off > 0
    assert max(outcome.elsewhere_after) < LEASE_SECONDS + SWEEP_SECONDS
    # The late report was refused, and the host went on to other jobs
    assert outcome.superseded >= 1
    assert set(outcome.statuses) == {"succeeded"}
    assert outcome.published_twice == 0
