"""What the broker forgets is sent again within a minute, and what merely waits is not doubled."""

from __future__ import annotations

import pytest

from tests.chaos.forgotten import AGAIN_SECONDS, Forgotten, run_forgotten


def check(outcome: Forgotten) -> None:
    """What holds after any number of kills."""
    assert outcome.statuses == {"succeeded": outcome.jobs}
    # A message that was taken and lost is sent again within a minute, and nothing is sent again for nothing
    assert outcome.to_run_again
    assert max(outcome.to_run_again) < AGAIN_SECONDS
    assert outcome.sent_again >= len(outcome.to_run_again)
    # No job is doubled: neither in the queue nor in its work
    assert outcome.most_messages <= 1
    assert outcome.published_twice == 0
    assert not outcome.left


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_broker_forgets_no_job_and_doubles_none() -> None:
    check(run_forgotten(kills=3, backlog=150, thefts=2))
