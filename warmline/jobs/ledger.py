"""The ledger: what Redis knows of jobs, batches and workers. A job is entered here before its message is sent.

Every method raises LedgerUnavailable when Redis does not answer as it should. Every write that two processes could
make at once is one of the scripts in transitions.py. Redis Cluster is not supported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import redis
import structlog
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from config.settings import JobsSettings, RedisSettings
from warmline.jobs import keys, transitions
from warmline.jobs.errors import BatchNotFound, JobNotFound, LedgerUnavailable, WorkerLost
from warmline.jobs.records import (
    BatchState,
    Failure,
    Job,
    JobState,
    JobStatus,
    Progress,
    ReportLocation,
    WorkerState,
)
from warmline.jobs.rows import BATCH_FIELDS, JOB_FIELDS, Row, batch_state, job_state, milliseconds

log = structlog.get_logger()

CHUNK_JOBS = 1000  # jobs in one pipeline: a few hundred kB, some 20 ms of Redis's time


@contextmanager
def _redis_answers() -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise LedgerUnavailable(f"Redis does not answer: {error}; check WARMLINE_REDIS_URL.") from error
    except redis.RedisError as error:
        raise LedgerUnavailable(f"Redis refuses to work: {error}; check its memory and its log.") from error


class Ledger:
    """A client of the ledger. Threads may share it, and so may a process and its forks."""

    def __init__(self, client: redis.Redis, jobs: JobsSettings) -> None:
        # redis-py's answers are typed "this, or an awaitable of it": the edge is untyped, the methods are not.
        self._redis: Any = client
        self._jobs = jobs
        self._scripts: dict[str, Any] = {}

    @classmethod
    def connect(cls, settings: RedisSettings, jobs: JobsSettings) -> Self:
        """A ledger at the address in the settings. Connects at first use, so it does not fail here."""
        client = redis.Redis.from_url(
            settings.url.get_secret_value(),
            decode_responses=True,
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
            socket_keepalive=True,
            health_check_interval=30,
            # One more try reaches a Redis that closed an idle connection; a caller that can wait has its own.
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
        )
        return cls(client, jobs)

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        self._redis.close()

    @_redis_answers()
    def ping(self) -> None:
        """Returns when Redis answers."""
        self._redis.ping()

    # Writing jobs

    @_redis_answers()
    def create(self, job: Job) -> bool:
        """Enters a job as queued; False when a job with this id is there already, which is left as it is."""
        return bool(self._run(transitions.CREATE, *_creation(job)))

    @_redis_answers()
    def create_batch(self, batch_id: str, jobs: Sequence[Job]) -> None:
        """Enters many jobs as queued and counts them in a batch. Jobs that are there already are left out."""
        self._run(transitions.OPEN_BATCH, batch_id)
        create = self._script(transitions.CREATE)
        for start in range(0, len(jobs), CHUNK_JOBS):
            with self._redis.pipeline(transaction=False) as pipe:
                for job in jobs[start : start + CHUNK_JOBS]:
                    create(args=_creation(job, batch_id), client=pipe)
                pipe.execute()

    @_redis_answers()
    def claim(self, job: Job, worker: str) -> JobState | None:
        """Gives a job to a worker: running, one attempt more. A job that the ledger does not know is entered now.

        None: there is nothing to do. The job has finished, or it used up its attempts without an end, because
        whoever ran it died: then it is failed as `worker_lost` now.
        """
        attempts = self._jobs.max_attempts
        lost = Failure(
            code=WorkerLost.code,
            message=f"The worker process died while it ran this job, {attempts} times; see the worker's log.",
        )
        claimed = self._run(
            transitions.CLAIM,
            *(job.id, job.model_dump_json(), milliseconds(job.created_at), worker, attempts),
            *(lost.model_dump_json(), self._jobs.retention_seconds, *JOB_FIELDS),
        )
        if isinstance(claimed, list):
            return job_state(claimed)
        if claimed == -1:
            log.error("job_given_up", job_id=job.id, code=lost.code, attempts=attempts)
        return None

    @_redis_answers()
    def progress(self, job_id: str, progress: Progress) -> bool:
        """Says how far a running job is; False when it is not running."""
        return bool(self._run(transitions.PROGRESS, job_id, progress.model_dump_json()))

    @_redis_answers()
    def succeed(self, job_id: str, location: ReportLocation, report_json: str | None) -> bool:
        """Ends a job with a report, kept here when its JSON is given; False when it is unknown or has ended."""
        retention = self._jobs.retention_seconds
        return bool(
            self._run(transitions.SUCCEED, job_id, location.model_dump_json(), report_json or "", retention)
        )

    @_redis_answers()
    def fail(self, job_id: str, failure: Failure) -> bool:
        """Gives a job up; False when it is unknown or has ended."""
        return bool(self._run(transitions.FAIL, job_id, failure.model_dump_json(), self._jobs.retention_seconds))

    @_redis_answers()
    def retry(self, job_id: str) -> bool:
        """Puts a running job back among the queued; False when it is not running. Its attempts stay counted."""
        return bool(self._run(transitions.RETRY, job_id))

    # Reading jobs

    @_redis_answers()
    def get(self, job_id: str) -> JobState:
        """How far a job is. Raises JobNotFound."""
        row: Row = self._redis.hmget(keys.job(job_id), JOB_FIELDS)
        if row[0] is None:
            raise JobNotFound
        return job_state(row)

    @_redis_answers()
    def report(self, job_id: str) -> bytes | None:
        """The report's JSON, or None when Redis does not keep it: not ready, in S3 only, or expired."""
        text: str | None = self._redis.get(keys.report(job_id))
        return None if text is None else text.encode()

    @_redis_answers()
    def list(
        self,
        *,
        status: JobStatus | None = None,
        batch_id: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> tuple[JobState, ...]:
        """The newest jobs first, at most `limit`; within a batch, the last submitted first.

        `before` is the id of the last job of the page before. Raises JobNotFound when that job has expired.
        """
        if batch_id is not None:
            return self._list_batch(batch_id, status, limit, before)
        statuses = [status] if status else list(JobStatus)
        place = None if before is None else (self._created_ms(before), before)
        found: list[JobState] = []
        while len(found) < limit:
            page = self._newest_ids(statuses, limit - len(found), place)
            if not page:
                break
            place = page[-1]
            found.extend(self._states([job_id for _, job_id in page]))
        return tuple(found)

    def _newest_ids(
        self, statuses: Sequence[JobStatus], limit: int, place: tuple[int, str] | None
    ) -> Sequence[tuple[int, str]]:
        """(creation time in ms, job id) after `place` in the order of the listing: newest first, then by id."""
        highest = "+inf" if place is None else place[0]
        ids: list[tuple[int, str]] = []
        for status in statuses:
            start = 0
            kept: list[tuple[int, str]] = []
            # Jobs of one millisecond (a batch's) all have the score of `place`: those before it are skipped here.
            while len(kept) < limit:
                rows = self._redis.zrange(
                    keys.jobs(status), highest, "-inf", desc=True, byscore=True,
                    offset=start, num=limit + CHUNK_JOBS, withscores=True,
                )  # fmt: skip
                start += limit + CHUNK_JOBS
                entries = [(int(score), str(job_id)) for job_id, score in rows]
                kept.extend(entry for entry in entries if place is None or entry < place)
                if not rows:
                    break
            ids.extend(kept)
        # A job that moved on while we read is in two listings.
        return sorted(set(ids), reverse=True)[:limit]

    def _list_batch(
        self, batch_id: str, status: JobStatus | None, limit: int, before: str | None
    ) -> tuple[JobState, ...]:
        listing = keys.batch_jobs(batch_id)
        if not self._redis.exists(keys.batch(batch_id)):
            raise BatchNotFound
        start = 0
        if before is not None:
            rank = self._redis.zrevrank(listing, before)
            if rank is None:
                raise JobNotFound
            start = int(rank) + 1
        found: list[JobState] = []
        while len(found) < limit:
            ids = self._redis.zrange(listing, start, start + limit - 1, desc=True)
            if not ids:
                break
            start += limit
            found.extend(state for state in self._states(ids) if status in {None, state.status})
        return tuple(found[:limit])

    def _states(self, job_ids: Sequence[str]) -> Sequence[JobState]:
        """The jobs that have not expired, in this order."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), JOB_FIELDS)
            rows: list[Row] = pipe.execute()
        return [job_state(row) for row in rows if row[0] is not None]

    def _created_ms(self, job_id: str) -> int:
        created: str | None = self._redis.hget(keys.job(job_id), "created_ms")
        if created is None:
            raise JobNotFound
        return int(created)

    # Batches

    @_redis_answers()
    def batch(self, batch_id: str) -> BatchState:
        """How far a batch is. Raises BatchNotFound."""
        row: Row = self._redis.hmget(keys.batch(batch_id), BATCH_FIELDS)
        if row[0] is None:
            raise BatchNotFound
        return batch_state(batch_id, row)

    @_redis_answers()
    def batches(self, limit: int = 100) -> tuple[BatchState, ...]:
        """The newest batches first, at most `limit`."""
        found: list[BatchState] = []
        start = 0
        while len(found) < limit:
            ids = self._redis.zrange(keys.BATCHES, start, start + limit - 1, desc=True)
            if not ids:
                break
            start += limit
            with self._redis.pipeline(transaction=False) as pipe:
                for batch_id in ids:
                    pipe.hmget(keys.batch(batch_id), BATCH_FIELDS)
                rows: list[Row] = pipe.execute()
            found.extend(batch_state(i, row) for i, row in zip(ids, rows, strict=True) if row[0] is not None)
        return tuple(found[:limit])

    # Workers

    @_redis_answers()
    def beat(self, worker: WorkerState, *, ttl_seconds: float) -> None:
        """Says that a worker is alive, for so long."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.worker(worker.name), worker.model_dump_json(), px=int(ttl_seconds * 1000))
            pipe.zadd(keys.WORKERS, {worker.name: worker.seen_at.timestamp()})
            pipe.execute()

    @_redis_answers()
    def leave(self, worker_name: str) -> None:
        """Takes a worker's heartbeat away: it has stopped."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker(worker_name))
            pipe.zrem(keys.WORKERS, worker_name)
            pipe.execute()

    @_redis_answers()
    def workers(self) -> tuple[WorkerState, ...]:
        """The workers that are alive, by name."""
        names: list[str] = sorted(self._redis.zrange(keys.WORKERS, 0, -1))
        if not names:
            return ()
        beats: list[str | None] = self._redis.mget([keys.worker(name) for name in names])
        gone = [name for name, beat in zip(names, beats, strict=True) if beat is None]
        if gone:
            self._redis.zrem(keys.WORKERS, *gone)
        return tuple(WorkerState.parse(beat) for beat in beats if beat is not None)

    def _script(self, source: str) -> Any:
        if source not in self._scripts:
            self._scripts[source] = self._redis.register_script(source)
        return self._scripts[source]

    def _run(self, source: str, *args: str | int) -> Any:
        return self._script(source)(args=args)


def _creation(job: Job, batch_id: str = "") -> tuple[str, str, int, str]:
    return job.id, job.model_dump_json(), milliseconds(job.created_at), batch_id
