"""Workers' heartbeats against a real Redis."""

from __future__ import annotations

from typing import Any

from tests.servers import wait_until
from tests.unit.jobs.conftest import worker
from warmline.jobs import keys
from warmline.jobs.ledger import Ledger


def test_a_worker_is_alive_while_its_heart_beats(ledger: Ledger, raw: Any) -> None:
    # Given two workers, one of which stops beating
    steady, silent = worker("steady", 1), worker("silent", 0)
    ledger.beat(steady, ttl_seconds=30)
    ledger.beat(silent, ttl_seconds=0.2)
    assert {w.name for w in ledger.workers()} == {"steady", "silent"}
    # Then it is gone, and forgotten
    wait_until(lambda: ledger.workers() == (steady,), "the silent one is gone", seconds=5)
    assert raw.zrange(keys.WORKERS, 0, -1) == ["steady"]
    # And one that leaves is gone at once
    ledger.leave("steady")
    assert ledger.workers() == ()
