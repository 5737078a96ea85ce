"""The poller through what goes wrong around it: Redis, the store, SQS, the backlog, and messages of all kinds."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from config.settings import JobsSettings, RedisSettings, Settings
from pollers.keeper import Keeper
from pollers.sqs import Poller, Waits
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from tests.moto_server import AwsServer, Queue
from tests.ports import choose_port
from tests.servers import require_server, running, wait_until
from tests.sqs_process import body, record, uploaded
from warmline.jobs.upload_ledger import UploadLedger
from warmline.local.valkey import ValkeyServer, valkey_binary
from warmline.objects.sqs import EventQueue
from warmline.objects.store import ObjectStore
from warmline.triggers.intake import Intake
from warmline.triggers.rules import Rules

SOON = Waits(ledger=(0.1, 0.2), queue=(0.1, 0.2), store=(0.1, 0.2), later=(1, 1), refused=(0, 1), left=(60, 60))
BUCKET = "calls"


@dataclass(frozen=True)
class Polling:
    """A poller and what can be seen of it."""

    poller: Poller
    settings: Settings
    lines: list[Any]

    def keys(self) -> list[str]:
        """The keys that jobs were made of, sorted."""
        return [key for _, key in uploaded(self.settings.redis)]

    def said(self, action: str) -> list[Any]:
        """The log's lines with this action."""
        return [line for line in self.lines if line["event"] == action]


@pytest.fixture
def new_settings(aws: AwsServer, redis_url: str) -> Callable[..., Settings]:
    """Settings for a queue; what is given by name belongs to the section of SQS."""

    def make(queue: Queue, *, redis: str = redis_url, s3_url: str = aws.url, **sqs: Any) -> Settings:
        return Settings(
            redis=RedisSettings(url=SecretStr(redis), timeout_seconds=10),
            s3=aws.s3_settings(BUCKET).model_copy(update={"endpoint_url": s3_url}),
            sqs=aws.sqs_settings(queue, **{"receivers": 1} | sqs),
        )

    return make


@contextmanager
def polling(settings: Settings, *, waits: Waits = SOON) -> Iterator[Polling]:
    """A poller while the block lasts."""
    queue = EventQueue(settings.sqs, default_region="us-east-1")
    ledger = UploadLedger.connect(settings.redis, settings.jobs)
    intake = Intake(settings, Rules.load(settings), ledger, ObjectStore(settings.s3))
    with capture_logs() as lines:
        poller = Poller(settings.sqs, queue, queue.describe(), intake, waits=waits)
        poller.start()
        try:
            yield Polling(poller, settings, lines)
        finally:
            assert poller.stop(), "a thread hangs"
            intake.close()
            queue.close()


@pytest.fixture
def redis(tmp_path: Path) -> ValkeyServer:
    """A Redis of the test's own, which it starts and stops."""
    require_server(valkey_binary)
    server = ValkeyServer(directory=tmp_path, port=choose_port(), password=secrets.token_urlsafe(16))
    server.write_configuration()
    return server


def start(server: ValkeyServer) -> ExitStack:
    """Runs the server until the stack is closed."""
    stack = ExitStack()
    stack.enter_context(running(server.command, server.directory / "log", server.answers))
    return stack


def one(key: str, **more: str) -> str:
    """A message of one upload that needs no look at the store."""
    return body([record(BUCKET, key, **{"sequencer": "01"} | more)])


# Redis and the backlog


def test_while_redis_is_away_messages_stay_where_they_are(
    aws: AwsServer, redis: ValkeyServer, new_settings: Callable[..., Settings]
) -> None:
    # Given a queue that gives a message up when it was received once
    queue = aws.new_queue(max_receives=1)
    with polling(new_settings(queue, redis=redis.url())) as work:
        # When messages come while Redis is away
        aws.send(queue, [one(f"{n}.wav") for n in range(12)])
        wait_until(lambda: bool(work.said("sqs_waits")), "it waits")
        assert aws.left(queue) == 12
        with start(redis):
            # Then it goes on with them, and each was received once
            wait_until(lambda: aws.left(queue) == 0, "the queue is empty")
            assert len(work.keys()) == 12
    assert aws.dead(queue) == 0
    # And that is said once, not at every try
    assert [line["code"] for line in work.said("sqs_waits")] == ["ledger_unavailable"]
    assert [line["code"] for line in work.said("sqs_goes_on")] == ["ledger_unavailable"]


def test_while_redis_is_slow_nobody_else_gets_the_messages(
    aws: AwsServer, redis: ValkeyServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue(max_receives=1)
    hidden_seconds = 12  # renewed at half of it: a busy machine may be late by as much
    settings = new_settings(queue, redis=redis.url(), visibility_seconds=hidden_seconds)
    patient = settings.model_copy(update={"redis": settings.redis.model_copy(update={"timeout_seconds": 30})})
    with ExitStack() as stack:
        process = stack.enter_context(running(redis.command, redis.directory / "log", redis.answers))
        work = stack.enter_context(polling(patient))
        # Given a Redis that answers nothing for longer than messages are hidden
        process.send_signal(signal.SIGSTOP)
        stack.callback(process.send_signal, signal.SIGCONT)
        aws.send(queue, [one("slow.wav")])
        wait_until(lambda: aws.hidden(queue) == 1, "the poller has it in hand")
        deadline = time.monotonic() + hidden_seconds + 1
        while time.monotonic() < deadline:
            assert aws.hidden(queue) == 1, "others could have taken it"
            time.sleep(0.1)
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: aws.left(queue) == 0, "the message is done with")
        assert work.keys() == ["slow.wav"]
    assert aws.dead(queue) == 0


def test_with_a_full_backlog_uploads_wait_in_the_queue(
    aws: AwsServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue(max_receives=1)
    settings = new_settings(queue).model_copy(update={"jobs": JobsSettings(max_backlog=12)})
    with polling(settings) as work:
        aws.send(queue, [one(f"{n:02}.wav") for n in range(30)])
        wait_until(lambda: bool(work.said("sqs_waits")), "it waits")
        wait_until(lambda: len(work.keys()) == 12, "as many jobs wait as may")
        assert [line["code"] for line in work.said("sqs_waits")] == ["backlog_full"]
        time.sleep(0.5)
        assert len(work.keys()) == 12
        assert aws.hidden(queue) <= 10, "it takes more than it can enter"
        # When there is room, then it goes on
        ledger = UploadLedger.connect(settings.redis, settings.jobs)
        for state in ledger.list(limit=100):
            ledger.cancel(state.job.id)
        wait_until(lambda: len(work.keys()) >= 24, "the next ones are entered")
        for state in ledger.list(limit=100):
            ledger.cancel(state.job.id)
        ledger.close()
        wait_until(lambda: aws.left(queue) == 0, "the queue is empty")
        assert len(work.keys()) == 30
    assert aws.dead(queue) == 0


# The store


def test_while_the_store_is_away_only_those_that_need_it_wait(
    aws: AwsServer, new_settings: Callable[..., Settings]
) -> None:
    # Given events of which some say all, and some want a look at the store, which throttles us
    queue, key = aws.new_queue(max_receives=100), "look.wav"
    if BUCKET not in {bucket["Name"] for bucket in aws.s3.list_buckets()["Buckets"]}:
        aws.s3.create_bucket(Bucket=BUCKET)
    aws.upload(BUCKET, key)
    with FaultyProxy(aws.url) as line, polling(new_settings(queue, s3_url=line.address)) as work:
        with line.failing(Fault(mode=Mode.THROTTLE)):
            aws.send(queue, [body([record(BUCKET, key)]), one("0.wav"), one("1.wav"), one("2.wav")])
            wait_until(lambda: len(work.keys()) == 3, "its neighbours are entered")
            wait_until(lambda: bool(work.said("sqs_messages_later")), "it is put off")
            assert work.keys() == ["0.wav", "1.wav", "2.wav"]
            assert aws.left(queue) == 1
            assert work.said("sqs_messages_later")[0]["codes"] == ["store_unavailable"]
        # When the store is back, so is the message
        wait_until(lambda: aws.left(queue) == 0, "the queue is empty")
        assert work.keys() == ["0.wav", "1.wav", "2.wav", key]
    assert aws.dead(queue) == 0


def test_what_our_own_credentials_do_not_reach_is_put_off_and_not_refused(
    aws: AwsServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue()
    settings = new_settings(queue)
    halved = settings.model_copy(update={"s3": settings.s3.model_copy(update={"secret_key": SecretStr("")})})
    with polling(halved, waits=Waits()) as work:
        aws.send(queue, [one("0.wav"), body([record(BUCKET, "look.wav")])])
        wait_until(lambda: bool(work.said("sqs_messages_later")), "it is put off")
        wait_until(lambda: work.keys() == ["0.wav"], "its neighbour is entered")
        wait_until(lambda: aws.hidden(queue) == aws.left(queue) == 1, "it is away for a while")
        assert work.said("sqs_messages_later")[0]["codes"] == ["object_forbidden"]
        assert not work.said("sqs_message_refused")


# Messages that no attempt can mend


def test_what_cannot_be_used_costs_its_neighbours_nothing(
    aws: AwsServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue(max_receives=2)
    foreign = body([record("somebody-elses", "a.wav", sequencer="01"), record(BUCKET, "b.wav", sequencer="01")])
    nothing = body([])
    with polling(new_settings(queue)) as work:
        aws.send(queue, [one("0.wav"), foreign, "no event", "", nothing, one("1.wav")][:3])
        aws.send(queue, [nothing, one("1.wav"), '{"Records": 7}', "[" * 100_000])
        wait_until(lambda: aws.dead(queue) == 4 and aws.left(queue) == 0, "all are where they belong")
        assert work.keys() == ["0.wav", "1.wav", "b.wav"]
        assert any(line["reason"].startswith("bucket_not_allowed: ") for line in work.said("sqs_message_refused"))
        assert all(len(line["reason"]) <= 250 for line in work.said("sqs_message_refused"))
        # How often each was tried is what its queue says
        tried = [line["message_id"] for line in work.said("sqs_message_refused")]
        assert {tried.count(message) for message in tried} == {2}


def test_without_a_dead_letter_queue_a_message_stays_and_does_not_come_back_at_once(
    aws: AwsServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue(max_receives=None)
    with polling(new_settings(queue, wait_seconds=0)) as work:
        aws.send(queue, ["no event", one("0.wav")])
        wait_until(lambda: work.keys() == ["0.wav"] and aws.left(queue) == 1, "its neighbour is entered")
        wait_until(lambda: bool(work.said("sqs_message_refused")), "it is refused")
        time.sleep(1.5)
        assert len(work.said("sqs_message_refused")) == 1, "it comes again and again"
        assert (aws.left(queue), aws.hidden(queue)) == (1, 1)


# SQS


def test_while_sqs_is_away_it_waits_and_says_so_once(
    aws: AwsServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue()
    with (
        FaultyProxy(aws.url) as line,
        polling(new_settings(queue, endpoint_url=line.address, receivers=2)) as work,
    ):
        with line.failing(Fault(mode=Mode.REFUSE)):
            wait_until(lambda: line.failed >= 8, "it tries again and again")
            aws.send(queue, [one("0.wav")])
        wait_until(lambda: work.keys() == ["0.wav"], "it goes on")
        wait_until(lambda: aws.left(queue) == 0, "the queue is empty")
    assert [line["code"] for line in work.said("sqs_waits")] == ["queue_unavailable"]
    assert [line["code"] for line in work.said("sqs_goes_on")] == ["queue_unavailable"]


def test_an_empty_queue_is_not_asked_all_the_time(aws: AwsServer, new_settings: Callable[..., Settings]) -> None:
    with FaultyProxy(aws.url) as line:
        with polling(new_settings(aws.new_queue(), endpoint_url=line.address, wait_seconds=0)):
            began = time.monotonic()
            time.sleep(1.5)
        # what the queue is like, and a request for messages a second
        assert len(line.answered) <= 2 + (time.monotonic() - began)


def test_it_is_well_only_while_it_gets_on(
    aws: AwsServer, redis: ValkeyServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue()
    settings = new_settings(queue, redis=redis.url(), receivers=2)
    impatient = Waits(ledger=(0.1, 0.2), queue=(0.1, 0.2), well=1.0)
    with polling(settings, waits=impatient) as work:
        time.sleep(2.2)
        wait_until(lambda: work.poller.healthy, "nothing to do is well")
        aws.send(queue, [one("0.wav")])
        wait_until(lambda: not work.poller.healthy, "one of them waits for Redis")
        with start(redis):
            wait_until(lambda: work.poller.healthy, "it is well again")


def test_what_was_given_back_is_not_hidden_again(aws: AwsServer, new_settings: Callable[..., Settings]) -> None:
    # Given two messages in hand, of which one is given back
    queue = aws.new_queue()
    aws.send(queue, ["a", "b"])
    with closing(EventQueue(new_settings(queue).sqs, default_region="us-east-1")) as client:
        keeper = Keeper(client, visibility_seconds=30)
        first, second = client.receive()
        with keeper.keep([first, second]) as lot:
            assert lot.give_back({first: 0}) == ()
            # When what is in hand is renewed, then that is the other one alone
            assert lot.renew(30) == ()
            assert aws.hidden(queue) == 1
            assert lot.delete([second]) == ()
            assert lot.renew(30) == ()


# Its end


def test_a_message_that_comes_while_it_stops_is_for_others_at_once(
    aws: AwsServer, redis: ValkeyServer, new_settings: Callable[..., Settings]
) -> None:
    # Given a poller that waits for a message
    queue = aws.new_queue(max_receives=100)
    with polling(new_settings(queue, wait_seconds=10)) as work:
        wait_until(lambda: work.poller.healthy, "it waits")
        time.sleep(0.3)
        # When it is to stop, and a message comes
        work.poller._stopping.set()
        aws.send(queue, [one("0.wav")])
        assert work.poller.stop()
        assert work.said("sqs_messages_given_back")
    assert work.keys() == []
    assert (aws.left(queue), aws.hidden(queue)) == (1, 0)


def test_it_stops_at_once_while_redis_is_away_and_gives_back_what_it_has(
    aws: AwsServer, redis: ValkeyServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue(max_receives=100)
    with polling(new_settings(queue, redis=redis.url())) as work:
        aws.send(queue, [one("0.wav")])
        wait_until(lambda: bool(work.said("sqs_waits")), "it waits")
        started = time.monotonic()
        assert work.poller.stop()
        assert time.monotonic() - started < 10
    assert (aws.left(queue), aws.hidden(queue)) == (1, 0)


def test_what_a_thread_that_hangs_has_in_hand_is_given_back(
    aws: AwsServer, redis: ValkeyServer, new_settings: Callable[..., Settings]
) -> None:
    queue = aws.new_queue(max_receives=100)
    settings = new_settings(queue, redis=redis.url())
    patient = settings.model_copy(update={"redis": settings.redis.model_copy(update={"timeout_seconds": 30})})
    with ExitStack() as stack:
        process = stack.enter_context(running(redis.command, redis.directory / "log", redis.answers))
        work = stack.enter_context(polling(patient))
        process.send_signal(signal.SIGSTOP)
        stack.callback(process.send_signal, signal.SIGCONT)
        aws.send(queue, [one("0.wav")])
        wait_until(lambda: aws.hidden(queue) == 1, "the poller has it in hand")
        assert not work.poller.stop(seconds=0.2)
        assert (aws.left(queue), aws.hidden(queue)) == (1, 0)
        process.send_signal(signal.SIGCONT)
