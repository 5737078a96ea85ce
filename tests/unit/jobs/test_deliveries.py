"""The log of deliveries: kept in few bytes and within bounds, written by one deliverer alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from config.settings import Settings, WebhooksSettings
from tests.unit.jobs.conftest import NewJob, claim
from warmline.jobs import keys
from warmline.jobs.deliveries import Delivery, DeliveryStatus, Ending, Endpoint, Try, endpoint_id_of, pack, unpack
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import DeliveryNotFound, EndpointNotFound
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import ReportLocation

TOKEN, OTHER = "one-deliverer", "another"
A, B = (Endpoint(id=endpoint_id_of(url), url=url) for url in ("https://a/", "https://b/"))
NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
WEBHOOKS = WebhooksSettings(max_log=5)
PENDING, DELIVERED, FAILED = DeliveryStatus


@pytest.fixture
def log(settings: Settings) -> Iterator[DeliveryLedger]:
    with closing(DeliveryLedger.connect(settings.redis, settings.jobs)) as made:
        assert made.hold(TOKEN, 60, preferred=True)
        assert made.begin(TOKEN, WEBHOOKS, [A, B])
        yield made


def delivery(n: int, endpoint: Endpoint = A, **changed: object) -> Delivery:
    made = Delivery(
        id=f"{n:024x}{endpoint.id}",
        event="job.succeeded",
        subject_id="b" * 32,
        created_at=NOW + timedelta(seconds=n),
        body='{"type":"job.succeeded"}',
    )
    return made.model_copy(update=changed)


def add(log: DeliveryLedger, count: int, endpoint: Endpoint = A) -> list[Delivery]:
    made = [delivery(n, endpoint) for n in range(count)]
    assert log.add(TOKEN, endpoint.id, "5-0", made)
    return made


def end(log: DeliveryLedger, ended: Delivery, status: DeliveryStatus) -> None:
    assert log.record(TOKEN, ended.model_copy(update={"status": status}), 0, WEBHOOKS)


times = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
tries = st.builds(
    Try,
    at=times,
    seconds=st.floats(0, 1000).map(lambda seconds: round(seconds, 3)),
    status_code=st.none() | st.integers(100, 599),
    error=st.none() | st.text(max_size=50),
)


@examples(max_examples=60, deadline=None)
@given(
    st.builds(
        Delivery,
        id=st.just("a" * 32),
        event=st.text(max_size=20),
        subject_id=st.text(max_size=40),
        created_at=times,
        status=st.sampled_from(DeliveryStatus),
        tries=st.lists(tries, max_size=5).map(tuple),
        tries_made=st.integers(0, 30),
        next_try_at=st.none() | times,
        body=st.text(),
    )
)
def test_what_is_packed_is_unpacked_to_the_byte(made: Delivery) -> None:
    assert unpack(made.id, pack(made)) == made


def test_a_delivery_takes_few_bytes() -> None:
    # Given a body as they are, of which nothing but the ids and figures is new
    job_id, report = secrets.token_hex(16), f"s3://reports/v1/{secrets.token_hex(32)}.json"
    body = (
        f'{{"type":"job.succeeded","timestamp":"2026-11-23T06:29:28.312000Z","data":{{"job_id":"{job_id}","status":'
        f'"succeeded","source":{{"bucket":"calls","key":"2026/11/23/{secrets.token_hex(8)}.wav","version_id":null}},'
        f'"metadata":{{"call_id":"{secrets.randbelow(10**8)}"}},"lane":"bulk","batch_id":null,"created_at":'
        f'"2026-11-23T06:29:18.284035Z","finished_at":"2026-11-23T06:29:28.312000Z","failure":null,"report":{{"uri":'
        f'"{report}","path":"/v1/jobs/{job_id}/report"}},"summary":{{"duration_seconds":61.42,"channels":[{{"role":'
        f'"agent","emotion":"neutral","confidence":0.6132,"speech_seconds":20.1}},{{"role":"customer","emotion":'
        f'"angry","confidence":0.5512,"speech_seconds":31.3}}],"flags":[],"categories":["angry customer"],"model":'
        f'"mini","mini":true}}}}}}'
    )
    one = Try(at=NOW, seconds=0.04, status_code=200)
    made = delivery(1, body=body, subject_id=job_id, tries=(one,), tries_made=1, status=DELIVERED)
    assert len(body) > 800
    assert len(pack(made)) < 400


def test_new_ones_are_due_at_once_for_their_endpoint_alone(log: DeliveryLedger) -> None:
    made = add(log, 3)
    due = log.due({A.id: 2, B.id: 2}, ())
    assert (due[A.id].now, due[A.id].pending) == (made[:2], 3)
    assert (due[B.id].now, due[B.id].pending) == ([], 0)
    # what is under way is not given out again, and nothing where there is no room
    assert log.due({A.id: 2}, {made[0].id, made[1].id})[A.id].now == made[2:]
    assert log.due({A.id: 0}, ())[A.id].now == []
    assert log.cursors() == {A.id: "5-0", B.id: "0-0"}


def test_one_that_is_tried_later_is_not_due_until_then(log: DeliveryLedger) -> None:
    (made,) = add(log, 1)
    assert log.record(TOKEN, made, 60, WEBHOOKS)
    due = log.due({A.id: 1}, ())[A.id]
    assert due.now == []
    assert due.next_seconds is not None
    assert 0 < due.next_seconds <= 60


def test_only_the_holder_of_the_lease_writes(log: DeliveryLedger) -> None:
    (made,) = add(log, 1)
    assert not log.hold(OTHER, 60, preferred=False)
    assert not log.begin(OTHER, WEBHOOKS, [A])
    assert not log.add(OTHER, A.id, "9-0", [delivery(7)])
    assert not log.record(OTHER, made.model_copy(update={"status": FAILED}), 0, WEBHOOKS)
    assert log.get(made.id).status is PENDING
    assert log.cursors()[A.id] == "5-0"
    log.release(TOKEN)
    assert log.hold(OTHER, 60, preferred=False)
    assert not log.record(TOKEN, made, 0, WEBHOOKS)


def test_they_are_listed_newest_first_page_by_page(log: DeliveryLedger) -> None:
    made = add(log, 6)
    end(log, made[1], DELIVERED)
    end(log, made[4], FAILED)
    assert [d.id for d in log.list()] == [d.id for d in reversed(made)]
    assert [d.id for d in log.list(status=PENDING)] == [made[n].id for n in (5, 3, 2, 0)]
    assert [d.id for d in log.list(status=FAILED)] == [made[4].id]
    first = log.list(limit=4)
    second = log.list(limit=4, before=first[-1].id)
    assert [d.id for d in (*first, *second)] == [d.id for d in reversed(made)]
    with pytest.raises(DeliveryNotFound):
        log.list(before="f" * 32)
    state = log.state()
    assert (state.pending, state.delivered, state.failed) == (4, 1, 1)
    assert [(e.id, e.pending) for e in state.endpoints] == sorted([(A.id, 4), (B.id, 0)])


def test_the_log_ends_with_its_time_and_is_no_longer_than_it_may_be(log: DeliveryLedger, raw: Any) -> None:
    made = add(log, 9)
    end(log, made[0], FAILED)
    for each in made[1:8]:
        end(log, each, DELIVERED)
    # Of eight that have ended five are kept: what failed longer than what was delivered
    assert [d.id for d in log.list()] == [made[n].id for n in (8, 7, 6, 5, 4, 0)]
    assert 0 < raw.ttl(keys.delivery(made[7].id)) <= WEBHOOKS.retention_seconds
    assert raw.ttl(keys.delivery(made[8].id)) == -1  # a pending one
    raw.delete(keys.delivery(made[4].id))  # as if its time were over
    end(log, made[8], DELIVERED)
    assert made[4].id not in raw.zrange(keys.deliveries("delivered"), 0, -1)
    assert raw.zcard(keys.due(A.id)) == 0


def test_redelivered_is_due_again(log: DeliveryLedger) -> None:
    made = add(log, 4)
    for each in made[:3]:
        end(log, each, FAILED)
    end(log, made[3], DELIVERED)
    assert log.due({A.id: 9}, ())[A.id].now == []
    log.redeliver(made[3].id)
    assert [d.id for d in log.due({A.id: 9}, ())[A.id].now] == [made[3].id]
    assert log.redeliver_failed(made[1].created_at) == 2
    assert {d.id for d in log.due({A.id: 9}, ())[A.id].now} == {d.id for d in made[1:]}
    assert log.redeliver_failed() == 3
    with pytest.raises(DeliveryNotFound):
        log.redeliver("f" * 32)


def test_one_that_the_log_forgot_meanwhile_is_not_due(log: DeliveryLedger, raw: Any) -> None:
    (made,) = add(log, 1)
    end(log, made, FAILED)
    log.redeliver(made.id)
    raw.delete(keys.delivery(made.id))
    assert log.due({A.id: 9}, ())[A.id].now == []
    assert log.due({A.id: 9}, ())[A.id].pending == 0


def test_an_endpoint_that_is_not_wanted_any_more_stays_until_nothing_is_due_for_it(log: DeliveryLedger) -> None:
    (made,) = add(log, 1)
    assert log.begin(TOKEN, WEBHOOKS, [B])
    assert (set(log.endpoints()), set(log.cursors())) == ({A.id, B.id}, {B.id})
    end(log, made, FAILED)
    assert log.begin(TOKEN, WEBHOOKS, [B])
    assert set(log.endpoints()) == {B.id}
    with pytest.raises(EndpointNotFound):
        log.redeliver(made.id)


def test_what_is_disabled_stays_so_over_a_new_start(log: DeliveryLedger) -> None:
    log.set_disabled(A.id, NOW)
    assert log.begin(TOKEN, WEBHOOKS, [A, B])
    assert log.endpoints()[A.id].disabled_at == NOW
    assert log.set_disabled(A.id, None).disabled_at is None
    with pytest.raises(EndpointNotFound):
        log.set_disabled("f" * 8, NOW)


# Each endpoint's place in the stream of endings


def succeed(ledger: Ledger, new_job: NewJob, count: int) -> None:
    for _ in range(count):
        job = new_job()
        ledger.create(job)
        ledger.succeed(job.id, claim(ledger, job).attempt, ReportLocation(in_redis=True), "{}")


def waiting(log: DeliveryLedger, endpoint: Endpoint) -> list[Ending]:
    return log.endings_after(log.cursors()[endpoint.id], 100)


def test_an_ending_is_kept_until_each_endpoint_has_its_delivery(
    log: DeliveryLedger, ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    succeed(ledger, new_job, 3)
    first, second, third = waiting(log, A)
    assert waiting(log, B) == [first, second, third]
    assert log.add(TOKEN, A.id, third.place, [])
    assert (waiting(log, A), waiting(log, B)) == ([], [first, second, third])
    assert log.add(TOKEN, B.id, first.place, [])
    assert raw.xlen(keys.ENDINGS) == 2
    assert log.add(TOKEN, B.id, third.place, [])
    assert raw.xlen(keys.ENDINGS) == 0


def test_a_new_endpoint_gets_what_comes_and_one_in_another_s_place_what_that_had_not(
    log: DeliveryLedger, ledger: Ledger, new_job: NewJob
) -> None:
    assert log.begin(TOKEN, WEBHOOKS, [A])
    succeed(ledger, new_job, 3)
    first, *rest = waiting(log, A)
    assert log.add(TOKEN, A.id, first.place, [])
    assert log.begin(TOKEN, WEBHOOKS, [A, B])
    assert (waiting(log, A), waiting(log, B)) == (rest, [])
    assert log.begin(TOKEN, WEBHOOKS, [A])
    assert log.begin(TOKEN, WEBHOOKS, [B])  # as when an address is corrected
    assert waiting(log, B) == rest
