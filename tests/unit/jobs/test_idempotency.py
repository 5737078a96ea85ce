"""Requests that are sent twice and done once, against a real Redis: whatever dies, waits or races in between."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier
from typing import Any

import pytest

from config.settings import JobsSettings, Settings
from tests.servers import wait_until
from tests.unit.jobs.conftest import calls
from warmline.jobs import keys
from warmline.jobs.batch_ids import new_batch_id
from warmline.jobs.errors import (
    BacklogFull,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidRequest,
    StoreUnavailable,
)
from warmline.jobs.idempotency import Once
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Source
from warmline.jobs.submission import submit_batch_once, submit_job_once

CALL = Source(bucket="calls", key="a.wav")
ONCE = Once.of("first of May", "/v1/jobs", b'{"a": 1}')
AT_ONCE = 20


def remembered(raw: Any) -> list[str]:
    """What Redis knows of requests with a key."""
    return [raw.get(key) for key in raw.keys(f"{keys.REQUEST}*")]


def ledger_with(settings: Settings, **jobs: int) -> Ledger:
    return Ledger.connect(settings.redis, JobsSettings(**jobs))  # type: ignore[arg-type]


# One job


def test_the_same_request_again_is_the_same_job(ledger: Ledger, raw: Any) -> None:
    first = submit_job_once(ledger, ONCE, CALL)
    again = submit_job_once(ledger, ONCE, CALL)
    assert (first.replayed, again.replayed, again.id) == (False, True, first.id)
    assert [state.job.id for state in ledger.list()] == [first.id]
    # and it is forgotten by itself, after as long as the settings say
    (name,) = raw.keys(f"{keys.REQUEST}*")
    assert 86_000 < raw.ttl(name) <= 86_400


def test_requests_without_a_key_or_with_others_are_jobs_of_their_own(ledger: Ledger) -> None:
    others = [Once.of(key, "/v1/jobs", b"") for key in ("a", "A", "a ")]
    made = [submit_job_once(ledger, once, CALL) for once in (None, None, *others)]
    assert len({one.id for one in made}) == 5
    assert not any(one.replayed for one in made)


@pytest.mark.parametrize(
    "other",
    [
        Once.of("first of May", "/v1/jobs", b'{"a": 2}'),
        Once.of("first of May", "/v1/jobs", b'{"a": 1} '),
        Once.of("first of May", "/v1/batches", b'{"a": 1}'),
    ],
    ids=["another call", "another spelling", "another address"],
)
def test_another_request_with_the_same_key_is_refused(ledger: Ledger, raw: Any, other: Once) -> None:
    submit_job_once(ledger, ONCE, CALL)
    known = remembered(raw)
    with pytest.raises(IdempotencyKeyReused):
        submit_job_once(ledger, other, CALL)
    with pytest.raises(IdempotencyKeyReused):
        submit_batch_once(ledger, other, [CALL])
    assert len(ledger.list()) == 1
    assert ledger.batches() == ()
    assert remembered(raw) == known


def test_twenty_at_once_are_one_job(ledger: Ledger) -> None:
    start = Barrier(AT_ONCE)

    def submit(_: int) -> tuple[str, bool]:
        start.wait(60)
        made = submit_job_once(ledger, ONCE, CALL)
        return made.id, made.replayed

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(submit, range(AT_ONCE)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * (AT_ONCE - 1)
    assert len(ledger.list()) == 1


def test_a_script_that_is_run_again_because_its_answer_was_lost_has_made_a_new_job(
    ledger: Ledger, raw: Any
) -> None:
    # Given a client of Redis that asks again, under the same id, when the connection broke
    made = submit_job_once(ledger, ONCE, CALL)
    job = ledger.get(made.id).job
    again = ledger.create_once(job, ONCE)
    # Then this request has made the job, and no earlier one
    assert (again.id, again.replayed) == (made.id, False)
    assert raw.hget(keys.WAITING, "live") == "1"


def test_after_its_time_the_same_request_is_a_new_one(settings: Settings, raw: Any) -> None:
    with closing(ledger_with(settings, idempotency_seconds=1)) as ledger:
        first = submit_job_once(ledger, ONCE, CALL)
        batch = submit_batch_once(ledger, Once.of("b", "/v1/batches", b""), calls(2))
        wait_until(lambda: not remembered(raw), "both are forgotten")
        assert submit_job_once(ledger, ONCE, CALL).id != first.id
        assert submit_batch_once(ledger, Once.of("b", "/v1/batches", b""), calls(2)).id != batch.id


def test_what_was_refused_is_not_remembered_and_what_was_accepted_is_even_where_no_more_may_wait(
    settings: Settings, raw: Any
) -> None:
    with closing(ledger_with(settings, max_backlog=1)) as ledger:
        first = submit_job_once(ledger, ONCE, CALL)
        for other in (Once.of("2", "/v1/jobs", b""), Once.of("3", "/v1/jobs", b"")):
            with pytest.raises(BacklogFull):
                submit_job_once(ledger, other, CALL)
            with pytest.raises(BacklogFull):
                submit_batch_once(ledger, other, [CALL])
        assert submit_job_once(ledger, ONCE, CALL).id == first.id
        assert len(remembered(raw)) == 1
        # and with room again, it is accepted under its key
        ledger.cancel(first.id)
        assert not submit_job_once(ledger, Once.of("2", "/v1/jobs", b""), CALL).replayed


def test_a_key_of_any_length_takes_the_same_room_and_is_not_to_be_read(ledger: Ledger, raw: Any) -> None:
    for key in ("x", "x" * 255, "secret of mine"):
        submit_job_once(ledger, Once.of(key, "/v1/jobs", b"x" * 1000), CALL)
    names = raw.keys(f"{keys.REQUEST}*")
    assert len({len(name) for name in names}) == 1
    assert not any("secret" in text for text in (*names, *remembered(raw)))
    assert max(raw.memory_usage(name) for name in names) < 300


# A batch


def test_the_same_batch_again_is_the_same_batch_and_no_call_is_read(ledger: Ledger) -> None:
    once = Once.of("b", "/v1/batches", b"")
    first = submit_batch_once(ledger, once, calls(2_500))

    def unread() -> Iterator[Source]:
        pytest.fail("a call was read")
        yield CALL

    again = submit_batch_once(ledger, once, unread())
    assert (first.total, first.replayed) == (2_500, False)
    assert (again.id, again.total, again.replayed) == (first.id, 2_500, True)
    assert [state.id for state in ledger.batches()] == [first.id]


def test_while_a_batch_is_written_down_the_same_request_is_told_to_come_again(ledger: Ledger, raw: Any) -> None:
    # Given a batch whose calls come slowly
    once = Once.of("b", "/v1/batches", b"")
    met: list[type[Exception]] = []

    def slowly() -> Iterator[Source]:
        for place, call in enumerate(calls(2_500)):
            if place in {0, 1_500, 2_400}:
                for other in (once, Once.of("b", "/v1/batches", b"other")):
                    with pytest.raises((IdempotencyKeyInUse, IdempotencyKeyReused)) as refusal:
                        submit_batch_once(ledger, other, [CALL])
                    met.append(refusal.type)
                # as long as it is heard of
                (name,) = raw.keys(f"{keys.REQUEST}*")
                assert raw.ttl(name) > 0
                raw.expire(name, 10_000)
            yield call

    made = submit_batch_once(ledger, once, slowly())
    assert met == [IdempotencyKeyInUse, IdempotencyKeyReused] * 3
    assert submit_batch_once(ledger, once, []).id == made.id
    assert len(ledger.batches()) == 1


def test_a_batch_that_is_written_down_says_so_with_each_part(ledger: Ledger, raw: Any) -> None:
    lives: list[int] = []

    def slowly() -> Iterator[Source]:
        for place, call in enumerate(calls(2_500)):
            (name,) = raw.keys(f"{keys.REQUEST}*")
            if place in {10, 1_010}:
                raw.expire(name, 10_000)  # a life that no part of it gives
            if place in {1_005, 2_005}:
                lives.append(raw.ttl(name))
            yield call

    submit_batch_once(ledger, Once.of("b", "/v1/batches", b""), slowly())
    assert len(lives) == 2
    assert max(lives) <= 20


def test_one_that_was_not_heard_of_for_too_long_makes_nothing_beside_the_one_that_began_anew(
    ledger: Ledger, raw: Any
) -> None:
    # Given a request that is forgotten while its calls are read, and the same request again
    once, second = Once.of("b", "/v1/batches", b""), []

    def slowly() -> Iterator[Source]:
        yield from calls(1_500)
        raw.delete(*raw.keys(f"{keys.REQUEST}*"))
        second.append(submit_batch_once(ledger, once, calls(7)))
        yield CALL

    first = submit_batch_once(ledger, once, slowly())
    # Then both get the one batch that there is, and nothing else is left
    assert (first.id, first.total, first.replayed) == (second[0].id, 7, True)
    assert [state.id for state in ledger.batches()] == [first.id]
    assert raw.keys(f"{keys.CALLS}*") == [keys.calls(first.id)]
    assert raw.hget(keys.WAITING, "bulk") == "7"
    (name,) = raw.keys(f"{keys.REQUEST}*")
    assert raw.ttl(name) > 86_000


def test_twenty_batches_at_once_are_one(ledger: Ledger, raw: Any) -> None:
    once, start = Once.of("b", "/v1/batches", b""), Barrier(AT_ONCE)

    def submit(_: int) -> str:
        start.wait(60)
        try:
            return submit_batch_once(ledger, once, calls(1_500)).id
        except IdempotencyKeyInUse:
            return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = set(pool.map(submit, range(AT_ONCE)))
    (made,) = answers - {""}
    assert [state.id for state in ledger.batches()] == [made]
    assert raw.keys(f"{keys.CALLS}*") == [keys.calls(made)]
    assert submit_batch_once(ledger, once, []).id == made


@pytest.mark.parametrize("calls_before", [0, 1, 1_500])
def test_a_batch_that_fails_may_be_sent_again_at_once(ledger: Ledger, raw: Any, calls_before: int) -> None:
    once = Once.of("b", "/v1/batches", b"")

    def broken() -> Iterator[Source]:
        yield from calls(calls_before)
        raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        submit_batch_once(ledger, once, broken())
    with pytest.raises(InvalidRequest):
        submit_batch_once(ledger, once, [])
    assert not raw.keys(f"{keys.CALLS}*")
    assert remembered(raw) == []
    assert not submit_batch_once(ledger, once, calls(3)).replayed


def test_one_that_died_in_the_middle_is_forgotten_soon(ledger: Ledger, raw: Any) -> None:
    once = Once.of("b", "/v1/batches", b"")
    ledger.begin_batch(new_batch_id(), once)  # and is never heard of again
    with pytest.raises(IdempotencyKeyInUse):
        submit_batch_once(ledger, once, [CALL])
    (name,) = raw.keys(f"{keys.REQUEST}*")
    assert 0 < raw.ttl(name) <= 20
    raw.pexpire(name, 1)
    wait_until(lambda: not remembered(raw), "it is forgotten")
    assert not submit_batch_once(ledger, once, [CALL]).replayed
