"""Reading jobs: one, or many in pages, whether they have a hash of their own or wait in their batch's list."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from warmline.jobs import keys
from warmline.jobs.batch_ids import batch_of, job_id_of
from warmline.jobs.connection import Connection, redis_answers
from warmline.jobs.errors import BatchNotFound, JobNotFound
from warmline.jobs.records import JobState, JobStatus
from warmline.jobs.rows import JOB_FIELDS, WAITING_FIELDS, Row, WaitingBatch, job_state

CHUNK_JOBS = 1000  # jobs in one pipeline: a few hundred kB, some 20 ms of Redis's time

_Place = tuple[int, str]  # creation time in ms and job id: the order of listings, newest first, then by id


class Listings(Connection):
    """The part of the ledger that finds jobs."""

    @redis_answers()
    def get(self, job_id: str) -> JobState:
        """How far a job is. Raises JobNotFound."""
        found = self._states([job_id])
        if not found:
            raise JobNotFound
        return found[0]

    @redis_answers()
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
        statuses = tuple(JobStatus) if status is None else (status,)
        if batch_id is not None:
            return tuple(islice(self._each_of_batch(batch_id, statuses, before), limit))
        after = None if before is None else (self._created_ms(before), before)
        return tuple(islice(self._each_newest(statuses, after, limit), limit))

    @redis_answers()
    def last_ended(self, status: JobStatus, limit: int) -> tuple[JobState, ...]:
        """The jobs that came to this status last, the last one first, at most `limit` (some fifty are known).

        `list` has the order of submission, in which a job that waited for long is far behind when it ends.
        """
        ids = list(dict.fromkeys(self._redis.lrange(keys.ended(status), 0, 2 * limit - 1)))
        found = [state for state in self._states(ids) if state.status is status]  # some were purged, or replayed
        if len(found) < limit:  # older versions do not tell
            known = {state.job.id for state in found}
            found += [state for state in self.list(status=status, limit=limit) if state.job.id not in known]
        found.sort(key=lambda state: state.finished_at or state.queued_at, reverse=True)
        return tuple(found[:limit])

    @redis_answers()
    def sample(self, batch_id: str, status: JobStatus, limit: int) -> tuple[JobState, ...]:
        """At most `limit` of a batch's jobs in a status, in order of submission. Raises BatchNotFound.

        Where there are more they are chosen at random, the same each time: few of a large batch have to be read.
        """
        found = self._batches_waiting([batch_id])
        if not found:
            raise BatchNotFound
        (batch,) = found
        places = list(range(batch.total))
        Random(batch_id).shuffle(places)  # noqa: S311 - not a secret
        ids = self._in_status(batch, (status,), (job_id_of(batch_id, place) for place in places))
        chosen = sorted(islice(ids, limit), key=batch_of)
        return tuple(state for some in _chunks(iter(chosen), 100) for state in self._states(some))

    def _each(self, statuses: Sequence[JobStatus], batch_id: str | None) -> Iterator[JobState]:
        """Every job in one of these statuses, for whoever changes them while he reads. Raises BatchNotFound.

        Without a batch only those that have hashes of their own.
        """
        with redis_answers():
            if batch_id is not None:
                yield from self._each_of_batch(batch_id, statuses, None)
                return
            # All ids first: what is changed leaves its listing, and would shift what has not been read.
            ids = [job_id for status in statuses for job_id in self._redis.zrange(keys.jobs(status), 0, -1)]
            for some in _chunks(iter(ids), 100):
                yield from (state for state in self._states(some) if state.status in statuses)

    def _each_newest(self, statuses: Sequence[JobStatus], after: _Place | None, page: int) -> Iterator[JobState]:
        places = heapq.merge(
            *(self._hashed(status, after) for status in statuses),
            *(self._waiting(status, after) for status in statuses if status in _WAITING_STATUSES),
            reverse=True,
        )
        last = ""
        for chunk in _chunks((job_id for _, job_id in places), page):
            # A job that moved on while we read is in two listings.
            fresh = [job_id for n, job_id in enumerate(chunk) if job_id != (chunk[n - 1] if n else last)]
            last = chunk[-1]
            yield from (state for state in self._states(fresh) if state.status in statuses)

    def _hashed(self, status: JobStatus, after: _Place | None) -> Iterator[_Place]:
        """The jobs with hashes of their own, from the listing of their status."""
        highest = "+inf" if after is None else after[0]
        start = 0
        while True:
            rows = self._redis.zrange(
                keys.jobs(status), highest, "-inf", desc=True, byscore=True,
                offset=start, num=CHUNK_JOBS, withscores=True,
            )  # fmt: skip
            if not rows:
                return
            start += CHUNK_JOBS
            # Jobs of one millisecond (a batch's) all have the score of `after`: those before it are skipped here.
            places = ((int(score), str(job_id)) for job_id, score in rows)
            yield from (place for place in places if after is None or place < after)

    def _waiting(self, status: JobStatus, after: _Place | None) -> Iterator[_Place]:
        """The jobs without, from their batches."""
        highest = "+inf" if after is None else after[0]
        start = 0
        while ids := self._redis.zrange(
            keys.BATCHES, highest, "-inf", desc=True, byscore=True, offset=start, num=100
        ):
            start += 100
            for batch in self._batches_waiting(ids):
                if batch.status is not status:
                    continue
                for place in range(batch.total - 1, batch.cursor - 1, -1):
                    job_id = job_id_of(batch.id, place)
                    if after is None or (batch.created_ms, job_id) < after:
                        yield batch.created_ms, job_id

    def _batches_waiting(self, batch_ids: Sequence[str]) -> Sequence[WaitingBatch]:
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id in batch_ids:
                pipe.hmget(keys.batch(batch_id), WAITING_FIELDS)
            rows: list[Row] = pipe.execute()
        return [WaitingBatch(i, row) for i, row in zip(batch_ids, rows, strict=True) if row[0] is not None]

    def _each_of_batch(
        self, batch_id: str, statuses: Sequence[JobStatus], before: str | None
    ) -> Iterator[JobState]:
        found = self._batches_waiting([batch_id])
        if not found:
            raise BatchNotFound
        (batch,) = found
        last = batch.total
        if before is not None:
            whose, last = batch_of(before)
            if whose != batch_id or not 0 <= last < batch.total:
                raise JobNotFound
        ids = (job_id_of(batch_id, place) for place in range(last - 1, -1, -1))
        for some in _chunks(self._in_status(batch, statuses, ids), 100):
            yield from (state for state in self._states(some) if state.status in statuses)

    def _in_status(self, batch: WaitingBatch, statuses: Sequence[JobStatus], ids: Iterator[str]) -> Iterator[str]:
        """Those of a batch's jobs that are in one of these statuses."""
        for chunk in _chunks(ids, CHUNK_JOBS):
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in chunk:
                    pipe.hget(keys.job(job_id), "status")
                known: list[str | None] = pipe.execute()
            for job_id, status in zip(chunk, known, strict=True):
                if (status or batch.status) in statuses:
                    yield job_id

    def _states(self, job_ids: Sequence[str]) -> Sequence[JobState]:
        """The jobs that have not expired, in this order."""
        rows = self._rows(job_ids)
        waiting = self._states_of_waiting([job_id for job_id, row in rows.items() if row[0] is None])
        # One that is in neither place was fed between the two looks: it has a hash by now.
        rows |= self._rows([job_id for job_id, row in rows.items() if row[0] is None and job_id not in waiting])
        states = (
            waiting.get(job_id) if rows[job_id][0] is None else job_state(rows[job_id]) for job_id in job_ids
        )
        return [state for state in states if state is not None]

    def _rows(self, job_ids: Sequence[str]) -> dict[str, Row]:
        if not job_ids:
            return {}
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), JOB_FIELDS)
            return dict(zip(job_ids, pipe.execute(), strict=True))

    def _states_of_waiting(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        places = {job_id: batch_of(job_id) for job_id in job_ids}
        batches = {b.id: b for b in self._batches_waiting(sorted({batch_id for batch_id, _ in places.values()}))}
        places = {
            job_id: (batch_id, place)
            for job_id, (batch_id, place) in places.items()
            if batch_id in batches and batches[batch_id].cursor <= place < batches[batch_id].total
        }
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id, place in places.values():
                pipe.lindex(keys.calls(batch_id), place)
            calls: list[str | None] = pipe.execute()
        return {
            job_id: batches[batch_id].state(place, call)
            for (job_id, (batch_id, place)), call in zip(places.items(), calls, strict=True)
            if call is not None
        }

    def _created_ms(self, job_id: str) -> int:
        created: str | None = self._redis.hget(keys.job(job_id), "created_ms")
        if created is None:
            batch_id, _ = batch_of(job_id)
            created = self._redis.hget(keys.batch(batch_id), "created_ms")
        if created is None:
            raise JobNotFound
        return int(created)


_WAITING_STATUSES = (JobStatus.QUEUED, JobStatus.CANCELLED)  # what a job without a hash can be


def _chunks(ids: Iterator[str], size: int) -> Iterator[list[str]]:
    while chunk := list(islice(ids, size)):
        yield chunk
