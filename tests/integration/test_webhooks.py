"""Webhooks from the end of a job to the receiver: nothing is lost, nobody waits for another, all is in the log."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from config.settings import GeneralSettings, RedisSettings, S3Settings, Settings, WebhooksSettings
from tests.deliverer_process import start_deliverer
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.made_reports import made_side, make_report
from tests.servers import wait_until
from tests.webhook_receiver import SECRET, Receiver, running_receiver
from warmline.jobs import keys
from warmline.jobs.deliveries import Delivery, DeliveryStatus, endpoint_id_of
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Job, JobState, ReportLocation, Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.objects.store import ObjectStore
from warmline.webhooks.deliverer import Deliverer

HERE = ReportLocation(in_redis=True)
REPORT = make_report(
    made_side("agent", windows=[(0, 4000, {"neutral": 0.8})]),
    made_side("customer", windows=[(5000, 9000, {"angry": 0.7})]),
    duration_ms=10_000,
).model_dump_json()

Start = Callable[..., Deliverer]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def start(redis_url: str, s3_settings: S3Settings) -> Iterator[Start]:
    """Starts a deliverer for these receivers, with quick retries; what else is given are settings of webhooks."""
    running: list[Deliverer] = []

    def make(
        *receivers: Receiver, preferred: bool = True, s3: S3Settings = s3_settings, **more: object
    ) -> Deliverer:
        settings = make_settings(redis_url, *receivers, **more).model_copy(update={"s3": s3})
        deliverer = Deliverer(settings, preferred=preferred)
        running.append(deliverer)
        deliverer.start()
        return deliverer

    yield make
    for deliverer in running:
        deliverer.stop()


def make_settings(redis_url: str, *receivers: Receiver, **more: object) -> Settings:
    webhooks = {
        "urls": tuple(receiver.url for receiver in receivers),
        "secrets": (SecretStr(SECRET),),
        "allow_private": True,
        "retry_seconds": 0.02,
        "max_retry_seconds": 0.05,
        "timeout_seconds": 20,
    }
    return Settings(
        redis=RedisSettings(url=SecretStr(redis_url), timeout_seconds=20),
        webhooks=WebhooksSettings.model_validate(webhooks | more),
    )


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    settings = make_settings(redis_url)
    with closing(Ledger.connect(settings.redis, settings.jobs)) as made:
        yield made


@pytest.fixture
def deliveries(redis_url: str) -> Iterator[DeliveryLedger]:
    settings = make_settings(redis_url)
    with closing(DeliveryLedger.connect(settings.redis, settings.jobs)) as made:
        yield made


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    with closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


def listened(deliveries: DeliveryLedger) -> None:
    wait_until(lambda: bool(deliveries.state().events), "somebody listens")


def succeed(ledger: Ledger, job: Job, location: ReportLocation = HERE, report: str | None = REPORT) -> str:
    claimed = ledger.claim(job, "w/1")
    assert isinstance(claimed, JobState)
    assert ledger.succeed(job.id, claimed.attempt, location, report)
    return job.id


def end_jobs(ledger: Ledger, count: int) -> list[str]:
    """So many jobs, ended well."""
    source = Source(bucket="calls", key="a.wav")
    new = (
        Job(id=uuid.uuid4().hex, source=source, metadata={"n": str(n)}, created_at=datetime.now(UTC))
        for n in range(count)
    )
    return [succeed(ledger, job) for job in new]


def only(deliveries: DeliveryLedger, status: DeliveryStatus) -> Delivery:
    """The log's one delivery, once it has this status."""
    wait_until(lambda: [d.status for d in deliveries.list()] == [status], f"it is {status}")
    return deliveries.list()[0]


def test_a_job_and_its_batch_are_told_of_with_a_summary(
    start: Start, receiver: Receiver, ledger: Ledger, deliveries: DeliveryLedger
) -> None:
    start(receiver)
    listened(deliveries)
    batch = submit_batch(ledger, [Source(bucket="calls", key="one.wav")], metadata={"agent": "7"})
    (state,) = ledger.list(batch_id=batch.id)
    succeed(ledger, state.job)
    wait_until(lambda: len(receiver.taken) == 2, "both are told")
    events = {taken.event["type"]: taken.event["data"] for taken in receiver.taken}
    job = events["job.succeeded"]
    assert (job["job_id"], job["batch_id"], job["metadata"]) == (state.job.id, batch.id, {"agent": "7"})
    assert [channel["emotion"] for channel in job["summary"]["channels"]] == ["neutral", "angry"]
    assert (events["batch.finished"]["batch_id"], events["batch.finished"]["succeeded"]) == (batch.id, 1)
    wait_until(lambda: deliveries.state().delivered == 2, "both are in the log")
    assert deliveries.state().waiting == deliveries.state().pending == 0


def test_a_receiver_that_fails_is_asked_again_under_the_same_id(
    start: Start, receiver: Receiver, ledger: Ledger, deliveries: DeliveryLedger
) -> None:
    receiver.statuses = [500, 302, 404, 200]
    start(receiver)
    listened(deliveries)
    end_jobs(ledger, 1)
    done = only(deliveries, DeliveryStatus.DELIVERED)
    assert [one.status_code for one in done.tries] == [500, 302, 404, 200]
    assert receiver.ids == {done.webhook_id: 4}
    assert {taken.body for taken in receiver.taken} == {done.body.encode()}
    assert [taken.event["type"] for taken in receiver.taken] == ["job.succeeded"] * 4


def test_one_that_is_given_up_is_in_the_log_and_can_be_redelivered(
    start: Start, receiver: Receiver, ledger: Ledger, deliveries: DeliveryLedger
) -> None:
    receiver.status = 500
    start(receiver, max_attempts=3)
    listened(deliveries)
    end_jobs(ledger, 1)
    failed = only(deliveries, DeliveryStatus.FAILED)
    assert (len(failed.tries), failed.tries_made, failed.next_try_at) == (3, 3, None)
    assert failed.tries[0].error == "The receiver answered 500."
    deliveries.redeliver(failed.id)  # fails three times more
    wait_until(lambda: len(deliveries.get(failed.id).tries) == 6, "it is tried again")
    only(deliveries, DeliveryStatus.FAILED)
    receiver.status = 200
    assert deliveries.redeliver_failed() == 1
    done = only(deliveries, DeliveryStatus.DELIVERED)
    assert (len(done.tries), done.tries_made) == (7, 1)
    assert set(receiver.ids) == {done.webhook_id}


def test_a_receiver_that_is_gone_gets_nothing_until_it_is_enabled(
    start: Start, receiver: Receiver, other: Receiver, ledger: Ledger, deliveries: DeliveryLedger
) -> None:
    receiver.status = 410
    start(receiver, other)
    listened(deliveries)
    end_jobs(ledger, 1)
    endpoint_id = endpoint_id_of(receiver.url)
    wait_until(lambda: deliveries.endpoints()[endpoint_id].disabled_at is not None, "it is disabled")
    receiver.status = 200
    end_jobs(ledger, 3)
    wait_until(lambda: len(other.taken) == 4, "the other one has all")
    deliveries.set_disabled(endpoint_id, None)
    later: list[str] = []

    def is_told() -> bool:  # the deliverer knows at its next look
        later.extend(end_jobs(ledger, 1))
        return len(receiver.taken) >= 2

    wait_until(is_told, "it is told again", interval_seconds=0.3)
    assert {taken.event["data"]["job_id"] for taken in receiver.taken[1:]} <= set(later)
    assert deliveries.state().failed == 1  # what ended meanwhile is none of its deliveries


def test_one_that_does_not_answer_holds_up_nobody(
    start: Start, receiver: Receiver, other: Receiver, ledger: Ledger, deliveries: DeliveryLedger
) -> None:
    receiver.answers.clear()
    start(receiver, other, concurrency=4, timeout_seconds=30)
    listened(deliveries)
    end_jobs(ledger, 40)
    wait_until(lambda: len(other.taken) == 40, "the other one has all")
    assert (len(receiver.taken), receiver.most_at_once) == (2, 2)
    receiver.answers.set()
    wait_until(lambda: len(receiver.taken) == 40, "and so has the slow one, in the end")
    assert other.most_at_once <= 2


def test_one_at_a_time_delivers_and_another_follows_it(
    start: Start, receiver: Receiver, ledger: Ledger, deliveries: DeliveryLedger
) -> None:
    worker = start(receiver, preferred=False)
    listened(deliveries)
    api = start(receiver)
    time.sleep(1.5)  # the worker's stands back at its next look
    end_jobs(ledger, 20)
    wait_until(lambda: deliveries.state().delivered == 20, "all are delivered")
    api.stop()
    end_jobs(ledger, 20)
    wait_until(lambda: deliveries.state().delivered == 40, "all are delivered")
    assert set(receiver.ids.values()) == {1}
    worker.stop()
    (late,) = end_jobs(ledger, 1)
    assert deliveries.state().waiting == 1  # for the next one
    start(receiver, preferred=False)
    wait_until(lambda: len(receiver.taken) == 41, "the next one tells it")
    assert receiver.taken[-1].event["data"]["job_id"] == late


def test_an_address_that_was_taken_away_is_not_posted_to(
    start: Start, receiver: Receiver, other: Receiver, ledger: Ledger, deliveries: DeliveryLedger
) -> None:
    receiver.status = 500
    first = start(receiver, other, retry_seconds=30, max_retry_seconds=30)
    listened(deliveries)
    end_jobs(ledger, 1)
    wait_until(lambda: len(receiver.taken) == len(other.taken) == 1, "both were told")
    wait_until(lambda: deliveries.state().delivered == 1, "and that is written")
    first.stop()
    start(other)
    pending = next(d for d in deliveries.list() if d.endpoint_id == endpoint_id_of(receiver.url))
    deliveries.redeliver(pending.id)
    wait_until(lambda: deliveries.get(pending.id).status is DeliveryStatus.FAILED, "it is given up")
    assert "not among WARMLINE_WEBHOOKS_URLS" in (deliveries.get(pending.id).tries[-1].error or "")
    assert len(receiver.taken) == 1


def test_the_api_s_settings_switch_webhooks_off_and_a_worker_s_do_not(
    start: Start, receiver: Receiver, ledger: Ledger, deliveries: DeliveryLedger, raw: Any
) -> None:
    first = start(receiver)
    listened(deliveries)
    start(preferred=False)
    first.stop()
    time.sleep(1.2)  # who would switch off looks every second
    end_jobs(ledger, 1)
    assert (deliveries.state().waiting, deliveries.state().delivering) == (1, False)
    second = start(receiver)
    wait_until(lambda: deliveries.state().delivering, "it delivers", interval_seconds=0.001)
    start()  # an API without addresses, while another one still delivers
    wait_until(lambda: len(receiver.taken) == 1, "it is told")
    time.sleep(1.2)
    assert deliveries.state().events
    assert deliveries.state().delivering
    second.stop()
    wait_until(lambda: not deliveries.state().events, "nobody is to be told any more")
    end_jobs(ledger, 1)
    assert not raw.exists(keys.ENDINGS)


def test_a_report_that_is_in_s3_alone_has_its_summary_and_without_s3_the_event_comes_anyway(
    start: Start, receiver: Receiver, ledger: Ledger, deliveries: DeliveryLedger, s3_settings: S3Settings
) -> None:
    key = f"webhooks/{uuid.uuid4().hex}.json"
    with closing(ObjectStore(s3_settings)) as store:
        store.put_report(key, REPORT.encode())
    there = ReportLocation(bucket=s3_settings.results_bucket, key=key)
    first = start(receiver)
    listened(deliveries)
    succeed(ledger, submit_job(ledger, Source(bucket="calls", key="a.wav")).job, there, None)
    wait_until(lambda: len(receiver.taken) == 1, "it is told")
    data = receiver.taken[0].event["data"]
    assert data["summary"]["duration_seconds"] == 10
    assert data["report"]["uri"] == f"s3://{s3_settings.results_bucket}/{key}"
    first.stop()
    start(receiver, s3=s3_settings.model_copy(update={"endpoint_url": "http://127.0.0.1:1"}))
    succeed(ledger, submit_job(ledger, Source(bucket="calls", key="b.wav")).job, there, None)
    wait_until(lambda: len(receiver.taken) == 2, "it is told")
    assert receiver.taken[1].event["data"]["summary"] is None


def test_what_was_posted_and_not_written_down_is_posted_again(
    receiver: Receiver, ledger: Ledger, deliveries: DeliveryLedger, redis_url: str, tmp_path: Path
) -> None:
    # Given a deliverer that is killed between the post and the answer
    receiver.answers.clear()
    settings = make_settings(redis_url, receiver, timeout_seconds=30)
    with ExitStack() as stack:
        first = start_deliverer(settings, tmp_path / "log")
        stack.callback(first.wait)
        stack.callback(first.kill)
        listened(deliveries)
        end_jobs(ledger, 1)
        wait_until(lambda: len(receiver.taken) == 1, "it is posted")
        first.kill()
        # When another one follows
        second = start_deliverer(settings, tmp_path / "log")
        stack.callback(second.wait)
        stack.callback(second.kill)
        wait_until(lambda: len(receiver.taken) == 2, "it is posted again")
        receiver.answers.set()
        done = only(deliveries, DeliveryStatus.DELIVERED)
    # Then the receiver knows by its id that it is the same
    assert receiver.ids == {done.webhook_id: 2}
    assert len(done.tries) == 1


def test_a_worker_delivers_where_no_api_does(
    receiver: Receiver, worker_settings: NewSettings, redis_url: str, call: Source, tmp_path: Path
) -> None:
    settings = worker_settings(redis_url).model_copy(
        update={
            "webhooks": make_settings(redis_url, receiver).webhooks,
            "general": GeneralSettings(results="s3"),
        }
    )
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        worker.wait_warm()
        with closing(DeliveryLedger.connect(settings.redis, settings.jobs)) as deliveries:
            listened(deliveries)
        job_id = submit_job(worker.ledger, call).job.id
        wait_until(lambda: len(receiver.taken) == 1, "it is told")
        data = receiver.taken[0].event["data"]
        assert (data["job_id"], data["status"]) == (job_id, "succeeded")
        assert data["summary"]["duration_seconds"] == pytest.approx(24, abs=1)
        wait_until(lambda: bool(worker.lines("webhook_delivered")), "it is in the worker's log")
        (line,) = worker.lines("webhook_delivered")
        assert SECRET not in worker.log_text()
        assert line["type"] == "job.succeeded"
