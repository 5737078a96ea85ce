"""Batches: many jobs that are accepted together or not at all, and how far they got together."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from warmline.jobs import idempotency, keys, line_scripts
from warmline.jobs.connection import redis_answers
from warmline.jobs.errors import BacklogFull, BatchNotFound, BatchTooLarge, InvalidRequest, LedgerUnavailable
from warmline.jobs.idempotency import BEGUN_SECONDS, Made, Once
from warmline.jobs.listings import CHUNK_JOBS, Listings
from warmline.jobs.records import BatchItem, BatchState, Job
from warmline.jobs.rows import BATCH_FIELDS, Row, batch_state, milliseconds, pack_call

STAGED_SECONDS = 3600  # what was written of a batch that nobody opened is gone after this


class Batches(Listings):
    """The part of the ledger that knows batches."""

    def create_batch(self, template: Job, items: Iterable[BatchItem], once: Once | None = None) -> BatchState:
        """Enters many jobs as queued, all or none. `items` are read once and not kept.

        `template` is a job with the batch's id as `batch_id`, and with what the jobs have in common; of its source
        only the bucket counts. Raises BatchTooLarge, BacklogFull, InvalidRequest for a batch without jobs, and
        what the iterable raises; then nothing is left.

        `once` is a request of which `begin_batch` said that it may begin. Should the same request have opened a
        batch meanwhile, because this one was not heard of for too long, it is that batch, and nothing is left of
        this one; should another one have, it raises IdempotencyKeyReused.
        """
        batch_id = template.batch_id or ""
        try:
            staged = self._stage(batch_id, template.source.bucket, items, once)
            return self.batch(self._open(batch_id, template, staged, once))
        except BaseException:
            self._unstage(batch_id)
            raise

    @redis_answers()
    def begin_batch(self, batch_id: str, once: Once) -> Made | None:
        """Says that a batch is about to be made for this request; or what it made when it came before.

        Raises IdempotencyKeyReused, and IdempotencyKeyInUse where the same request is being done.
        """
        known = self._run(idempotency.BEGIN, once.name, once.entry(batch_id), BEGUN_SECONDS)
        return once.read(known) if known else None

    def end_batch(self, batch_id: str, once: Once) -> None:
        """Nothing came of a batch that was begun: the request may be sent again at once."""
        with suppress(LedgerUnavailable), redis_answers():
            self._run(idempotency.GO_ON, once.name, once.entry(batch_id), 0)

    def _stage(self, batch_id: str, bucket: str, items: Iterable[BatchItem], once: Once | None) -> int:
        listing, staged, remaining = keys.calls(batch_id), 0, iter(items)
        while chunk := [pack_call(item, bucket) for item in islice(remaining, CHUNK_JOBS)]:
            staged += len(chunk)
            if staged > self._jobs.max_batch:
                raise BatchTooLarge(
                    f"The batch has more than {self._jobs.max_batch:,} jobs (WARMLINE_JOBS_MAX_BATCH); split it."
                )
            with redis_answers(), self._redis.pipeline(transaction=True) as pipe:
                pipe.rpush(listing, *chunk)
                pipe.expire(listing, STAGED_SECONDS)
                # A retry of this after an answer that was lost would write the chunk twice.
                if pipe.execute()[0] != staged:
                    raise LedgerUnavailable("Redis was interrupted while it took the batch; submit it again.")
            if once is not None:
                with redis_answers():
                    self._run(idempotency.GO_ON, once.name, once.entry(batch_id), BEGUN_SECONDS)
        return staged

    @redis_answers()
    def _open(self, batch_id: str, template: Job, staged: int, once: Once | None) -> str:
        name, entry = ("", "") if once is None else (once.name, once.entry(batch_id, staged))
        opened: int | str = self._run(
            line_scripts.OPEN_BATCH,
            *(batch_id, template.lane, template.model_dump_json(), milliseconds(template.created_at)),
            *(self._jobs.max_backlog, name, entry, self._jobs.idempotency_seconds),
        )
        if once is not None and isinstance(opened, str):
            return once.read(opened).id
        if opened == 0:
            raise InvalidRequest("The batch has no jobs.")
        if opened == -1:
            raise BacklogFull
        return batch_id

    def _unstage(self, batch_id: str) -> None:
        try:
            with redis_answers():
                if not self._redis.exists(keys.batch(batch_id)):
                    self._redis.delete(keys.calls(batch_id))
        except LedgerUnavailable:
            return  # it expires

    @redis_answers()
    def batch(self, batch_id: str) -> BatchState:
        """How far a batch is. Raises BatchNotFound."""
        row: Row = self._redis.hmget(keys.batch(batch_id), BATCH_FIELDS)
        if row[0] is None:
            raise BatchNotFound
        return batch_state(batch_id, row)

    @redis_answers()
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
