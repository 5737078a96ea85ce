"""The queues that `queue_price` compares: each sends its jobs in its plainest way and says when all are done.

All use the same server (`appendfsync always`) and two processes that do the work. Each has a database to itself.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import psutil
import redis

from benchmarks.queue_worker import CHILDREN, QUEUE, TASK, celery_app, dramatiq_actor, nothing
from benchmarks.subjects import NotMeasured
from config.settings import Settings, process_environment
from warmline.jobs import keys
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES
from warmline.jobs.records import BatchItem, Source
from warmline.jobs.submission import submit_batch

POLL_SECONDS = 0.05
WARM_SECONDS = 60.0
ROUND_SECONDS = 300.0
KEY = "2026/11/22/agent-{agent:04d}/call-{call:06d}.wav"  # as recorders name calls


class Contender(Protocol):
    """One queue."""

    @property
    def name(self) -> str:
        """In the table."""

    @property
    def workers(self) -> Sequence[str]:
        """The kind of each worker process."""

    @property
    def client(self) -> Any:
        """A plain client of its database."""

    def send(self, calls: Sequence[Source]) -> None:
        """Sends a job for each call; returns when the last one is accepted."""

    def done(self) -> bool:
        """True when all that was sent has been worked on, and is acknowledged."""

    def close(self) -> None:
        """Ends what the sender had beside."""


def some_calls(count: int) -> list[Source]:
    """Addresses of calls that need not exist."""
    return [Source(bucket="calls", key=KEY.format(agent=n % 500, call=n)) for n in range(count)]


@dataclass(frozen=True)
class _Base:
    settings: Settings
    name: str

    @cached_property
    def client(self) -> Any:
        """A plain client of the contender's database."""
        return redis.Redis.from_url(self.settings.redis.url.get_secret_value(), decode_responses=True)

    def close(self) -> None:
        """Only Warmline's sender has something."""


class Warmline(_Base):
    """A batch through the ledger, the feeder and the worker; its reports where the settings say."""

    workers = ("warmline",)

    def send(self, calls: Sequence[Source]) -> None:
        """As the API does for one POST; like the API's process, this one has a feeder."""
        _ = self._feeder
        items = (BatchItem(source=call) for call in calls)
        self._sent.append(submit_batch(self._ledger, items, lane="bulk").id)

    def done(self) -> bool:
        """As the ledger says, and as the broker does."""
        state = self._ledger.batch(self._sent[-1])
        if state.failed or state.dead:
            raise NotMeasured(f"{self.name}: {state.failed + state.dead} jobs failed")
        return state.finished and not self.client.hlen(f"{keys.BROKER}unacked")

    def close(self) -> None:
        """Leaves the feeding to others."""
        self._feeder.stop()

    @cached_property
    def _feeder(self) -> Feeder:
        feeder = Feeder(self.settings, preferred=True)
        feeder.start()
        return feeder

    @cached_property
    def _sent(self) -> list[str]:
        return []

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger.connect(self.settings.redis, self.settings.jobs)


class BareCelery(_Base):
    """One message each, by one producer."""

    workers = ("celery",)

    def send(self, calls: Sequence[Source]) -> None:
        """On one connection that is kept."""
        with self._app.producer_or_acquire() as producer:
            for call in calls:
                self._app.send_task(
                    TASK, args=[call.model_dump()], queue=QUEUES["bulk"], producer=producer, ignore_result=True
                )

    def done(self) -> bool:
        """Nothing in the list, nothing unacknowledged."""
        left = self.client.llen(f"{keys.BROKER}{QUEUES['bulk']}") + self.client.hlen(f"{keys.BROKER}unacked")
        return bool(left == 0)

    @cached_property
    def _app(self) -> Any:
        return celery_app(self.settings)


class Rq(_Base):
    """Two of RQ's workers: `SimpleWorker`, or `Worker`, its default, which forks for each job."""

    @property
    def workers(self) -> Sequence[str]:
        """One process each."""
        return ("rq-fork" if "fork" in self.name else "rq",) * CHILDREN

    def send(self, calls: Sequence[Source]) -> None:
        """One by one; no results, as everywhere here."""
        for call in calls:
            self._queue.enqueue(nothing, call.model_dump(), result_ttl=0)

    def done(self) -> bool:
        """Its queue and its registry of running jobs are empty."""
        return bool(self._queue.count == 0 and self._queue.started_job_registry.count == 0)

    @cached_property
    def _queue(self) -> Any:
        from redis import Redis
        from rq import Queue
        from rq.serializers import JSONSerializer

        connection = Redis.from_url(self.settings.redis.url.get_secret_value())
        return Queue(QUEUE, connection=connection, serializer=JSONSerializer)


class Dramatiq(_Base):
    """Two processes of one thread each."""

    workers = ("dramatiq",) * CHILDREN

    def send(self, calls: Sequence[Source]) -> None:
        """One by one."""
        for call in calls:
            self._actor.send(call.model_dump())

    def done(self) -> bool:
        """A message is kept until it is acknowledged."""
        return bool(self.client.hlen(f"dramatiq:{QUEUE}.msgs") == 0)

    @cached_property
    def _actor(self) -> Any:
        return dramatiq_actor(self.settings)[1]


@contextlib.contextmanager
def working(contender: Contender, settings: Settings, log: Path) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """The contender's workers, warm, while the block lasts: they have done some jobs already."""
    processes = []
    with log.open("ab") as output:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.queue_worker", kind],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=process_environment(settings),
            )
            for kind in contender.workers
        ]
    try:
        contender.send(some_calls(20))
        wait_done(contender, WARM_SECONDS, processes, log)
        yield processes
    finally:
        contender.close()
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_done(
    contender: Contender,
    seconds: float,
    processes: Sequence[subprocess.Popen[bytes]] = (),
    log: Path | None = None,
) -> None:
    """Returns when the contender has done all. Raises NotMeasured when it does not in time."""
    deadline = time.monotonic() + seconds
    while not contender.done():
        ended = [process.returncode for process in processes if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            why = f"a worker ended with {ended[0]}" if ended else f"not done within {seconds:g} s"
            tail = log.read_text(errors="replace")[-800:] if log else ""
            raise NotMeasured(f"{contender.name}: {why}. {tail}")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One contender in one round."""

    jobs_per_second: float  # from the first job's sending until the last one is acknowledged
    # Milliseconds of processor time for each job, by who used it. A busy neighbour changes these less.
    sender_ms: float
    workers_ms: float
    redis_ms: float

    @property
    def processor_ms(self) -> float:
        """Of all, for each job."""
        return self.sender_ms + self.workers_ms + self.redis_ms


def measure(contender: Contender, count: int, workers: Sequence[subprocess.Popen[bytes]]) -> Figure:
    """Sends so many jobs and waits until they are done."""
    calls = some_calls(count)
    trees = [psutil.Process(process.pid) for process in workers]
    everybody = [each for tree in trees for each in (tree, *tree.children(recursive=True))]
    sender_before, before = time.process_time(), _processor_seconds(everybody)
    redis_before = _redis_seconds(contender.client)
    started = time.perf_counter()
    contender.send(calls)
    wait_done(contender, ROUND_SECONDS)
    seconds = time.perf_counter() - started
    return Figure(
        jobs_per_second=round(count / seconds, 1),
        sender_ms=round(1000 * (time.process_time() - sender_before) / count, 3),
        workers_ms=round(1000 * (_processor_seconds(everybody) - before) / count, 3),
        redis_ms=round(1000 * (_redis_seconds(contender.client) - redis_before) / count, 3),
    )


def _processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """A process that forks for each job has its dead children's time in its own."""
    times = [process.cpu_times() for process in processes]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def _redis_seconds(client: Any) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_sys"] + info["used_cpu_user"])
