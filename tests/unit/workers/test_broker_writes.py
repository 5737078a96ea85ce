"""Messages that are taken and not noted as taken, on a real channel; events that are told together."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import redis
from kombu.asynchronous import Hub
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings
from tests.servers import wait_until
from warmline.jobs import keys
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES, TASK, UNACKED, job_id_of_message, make_celery
from warmline.jobs.records import Job, JobState, Refusal, Source
from warmline.jobs.submission import submit_job
from workers.broker_writes import LedgerQoS, make_event_pace

QUEUE = QUEUES["live"]
LIST = f"{keys.BROKER}{QUEUE}"
CALL = Source(bucket="calls", key="a call.wav")

NewChannel = Callable[[], Any]


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(
        redis=RedisSettings(url=SecretStr(redis_url), timeout_seconds=20), jobs=JobsSettings(lease_seconds=60)
    )


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    with closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with closing(Ledger.connect(settings.redis, settings.jobs)) as ledger:
        yield ledger


@pytest.fixture
def feeder(settings: Settings) -> Iterator[Feeder]:
    """Feeds a turn when it is told to."""
    feeder = Feeder(settings)
    yield feeder
    feeder.stop()


@pytest.fixture
def app(settings: Settings) -> Iterator[Any]:
    with closing(make_celery(settings)) as app:
        yield app


@pytest.fixture
def new_channel(app: Any) -> Iterator[NewChannel]:
    """Makes a channel as a worker's parent has it."""
    with app.connection_for_read() as connection:

        def make() -> Any:
            channel = connection.channel()
            LedgerQoS.take_over(channel)
            return channel

        yield make


@pytest.fixture
def send(ledger: Ledger, feeder: Feeder, app: Any) -> Callable[[str], str]:
    """Sends a job, the ledger's way or as a plain Celery client does; returns its id."""

    def send(sender: str) -> str:
        if sender == "ledger":
            job_id = submit_job(ledger, CALL).job.id
            feeder.step()
            return job_id
        job = Job(id=uuid4().hex, source=CALL, created_at=datetime.now(UTC))
        app.send_task(TASK, args=[job.model_dump(mode="json")], queue=QUEUE, task_id=job.id, ignore_result=True)
        return job.id

    return send


def take(channel: Any) -> Any:
    """The next message, as kombu takes it."""
    message = channel.basic_get(QUEUE)
    assert message is not None
    return message


def waiting(raw: Any) -> list[str | None]:
    """The jobs in the queue, the next one first."""
    return [job_id_of_message(text) for text in reversed(raw.lrange(LIST, 0, -1))]


def noted(raw: Any) -> int:
    """How many messages Redis has a note of as taken."""
    count = int(raw.hlen(UNACKED))
    assert count == raw.zcard(f"{UNACKED}_index")
    return count


@pytest.mark.parametrize(("sender", "notes"), [("ledger", 0), ("a plain client", 1)])
def test_a_message_is_noted_as_taken_only_where_the_ledger_does_not_know_it(
    send: Callable[[str], str], new_channel: NewChannel, raw: Any, sender: str, notes: int
) -> None:
    # Given a message that is taken
    send(sender)
    channel = new_channel()
    message = take(channel)
    assert (noted(raw), waiting(raw)) == (notes, [])
    # When it is acknowledged
    message.ack()
    # Then nothing is left of it, also after the channel's end
    assert noted(raw) == 0
    channel.close()
    assert (noted(raw), waiting(raw)) == (0, [])


@pytest.mark.parametrize("sender", ["ledger", "a plain client"])
def test_what_is_given_back_waits_again(
    send: Callable[[str], str], new_channel: NewChannel, raw: Any, sender: str
) -> None:
    # Given two messages, of which the first is taken
    first, second = send(sender), send(sender)
    channel = new_channel()
    message = take(channel)
    assert message.headers["id"] == first
    # When it is given back
    message.reject(requeue=True)
    # Then it is there, once, and behind the other, where kombu puts it
    assert (noted(raw), waiting(raw)) == (0, [second, first])
    take(channel).ack()
    again = take(channel)
    assert (again.headers["id"], again.headers["redelivered"]) == (first, True)
    # And when it is refused for good, it is gone
    again.reject(requeue=False)
    channel.close()
    assert (noted(raw), waiting(raw)) == (0, [])


@pytest.mark.parametrize("sender", ["ledger", "a plain client"])
def test_a_channel_that_is_closed_puts_back_what_it_was_at(
    send: Callable[[str], str], new_channel: NewChannel, raw: Any, sender: str
) -> None:
    # Given two messages that are taken, one of them acknowledged
    _, kept = send(sender), send(sender)
    channel = new_channel()
    take(channel).ack()
    take(channel)
    # When the channel is closed
    channel.close()
    # Then the other one waits again
    assert (noted(raw), waiting(raw)) == (0, [kept])


def test_what_redis_does_not_take_back_is_an_error_and_not_forgotten(
    send: Callable[[str], str], new_channel: NewChannel, raw: Any
) -> None:
    # Given a message that is taken, and a Redis that will take none
    job_id = send("ledger")
    channel = new_channel()
    message = take(channel)
    raw.set(LIST, "no list")
    # When it is given back
    with pytest.raises(redis.ResponseError):
        message.reject(requeue=True)
    # Then it is put back with the channel's end, when Redis takes it
    raw.delete(LIST)
    channel.close()
    assert (noted(raw), waiting(raw)) == (0, [job_id])


def test_channels_keep_the_number_of_messages_that_they_may_have(send: Callable[[str], str], app: Any) -> None:
    for _ in range(3):
        send("ledger")
    with app.connection_for_read() as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2)
        LedgerQoS.take_over(channel)
        first = take(channel)
        assert channel.qos.can_consume()
        take(channel)
        assert not channel.qos.can_consume()
        first.ack()
        assert channel.qos.can_consume()


def test_what_dies_with_a_worker_before_it_is_claimed_is_sent_again(
    send: Callable[[str], str],
    new_channel: NewChannel,
    ledger: Ledger,
    feeder: Feeder,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a sweeper that need not be waited for, and a message that is taken by a worker which dies
    monkeypatch.setattr("warmline.jobs.sweeper.MESSAGE_SWEEP_SECONDS", 0.0)
    monkeypatch.setattr("warmline.jobs.sweeper.MESSAGE_AGE_SECONDS", 0.2)
    job_id = send("ledger")
    taken = take(new_channel())
    job = ledger.get(job_id).job
    # When time passes
    deadline = time.monotonic() + 60
    while not waiting(raw):
        assert time.monotonic() < deadline
        feeder.step()
        time.sleep(0.05)
    # Then the job has a message again, one, and can be claimed
    feeder.step()
    assert waiting(raw) == [job_id]
    assert isinstance(ledger.claim(job, "other/1"), JobState)
    # And should the first worker be heard of after all, it is too late
    assert ledger.claim(job, "first/1") == Refusal(reason="leased", holder="other/1")
    taken.ack()


def test_events_are_told_together_after_a_moment(app: Any, raw: Any) -> None:
    database = raw.connection_pool.connection_kwargs["db"]
    # Given somebody who listens, and an event loop
    with raw.pubsub(ignore_subscribe_messages=True) as listener, app.connection_for_write() as connection:
        listener.psubscribe(f"{keys.BROKER}/{database}.celeryev/*")
        hub = Hub()
        dispatcher = app.events.Dispatcher(connection, hostname="worker@here", buffer_group=["task"])
        consumer = SimpleNamespace(event_dispatcher=dispatcher, hub=hub)
        step = make_event_pace()(consumer)
        step.start(consumer)
        told: list[list[str]] = []

        def hears(count: int) -> bool:
            hub.run_once()
            return collect(listener, told) == count

        # When a job begins and ends at once
        for kind in ("task-received", "task-started", "task-succeeded"):
            dispatcher.send(kind, uuid="1")
        # Then all of it is told, at once
        wait_until(lambda: hears(1), "events are told")
        assert told == [["task-received", "task-started", "task-succeeded"]]
        # And so is what comes later
        dispatcher.send("task-received", uuid="2")
        wait_until(lambda: hears(2), "one more is told")
        assert told[1] == ["task-received"]
        # And so is what waits when the worker ends, whose loop turns no more
        dispatcher.send("task-started", uuid="2")
        step.shutdown(consumer)
        wait_until(lambda: collect(listener, told) == 3, "the last is told")
        # And a dispatcher that is closed before its time does no harm
        dispatcher.send("task-succeeded", uuid="2")
        dispatcher.close()
        wait_until(lambda: hears(3) and not hub.timer._queue, "its time is over")
        hub.close()


def collect(listener: Any, told: list[list[str]]) -> int:
    """Adds what was heard since the last time; returns how much there is."""
    while (message := listener.get_message(timeout=0.01)) is not None:
        told.append(kinds_of_events(message["data"]))
    return len(told)


def kinds_of_events(text: str) -> list[str]:
    """Of the events in one of Celery's messages."""
    told = json.loads(base64.b64decode(json.loads(text)["body"]))
    return [event["type"] for event in (told if isinstance(told, list) else [told])]
