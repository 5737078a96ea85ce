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
    wait_until(lambda: ledger.workers() == (steady,), "the silent one is gone")
    assert raw.zrange(keys.WORKERS, 0, -1) == ["steady"]
    # And one that leaves is gone at once
    ledger.leave("steady")
    assert ledger.workers() == ()


def test_one_that_falls_silent_is_remembered_for_a_while(ledger: Ledger, raw: Any) -> None:
    # Given a worker that stops beating
    state = worker("silent", 1)
    ledger.beat(state, ttl_seconds=0.2, remembered_seconds=60)
    # Then it is missing, with what it said last and how long that was ago
    wait_until(lambda: ledger.workers() == (), "it counts as alive no more")
    (missing,) = ledger.silent()
    assert missing.worker == state
    assert 0.2 <= missing.seconds < 30
    # And forgotten at last
    assert 30_000 < raw.pttl(keys.last_beat("silent")) <= 60_200
    raw.pexpire(keys.last_beat("silent"), 1)
    wait_until(lambda: ledger.silent() == (), "it is forgotten")
    assert raw.keys("*last-beat*") == []
    assert raw.zrange(keys.WORKERS, 0, -1) == []


def test_one_that_beats_again_is_missing_no_more(ledger: Ledger) -> None:
    state = worker("back", 1)
    ledger.beat(state, ttl_seconds=0.001, remembered_seconds=30)
    wait_until(lambda: bool(ledger.silent()), "it is missing")
    ledger.beat(state, ttl_seconds=30, remembered_seconds=30)
    assert ledger.everyone() == ((state,), ())


def test_one_that_leaves_is_not_missing(ledger: Ledger, raw: Any) -> None:
    ledger.beat(worker("gone", 1), ttl_seconds=30, remembered_seconds=30)
    ledger.leave("gone")
    assert ledger.everyone() == ((), ())
    assert raw.keys("*worker:*") + raw.keys("*last-beat*") == []


def test_one_that_was_told_to_end_is_not_missing_however_it_ended(ledger: Ledger, raw: Any) -> None:
    # Given a worker that drains, as before a machine is taken away or a fleet shrinks
    state = worker("drains", 1).model_copy(update={"draining": True})
    ledger.beat(state, ttl_seconds=0.001, remembered_seconds=30)
    # When it is killed, or its host is gone, before it could take its leave, then nobody misses it
    wait_until(lambda: raw.exists(keys.worker("drains")) == 0, "it beats no more")
    assert raw.exists(keys.last_beat("drains")) == 1
    assert ledger.everyone() == ((), ())
    assert raw.zrange(keys.WORKERS, 0, -1) == []
    # And if it beats again it is there again
    ledger.beat(state, ttl_seconds=30, remembered_seconds=30)
    assert ledger.everyone() == ((state,), ())
    # But one that ends because it had to give up drains on its way, and is missing
    ledger.give_up(state.model_copy(update={"ended_because": "no such model"}), remembered_seconds=30)
    assert [each.worker.name for each in ledger.silent()] == ["drains"]


def test_one_that_gives_up_is_missing_at_once(ledger: Ledger) -> None:
    state = worker("broken", 1)
    ledger.beat(state, ttl_seconds=30, remembered_seconds=30)
    ended = state.model_copy(update={"ended_because": "no such model"})
    ledger.give_up(ended, remembered_seconds=30)
    assert ledger.workers() == ()
    assert [each.worker for each in ledger.silent()] == [ended]


def test_a_host_whose_clock_is_wrong_is_no_matter(ledger: Ledger) -> None:
    # Given a worker that believes it is yesterday
    state = worker("late", 1)
    state = state.model_copy(update={"seen_at": state.seen_at.replace(year=2020)})
    ledger.beat(state, ttl_seconds=0.2, remembered_seconds=30)
    # Then it is alive as long as any other, and as long ago when it is silent
    assert ledger.workers() == (state,)
    wait_until(lambda: bool(ledger.silent()), "it is missing")
    assert ledger.silent()[0].seconds < 5
