"""What is done to a running stack, and when: SIGKILLs at random, the same ones for the same seed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis

from tests.chaos.fleet import Fleet
from tests.chaos.servers import S3, Redis, Server
from warmline.jobs import keys
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobStatus

KINDS = {
    "child": "a busy child, SIGKILL",
    "parent": "a worker's parent, SIGKILL",
    "group": "a worker, parent and children, SIGKILL",
    "redis": "Redis, SIGKILL and started again",
    "s3": "S3, SIGKILL and started again",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One that was injected."""

    kind: str
    at: float  # seconds since the epoch, as the ledger's times
    pids: frozenset[int] = frozenset()  # of the workers' processes that died of it
    down_seconds: float = 0.0


def order(counts: Mapping[str, int], rng: random.Random) -> list[str]:
    """So many faults of each kind, in an order that the seed decides."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    rng.shuffle(kinds)
    return kinds


@dataclass
class Injector:
    """Injects faults and writes them down. Servers come back by themselves, while other faults go on."""

    fleet: Fleet
    redis: Redis
    s3: S3
    rng: random.Random
    down_seconds: tuple[float, float]
    faults: list[Fault] = field(default_factory=list)
    _outages: list[threading.Thread] = field(default_factory=list)

    def inject(self, kind: str) -> None:
        """One fault of this kind, now."""
        match kind:
            case "child":
                self._kill_child()
            case "parent" | "group":
                worker = self.rng.choice(self.fleet.workers)
                at = time.time()
                with suppress(ProcessLookupError):
                    self.faults.append(Fault(kind=kind, at=at, pids=frozenset(worker.kill(group=kind == "group"))))
            case "redis":
                self._outage(kind, self.redis.server)
            case _:
                self._outage(kind, self.s3.server)

    def wait_up(self) -> None:
        """Returns when all servers serve again."""
        for outage in self._outages:
            outage.join()
        self._outages.clear()

    def _kill_child(self) -> None:
        ours = sorted(pid for worker in self.fleet.workers for pid in worker.children())
        if not ours:
            return  # all workers are starting
        busy = sorted(set(ours) & self._busy())
        victim = self.rng.choice(busy or ours)
        at = time.time()
        with suppress(psutil.NoSuchProcess):
            psutil.Process(victim).kill()
            self.faults.append(Fault(kind="child", at=at, pids=frozenset({victim})))

    def _busy(self) -> set[int]:
        """Pids of children that hold a lease; none where Redis is down."""
        client: Any = redis.Redis.from_url(self.redis.url, decode_responses=True, socket_timeout=1)
        try:
            return {int(holder.rpartition("/")[2]) for holder in client.hkeys(keys.HOLDERS)}
        except redis.RedisError:
            return set()
        finally:
            client.close()

    def _outage(self, kind: str, server: Server) -> None:
        self.wait_up()  # one server at a time is enough to be without
        down = round(self.rng.uniform(*self.down_seconds), 2)

        def fall_and_rise() -> None:
            self.faults.append(Fault(kind=kind, at=time.time(), down_seconds=down))
            server.kill()
            time.sleep(down)
            server.start()

        thread = threading.Thread(target=fall_and_rise, name=f"outage of {kind}", daemon=True)
        self._outages.append(thread)
        thread.start()


class Assassin:
    """Kills every process that runs one job, as a file would that decoders die of; a thread, while it lasts."""

    def __init__(self, ledger: Ledger, job_id: str) -> None:
        self._ledger, self._job_id = ledger, job_id
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="assassin", daemon=True)
        self.killed: list[int] = []

    def start(self) -> None:
        """From now on nobody survives the job."""
        self._thread.start()

    def stop(self) -> None:
        """From now on it is a job as any."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        seen = 0
        while not self._stopping.wait(0.005):
            try:
                state = self._ledger.get(self._job_id)
            except LedgerUnavailable:
                continue
            if state.status is JobStatus.RUNNING and state.attempt > seen and state.worker:
                seen, pid = state.attempt, int(state.worker.rpartition("/")[2])
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
                    self.killed.append(pid)
