"""A worker while Redis is restarted, gone, frozen or full: it waits, mends itself, and every job is done once."""

from __future__ import annotations

import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import redis

from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.ports import choose_port
from tests.servers import require_server, running, wait_until
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.records import BatchState, JobStatus, Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.local.valkey import ValkeyServer, valkey_binary

JOBS = 12
OUTAGE_SECONDS = 3.0  # longer than a worker waits for an answer
RECOVERY_SECONDS = (
    60.0  # with other tests beside; a lease lasts 5 s here, and a message is delivered again after 10
)


class Broker:
    """A Redis that a test may do anything to."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self._stack = ExitStack()
        self._process: Any = None

    def start(self) -> None:
        """Returns when it answers."""
        runs = running(self.server.command, self.server.directory / "log", self.server.answers)
        self._process = self._stack.enter_context(runs)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._stack.close()

    def signal(self, number: signal.Signals) -> None:
        """To the server's process."""
        self._process.send_signal(number)

    def limit_memory(self, size_bytes: int) -> None:
        """From now on it refuses what needs memory when it has so much; 0: no limit."""
        with closing(redis.Redis.from_url(self.server.url())) as client:
            client.config_set("maxmemory", size_bytes)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    require_server(valkey_binary)
    directory = tmp_path_factory.mktemp("redis")
    server = ValkeyServer(directory=directory, port=choose_port(), password=secrets.token_urlsafe(16))
    server.write_configuration()
    broker = Broker(server)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def worker(
    broker: Broker, worker_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A warm worker with a child for any job and one for live ones, which waits a second for Redis."""
    settings = worker_settings(broker.server.url(), lease_seconds=5, visibility_timeout_seconds=10)
    settings = settings.model_copy(
        update={
            "redis": settings.redis.model_copy(update={"timeout_seconds": 1.0}),
            "worker": settings.worker.model_copy(update={"live_children": 1}),
        }
    )
    with WorkerProcess(settings, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        worker.wait_warm(2)
        yield worker


def half_done(worker: WorkerProcess, call: Source) -> str:
    """The id of a batch that the worker is in the middle of."""
    batch = submit_batch(worker.ledger, [call] * JOBS)
    wait_until(lambda: worker.ledger.batch(batch.id).succeeded >= 2, "it is at it")
    return batch.id


def assert_all_is_done_once(worker: WorkerProcess, batch_id: str, call: Source) -> None:
    """The batch, and a live job that comes now."""

    def batch() -> BatchState | None:
        try:
            return worker.ledger.batch(batch_id)
        except LedgerUnavailable:
            return None  # back soon

    wait_until(
        lambda: (state := batch()) is not None and state.finished,
        "all jobs have ended",
        seconds=RECOVERY_SECONDS,
    )
    states = worker.ledger.list(batch_id=batch_id)
    assert Counter(state.status for state in states) == {JobStatus.SUCCEEDED: JOBS}
    live = worker.wait_finished(submit_job(worker.ledger, call, lane="live").job.id)
    assert live.status is JobStatus.SUCCEEDED
    assert worker.process.poll() is None, "the worker has ended"


def restarted(broker: Broker) -> None:
    broker.kill()
    broker.start()


def gone(broker: Broker) -> None:
    broker.kill()
    time.sleep(OUTAGE_SECONDS)
    broker.start()


def frozen(broker: Broker) -> None:
    broker.signal(signal.SIGSTOP)
    time.sleep(OUTAGE_SECONDS)
    broker.signal(signal.SIGCONT)


def full(broker: Broker) -> None:
    broker.limit_memory(1)
    time.sleep(OUTAGE_SECONDS)
    broker.limit_memory(0)


@pytest.mark.parametrize("outage", [restarted, gone, frozen, full])
def test_an_outage_of_redis_is_waited_out(
    broker: Broker, worker: WorkerProcess, call: Source, outage: Callable[[Broker], None]
) -> None:
    # Given a worker in the middle of many jobs
    batch_id = half_done(worker, call)
    # When Redis is away, and back
    outage(broker)
    # Then every job is done, the same worker takes live jobs too, and nobody is left behind
    assert_all_is_done_once(worker, batch_id, call)
    worker.wait_warm(2)


def test_a_worker_ends_in_time_while_redis_is_gone(broker: Broker, worker: WorkerProcess) -> None:
    # Given a Redis that has gone for good
    worker.wait_warm(2)
    broker.kill()
    time.sleep(2.0)
    # When the worker is told to end, then it does
    worker.signal(signal.SIGTERM)
    assert worker.wait_exit(worker.settings.worker.grace_seconds) in {0, 1}
    broker.start()
