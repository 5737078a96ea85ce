"""Redis's memory for jobs that wait: as batches, and one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from benchmarks.queue_contenders import KEY, some_calls
from config.settings import JobsSettings, RedisSettings
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import BatchItem, Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.local.valkey import ValkeyServer

BATCH = 100_000
SINGLES = 10_000  # one by one takes long, and the next million is as the first
GOAL_BYTES = 400.0


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What some waiting jobs took."""

    how: str
    jobs: int
    used_bytes: int  # INFO's used_memory, after less before
    seconds: float  # that their submission took

    @property
    def bytes_each(self) -> float:
        """Of one job."""
        return self.used_bytes / self.jobs

    def __str__(self) -> str:
        verdict = "reached" if self.bytes_each <= GOAL_BYTES else "missed"
        return (
            f"memory of {self.jobs:,} waiting jobs, {self.how}: {self.used_bytes / 1e6:,.0f} MB,"
            f" {self.bytes_each:,.0f} bytes each (goal: <= {GOAL_BYTES:.0f}, {verdict});"
            f" submitted in {self.seconds:,.1f} s"
        )


def measure_memory(server: ValkeyServer, jobs: int, tell: Callable[[str], None]) -> Iterator[Memory]:
    """Batches of 100,000 keys such as 2026/11/22/agent-0042/call-000123.wav, then jobs sent one by one."""
    import time

    import redis

    settings = RedisSettings(url=SecretStr(server.url(0)))
    ledger = Ledger.connect(settings, JobsSettings(max_backlog=2 * jobs + SINGLES))
    with redis.Redis.from_url(server.url(0)) as client:
        for how, count in (("in batches", jobs), ("one by one", min(jobs, SINGLES))):
            tell(f"{count:,} waiting jobs, {how}")
            client.execute_command("FLUSHDB", "SYNC")  # else it is still giving memory back when we look
            before, started = _used_bytes(client), time.perf_counter()
            if how == "in batches":
                for first in range(0, count, BATCH):
                    size = min(BATCH, count - first)
                    items = (BatchItem(source=_call(first + n)) for n in range(size))
                    submit_batch(ledger, items, lane="bulk")
            else:
                for call in some_calls(count):
                    submit_job(ledger, call, lane="bulk")
            seconds = time.perf_counter() - started
            yield Memory(how=how, jobs=count, used_bytes=_used_bytes(client) - before, seconds=round(seconds, 2))
        client.execute_command("FLUSHDB", "SYNC")
    ledger.close()


def _call(number: int) -> Source:
    return Source(bucket="calls", key=KEY.format(agent=number % 500, call=number))


def _used_bytes(client: object) -> int:
    return int(client.info("memory")["used_memory"])  # type: ignore[attr-defined]
