"""Jobs end while the deliverer and Redis are killed again and again: every ending is told, none is lost."""

from __future__ import annotations

import random
import secrets
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import RedisSettings, Settings, WebhooksSettings
from tests.deliverer_process import start_deliverer
from tests.integration.test_broker_outages import Broker
from tests.ports import choose_port
from tests.servers import require_server, wait_until
from tests.webhook_receiver import SECRET, Receiver, running_receiver
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Job, JobState, ReportLocation, Source
from warmline.local.valkey import ValkeyServer, valkey_binary

ROUNDS = 3


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A Redis that writes everything down before it answers, and that may be killed."""
    require_server(valkey_binary)
    server = ValkeyServer(directory=tmp_path, port=choose_port(), password=secrets.token_urlsafe(16))
    server.write_configuration()
    broker = Broker(server)
    broker.start()
    yield broker
    broker.kill()


@pytest.mark.slow
def test_every_ending_is_told_whatever_is_killed(broker: Broker, tmp_path: Path) -> None:
    with ExitStack() as stack:
        receivers = [stack.enter_context(running_receiver()) for _ in range(2)]
        settings = make_settings(broker, receivers)
        ledger = stack.enter_context(closing(Ledger.connect(settings.redis, settings.jobs)))
        deliveries = stack.enter_context(closing(DeliveryLedger.connect(settings.redis, settings.jobs)))
        deliverers = [start_deliverer(settings, tmp_path / "deliverer.log")]
        stack.callback(lambda: [end(one) for one in deliverers])
        wait_until(lambda: bool(deliveries.state().events), "somebody listens")
        # When jobs end
        ended: list[str] = []
        over = threading.Event()
        worker = threading.Thread(target=end_jobs, args=(ledger, ended, over))
        worker.start()
        # and Redis and whoever delivers are killed at random, and receivers fail now and then
        chance = random.Random(7)
        for _ in range(ROUNDS):
            before = sum(len(receiver.taken) for receiver in receivers)
            for receiver in receivers:
                receiver.statuses = [500] * chance.randrange(4)
            for _ in range(2):
                time.sleep(chance.uniform(0.0, 0.4))
                broker.kill()
                time.sleep(chance.uniform(0.0, 0.2))
                broker.start()
            wait_until(lambda b=before: sum(len(r.taken) for r in receivers) > b, "somebody delivers")  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.1))
            end(deliverers.pop())
            deliverers.append(start_deliverer(settings, tmp_path / "deliverer.log"))
        over.set()
        worker.join(60)
        # Then each receiver has been told of every job
        assert len(ended) > 20
        for receiver in receivers:
            wait_until(lambda r=receiver: told(r) >= set(ended), "all are told")  # type: ignore[misc]
            # under as many ids as there are jobs: what came twice can be told by its id
            assert len(receiver.ids) == len(ended)
        wait_until(lambda: deliveries.state().delivered == 2 * len(ended), "all is in the log")
        state = deliveries.state()
        assert (state.waiting, state.pending, state.failed, state.dropped) == (0, 0, 0, 0)


def make_settings(broker: Broker, receivers: list[Receiver]) -> Settings:
    return Settings(
        redis=RedisSettings(url=SecretStr(broker.server.url()), timeout_seconds=2),
        webhooks=WebhooksSettings(
            urls=tuple(receiver.url for receiver in receivers),
            secrets=(SecretStr(SECRET),),
            allow_private=True,
            retry_seconds=0.1,
            max_retry_seconds=0.5,
            max_attempts=30,
        ),
    )


def end_jobs(ledger: Ledger, ended: list[str], over: threading.Event) -> None:
    """Ends jobs, and writes down which; one whose answer was lost is asked for until it is clear."""
    while not over.is_set():
        job = Job(id=uuid.uuid4().hex, source=Source(bucket="calls", key="a.wav"), created_at=datetime.now(UTC))
        while not is_ended(ledger, job):
            time.sleep(0.05)
        ended.append(job.id)
        time.sleep(0.02)


def is_ended(ledger: Ledger, job: Job) -> bool:
    with suppress(LedgerUnavailable):
        claimed = ledger.claim(job, "w/1")
        if not isinstance(claimed, JobState):
            return claimed.reason == "ended"
        return ledger.succeed(job.id, claimed.attempt, ReportLocation(in_redis=True), "{}")
    return False


def told(receiver: Receiver) -> set[str]:
    return {taken.event["data"]["job_id"] for taken in list(receiver.taken)}


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL."""
    process.kill()
    process.wait()
