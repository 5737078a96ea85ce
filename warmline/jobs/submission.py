"""How a job enters: first the ledger, then the queue, so that nothing is forgotten that was accepted."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from warmline.jobs.errors import LedgerUnavailable, NotEnqueued
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import JobQueue
from warmline.jobs.records import BatchItem, BatchState, Failure, Job, JobState, Lane, Metadata, Options, Source

log = structlog.get_logger()


def submit_job(
    ledger: Ledger,
    queue: JobQueue,
    source: Source,
    *,
    options: Options | None = None,
    metadata: Metadata | None = None,
    lane: Lane = "live",
) -> JobState:
    """Accepts one job and sends it; returns how it stands in the ledger.

    Raises LedgerUnavailable when Redis does not take it; then it is failed as `not_enqueued`, if that can be said.
    """
    job = _new_job(source, options, metadata, lane, None, datetime.now(UTC))
    _enter_and_send(ledger, queue, [job], None)
    return ledger.get(job.id)


def submit_batch(
    ledger: Ledger,
    queue: JobQueue,
    calls: Sequence[Source | BatchItem],
    *,
    options: Options | None = None,
    metadata: Metadata | None = None,
    lane: Lane = "bulk",
) -> BatchState:
    """Accepts many jobs as one batch and sends them; returns how the batch stands in the ledger.

    `options` and `metadata` are for all calls; an item's own win.

    Raises LedgerUnavailable when Redis does not take them all; then those that did not get through are failed as
    `not_enqueued`, if that can be said.
    """
    batch_id, now = uuid.uuid4().hex, datetime.now(UTC)
    items = (BatchItem(source=call) if isinstance(call, Source) else call for call in calls)
    jobs = [
        _new_job(item.source, item.options or options, {**(metadata or {}), **item.metadata}, lane, batch_id, now)
        for item in items
    ]
    _enter_and_send(ledger, queue, jobs, batch_id)
    return ledger.batch(batch_id)


def _new_job(
    source: Source,
    options: Options | None,
    metadata: Metadata | None,
    lane: Lane,
    batch_id: str | None,
    now: datetime,
) -> Job:
    return Job(
        id=uuid.uuid4().hex,
        source=source,
        options=options or Options(),
        metadata=metadata or {},
        lane=lane,
        batch_id=batch_id,
        created_at=now,
    )


def _enter_and_send(ledger: Ledger, queue: JobQueue, jobs: Sequence[Job], batch_id: str | None) -> None:
    try:
        if batch_id is None:
            ledger.create(jobs[0])
        else:
            ledger.create_batch(batch_id, jobs)
        queue.send(jobs)
    except LedgerUnavailable:
        _give_up(ledger, jobs)
        raise


def _give_up(ledger: Ledger, jobs: Sequence[Job]) -> None:
    """Fails the jobs, as far as Redis lets us. A worker may have one of them already: then its end counts."""
    failure = Failure(code=NotEnqueued.code, message=NotEnqueued().message)
    try:
        for job in jobs:
            ledger.fail(job.id, failure)
    except LedgerUnavailable as error:
        log.warning("jobs_left_queued", batch_id=jobs[0].batch_id, jobs=len(jobs), error=error.message)
