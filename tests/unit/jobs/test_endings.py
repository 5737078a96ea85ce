"""Endings: whoever is to be told finds each one, however a job or a batch ended; nobody else pays for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from config.settings import Settings, WebhooksSettings
from tests.unit.jobs.conftest import NewJob, calls, claim
from warmline.jobs import keys
from warmline.jobs.deliveries import Endpoint
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.ledger import Ledger
from warmline.jobs.reconcile_ledger import ReconcileLedger
from warmline.jobs.records import Failure, Job, ReportLocation
from warmline.jobs.submission import submit_batch
from warmline.local.checks import services

TOKEN = "the-deliverer"
BAD = Failure(code="not_audio", message="The content is not audio.")
FLAKY = Failure(code="store_unavailable", message="The object store does not answer.")
HERE = ReportLocation(in_redis=True)
ENDPOINT = Endpoint(id="0" * 8, url="https://receiver/")

Told = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def deliveries(settings: Settings) -> Iterator[DeliveryLedger]:
    with closing(DeliveryLedger.connect(settings.redis, settings.jobs)) as made:
        yield made


@pytest.fixture
def listening(deliveries: DeliveryLedger) -> None:
    assert deliveries.hold(TOKEN, 60, preferred=True)
    assert deliveries.begin(TOKEN, WebhooksSettings(), [ENDPOINT])


@pytest.fixture
def told(deliveries: DeliveryLedger, listening: None) -> Told:
    """The endings so far: (event, id)."""
    return lambda: [(e.event, e.subject_id) for e in deliveries.endings_after("0-0", 10_000)]


def succeed(ledger: Ledger, job: Job) -> None:
    assert ledger.succeed(job.id, claim(ledger, job).attempt, HERE, "{}")


def fail(ledger: Ledger, job: Job) -> None:
    assert ledger.fail(job.id, claim(ledger, job).attempt, BAD)


def die_of_faults(ledger: Ledger, job: Job) -> None:
    for _ in range(3):
        ledger.retry(job.id, claim(ledger, job).attempt, FLAKY, delay_seconds=0)


def die_of_losses(ledger: Ledger, job: Job) -> None:
    for n in range(2):
        claim(ledger, job, f"w/{n}")
        assert ledger.lost_holder(f"w/{n}") == job.id


def die_of_expired_leases(ledger: Ledger, job: Job) -> None:
    for n in range(2):
        claim(ledger, job, f"w/{n}")
        ledger._redis.zadd(keys.LEASES, {job.id: 1})  # long ago
        assert ledger.lose_expired() == (job.id,)


def cancel_waiting(ledger: Ledger, job: Job) -> None:
    ledger.cancel(job.id)


def cancel_running(ledger: Ledger, job: Job) -> None:
    attempt = claim(ledger, job).attempt
    ledger.cancel(job.id)
    assert ledger.cancelled(job.id, attempt)


def cancel_before_a_retry(ledger: Ledger, job: Job) -> None:
    attempt = claim(ledger, job).attempt
    ledger.cancel(job.id)
    assert ledger.retry(job.id, attempt, FLAKY, delay_seconds=0) == "cancelled"


def cancel_when_handed_back(ledger: Ledger, job: Job) -> None:
    attempt = claim(ledger, job).attempt
    ledger.cancel(job.id)
    assert ledger.hand_back(job.id, attempt)


def settle(ledger: Ledger, job: Job) -> None:
    ledger.hand_back(job.id, claim(ledger, job).attempt)  # it waits for another attempt
    reconciling = ReconcileLedger(ledger._redis, ledger._jobs)
    assert reconciling.settle(job, HERE)


WAYS = {
    succeed: "succeeded",
    fail: "failed",
    die_of_faults: "dead",
    die_of_losses: "dead",
    die_of_expired_leases: "dead",
    cancel_waiting: "cancelled",
    cancel_running: "cancelled",
    cancel_before_a_retry: "cancelled",
    cancel_when_handed_back: "cancelled",
    settle: "succeeded",
}


@pytest.mark.parametrize("end", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_end_is_told_once(
    ledger: Ledger, new_job: NewJob, told: Told, deliveries: DeliveryLedger, end: Callable[[Ledger, Job], None]
) -> None:
    job = new_job()
    ledger.create(job)
    end(ledger, job)
    status = WAYS[end]
    assert ledger.get(job.id).status == status
    assert told() == [(f"job.{status}", job.id)]
    (ending,) = deliveries.endings_after("0-0", 10)
    finished_at = ledger.get(job.id).finished_at
    assert finished_at is not None
    assert abs((ending.at - finished_at).total_seconds()) < 10  # of one clock, or nearly
    assert bool(ending.more) == (status in {"failed", "dead"})
    if ending.more:
        assert json.loads(ending.more) == ledger.get(job.id).failure.model_dump()  # type: ignore[union-attr]


@pytest.mark.parametrize("end", WAYS, ids=lambda way: way.__name__)
def test_the_last_of_a_batch_tells_of_the_batch_after_it(
    ledger: Ledger, told: Told, deliveries: DeliveryLedger, end: Callable[[Ledger, Job], None]
) -> None:
    batch = submit_batch(ledger, calls(2))
    last, first = ledger.list(batch_id=batch.id)
    succeed(ledger, first.job)
    end(ledger, last.job)
    status = WAYS[end]
    assert told() == [
        ("job.succeeded", first.job.id), (f"job.{status}", last.job.id), ("batch.finished", batch.id),
    ]  # fmt: skip
    state = ledger.batch(batch.id)
    counts = f"2 {state.succeeded} {state.failed} {state.cancelled} {state.dead}"
    assert deliveries.endings_after("0-0", 10)[-1].more == counts


def test_nothing_is_told_while_a_job_goes_on(ledger: Ledger, new_job: NewJob, told: Told) -> None:
    job = new_job()
    ledger.create(job)
    ledger.hand_back(job.id, claim(ledger, job).attempt)
    ledger.retry(job.id, claim(ledger, job).attempt, FLAKY, delay_seconds=0)
    claim(ledger, job)
    ledger.lost_holder("w/1")
    assert told() == []


def test_a_replayed_job_is_told_of_again_and_so_is_its_batch(ledger: Ledger, told: Told) -> None:
    batch = submit_batch(ledger, calls(1))
    (state,) = ledger.list(batch_id=batch.id)
    fail(ledger, state.job)
    ledger.replay(state.job.id)
    succeed(ledger, state.job)
    assert [event for event, _ in told()] == ["job.failed", "batch.finished", "job.succeeded", "batch.finished"]


def test_jobs_that_are_cancelled_where_they_wait_in_a_batch_are_told_of_by_the_batch(
    ledger: Ledger, told: Told
) -> None:
    batch = submit_batch(ledger, calls(100))
    running = ledger.list(batch_id=batch.id)[-1].job
    attempt = claim(ledger, running).attempt
    ledger.cancel_batch(batch.id)
    assert told() == []  # one runs
    ledger.cancelled(running.id, attempt)
    assert told() == [("job.cancelled", running.id), ("batch.finished", batch.id)]
    untouched = submit_batch(ledger, calls(100))
    ledger.cancel_batch(untouched.id)
    assert told()[2:] == [("batch.finished", untouched.id)]


def test_where_nobody_is_told_nothing_is_written(ledger: Ledger, new_job: NewJob, raw: Any) -> None:
    job = new_job()
    ledger.create(job)
    succeed(ledger, job)
    assert not raw.exists(keys.ENDINGS, keys.LISTENED)


def test_only_the_events_that_were_chosen_are_written(
    ledger: Ledger, new_job: NewJob, told: Told, deliveries: DeliveryLedger
) -> None:
    assert deliveries.begin(TOKEN, WebhooksSettings(events=("job.failed",)), [ENDPOINT])
    one, other = new_job(), new_job()
    for job in (one, other):
        ledger.create(job)
    succeed(ledger, one)
    fail(ledger, other)
    assert told() == [("job.failed", other.id)]


def test_of_too_many_the_oldest_go_and_are_counted(
    ledger: Ledger, new_job: NewJob, told: Told, deliveries: DeliveryLedger
) -> None:
    assert deliveries.begin(TOKEN, WebhooksSettings(max_waiting=3), [ENDPOINT])
    jobs = [new_job() for _ in range(5)]
    for job in jobs:
        ledger.create(job)
        succeed(ledger, job)
    assert [job_id for _, job_id in told()] == [job.id for job in jobs[2:]]
    assert (deliveries.state().waiting, deliveries.state().dropped) == (3, 2)


def test_what_is_switched_off_stays_so_and_not_while_somebody_delivers(
    ledger: Ledger, new_job: NewJob, told: Told, deliveries: DeliveryLedger, raw: Any
) -> None:
    first, second = new_job(), new_job()
    for job in (first, second):
        ledger.create(job)
    succeed(ledger, first)
    assert deliveries.switch_off() is None
    assert len(told()) == 1
    deliveries.release(TOKEN)
    assert (deliveries.switch_off(), deliveries.switch_off()) == (1, -1)
    succeed(ledger, second)
    assert not raw.exists(keys.ENDINGS, keys.LISTENED, keys.CURSORS)


def test_the_doctor_says_who_is_told_and_whether_somebody_delivers(
    settings: Settings, deliveries: DeliveryLedger
) -> None:
    def findings(settings: Settings) -> list[tuple[str, str]]:
        return [(finding.verdict, finding.message) for finding in services.webhooks(settings)]

    assert findings(settings) == []
    urls = settings.webhooks.model_copy(update={"urls": ("https://receiver/",)})
    ((verdict, message),) = findings(settings.model_copy(update={"webhooks": urls}))
    assert (verdict, message) == ("warn", "addresses are set, and nobody is told")
    deliveries.hold(TOKEN, 60, preferred=True)
    deliveries.begin(TOKEN, urls, [ENDPOINT])
    assert findings(settings) == [("ok", "addresses: 1; 0 pending, 0 failed, 0 wait")]
    deliveries.set_disabled(ENDPOINT.id, datetime.now(UTC))
    assert findings(settings) == [("warn", "addresses: 1; 0 pending, 0 failed, 0 wait; one answered 410 Gone")]
    deliveries.release(TOKEN)
    assert findings(settings) == [("warn", "addresses: 1; 0 pending, 0 failed, 0 wait; nobody delivers")]


def test_who_waits_for_an_ending_hears_it(
    ledger: Ledger, new_job: NewJob, deliveries: DeliveryLedger, listening: None
) -> None:
    job = new_job()
    ledger.create(job)
    place = deliveries.last_place()
    began = time.monotonic()
    assert not deliveries.wait_for_endings(place, 0.1)
    assert time.monotonic() - began >= 0.1
    succeed(ledger, job)
    assert deliveries.wait_for_endings(place, 5)
    assert not deliveries.wait_for_endings(deliveries.last_place(), 0.05)
