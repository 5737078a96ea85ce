"""How much work there is: what waits in each lane and since when, what runs, what was given up.

Monitoring and autoscaling ask for it every few seconds, so its price does not grow with the number of jobs:
counters, lengths of lists, and a look at the head of each line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from pydantic import Field

from warmline.jobs import keys
from warmline.jobs.connection import redis_answers
from warmline.jobs.fleet import Fleet
from warmline.jobs.queue import QUEUES, RETRY_QUEUE, job_id_of_message
from warmline.jobs.records import JobStatus, Lane, Record, WorkerState

LANES: Final[tuple[Lane, ...]] = get_args(Lane)
MOST_LINES: Final = 200  # of a lane, that are looked at for the oldest job; batches in line are seldom more
MOST_MESSAGES: Final = 500  # of a queue, that are looked at; it is a short runway
MOST_RUNNING: Final = 2000  # running jobs whose lane is looked up


class LaneBacklog(Record):
    """One lane now."""

    waiting: int = Field(description="jobs that a free child would take at once")
    running: int = Field(description="jobs that a child works on")
    oldest_seconds: float | None = Field(None, description="how long the oldest of those that wait has waited")


class Backlog(Record):
    """All the work that there is now."""

    lanes: dict[Lane, LaneBacklog]
    retrying: int = Field(description="jobs that failed for a passing reason and are due for their next attempt")
    oldest_retry_seconds: float | None = Field(
        None, description="how long the oldest of them has been in the queue in front of the workers"
    )
    delayed: int = Field(description="jobs that wait for the time of their next attempt")
    held: int = Field(description="jobs that are held back by their trigger's pace")
    waiting: int = Field(
        description="jobs that a free child would take at once: all lanes, and those to be retried"
    )
    running: int = Field(description="jobs that a child works on")
    work: int = Field(description="waiting + running: what the number of workers should follow")
    dead: int = Field(description="dead letters")
    workers: int = Field(description="workers that are alive")
    children: int = Field(description="children that these should have")
    warm_children: int = Field(description="children that are warm, busy or not")
    busy_children: int = Field(description="children that have a job")


@dataclass(frozen=True, kw_only=True)
class _Queue:
    waiting: int  # jobs with a message that nobody has taken
    oldest_seconds: float | None  # of these, and of those in line behind them


class BacklogLedger(Fleet):
    """The part of the ledger that counts what is to be done."""

    @redis_answers()
    def backlog(self, alive: Sequence[WorkerState] | None = None) -> Backlog:
        """How much work there is. Raises LedgerUnavailable. `alive`: the workers, where they are known already."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(keys.WAITING)
            pipe.zcard(keys.HELD)
            pipe.llen(f"{keys.BROKER}{RETRY_QUEUE}")
            pipe.zcard(keys.jobs(JobStatus.RUNNING))
            pipe.zcard(keys.jobs(JobStatus.DEAD))
            pipe.zrange(keys.LEASES, 0, MOST_RUNNING - 1)
            for lane in LANES:
                pipe.llen(f"{keys.BROKER}{QUEUES[lane]}")
            (seconds, micros), in_line, held, retries, running, dead, leased, *sent = pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcount(keys.DELAYED, "-inf", now_ms)
            pipe.zcount(keys.DELAYED, f"({now_ms}", "+inf")
            due, delayed = pipe.execute()
        running_in = self._running_in(leased)
        workers = self.workers() if alive is None else alive
        oldest_retry = self._oldest_retry_seconds(now_ms)
        queues = {lane: self._queue(lane, length, now_ms) for lane, length in zip(LANES, sent, strict=True)}
        waiting = {lane: int(in_line.get(lane, 0)) + queues[lane].waiting for lane in LANES}
        all_waiting = sum(waiting.values()) + retries + due
        return Backlog(
            lanes={
                lane: LaneBacklog(
                    waiting=waiting[lane], running=running_in[lane], oldest_seconds=queues[lane].oldest_seconds
                )
                for lane in LANES
            },
            retrying=retries + due,
            oldest_retry_seconds=oldest_retry,
            delayed=delayed,
            held=held,
            waiting=all_waiting,
            running=running,
            work=all_waiting + running,
            dead=dead,
            workers=len(workers),
            children=sum(worker.children for worker in workers),
            warm_children=sum(len(worker.warm) for worker in workers),
            busy_children=sum(worker.busy for worker in workers),
        )

    @redis_answers()
    def counts(self) -> Mapping[str, int]:
        """How often what has happened since this Redis began: `job:` + status, and `attempt:` + outcome."""
        return {name: int(count) for name, count in self._redis.hgetall(keys.COUNTS).items()}

    @redis_answers()
    def memory_bytes(self) -> tuple[int, int]:
        """What Redis uses, and what it may; 0: it has no limit."""
        info = self._redis.info("memory")
        return int(info["used_memory"]), int(info.get("maxmemory", 0))

    def _running_in(self, job_ids: Sequence[str]) -> Counter[str]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(keys.job(job_id), "job")
            return Counter(json.loads(job)["lane"] for job in pipe.execute() if job is not None)

    def _oldest_retry_seconds(self, now_ms: int) -> float | None:
        """Of those with a message: before they have one, no worker is to blame that they wait."""
        messages = self._redis.lrange(f"{keys.BROKER}{RETRY_QUEUE}", -MOST_MESSAGES, -1)
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in filter(None, map(job_id_of_message, messages)):
                pipe.hmget(keys.job(job_id), "status", "retry_at_ms")
            jobs = pipe.execute()
        due = [int(since) for status, since in jobs if status == JobStatus.QUEUED and since is not None]
        return max(0.0, (now_ms - min(due)) / 1000) if due else None

    def _queue(self, lane: Lane, length: int, now_ms: int) -> _Queue:
        """Celery's queue, and the heads of the lines behind it."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lrange(f"{keys.BROKER}{QUEUES[lane]}", -MOST_MESSAGES, -1)
            pipe.lindex(keys.singles(lane), 0)
            pipe.lrange(keys.turn(lane), 0, MOST_LINES - 1)
            messages, single, lines = pipe.execute()
        sent = [job_id for job_id in map(job_id_of_message, messages) if job_id is not None]
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in sent if single is None else (*sent, single):
                pipe.hmget(keys.job(job_id), "status", "queued_ms")
            jobs = pipe.execute()
        with self._redis.pipeline(transaction=False) as pipe:
            for line in lines:
                if line != keys.SINGLES_LINE:
                    pipe.hget(keys.batch(line), "created_ms")
            batches = pipe.execute()
        # What was cancelled meanwhile leaves its message behind. What a plain Celery client sent has no hash yet.
        still = [status in {None, JobStatus.QUEUED} for status, _ in jobs]
        since = [int(queued) for wanted, (_, queued) in zip(still, jobs, strict=True) if wanted and queued]
        since += [int(created) for created in batches if created is not None]
        return _Queue(
            waiting=length if length > MOST_MESSAGES else sum(still[: len(sent)]),
            oldest_seconds=max(0.0, (now_ms - min(since)) / 1000) if since else None,
        )
