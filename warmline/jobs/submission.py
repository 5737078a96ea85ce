"""How a job enters: into the ledger, where the feeder finds it. Celery alone never knows of an accepted job."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain

from warmline.jobs.batch_ids import new_batch_id
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.idempotency import Made, Once
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import BatchItem, BatchState, Job, JobState, JobStatus, Lane, Metadata, Options, Source
from warmline.telemetry.tracing import current, span


def submit_job(
    ledger: Ledger,
    source: Source,
    *,
    options: Options | None = None,
    metadata: Metadata | None = None,
    lane: Lane = "live",
) -> JobState:
    """Accepts one job; returns how it stands in the ledger. Raises BacklogFull, LedgerUnavailable."""
    job_id = uuid.uuid4().hex
    with span("submit", "producer", {"warmline.job.id": job_id, "warmline.lane": lane}):
        job = _new_job(job_id, source, options, metadata, lane)
        ledger.create(job)
    return JobState(job=job, status=JobStatus.QUEUED, queued_at=job.created_at)


def submit_job_once(
    ledger: Ledger,
    once: Once | None,
    source: Source,
    *,
    options: Options | None = None,
    metadata: Metadata | None = None,
    lane: Lane = "live",
) -> Made:
    """As `submit_job`, unless this request came before: then it is the job that it made.

    None: a request without a name, which is always a new one. Raises IdempotencyKeyReused, too.
    """
    if once is None:
        return Made(id=submit_job(ledger, source, options=options, metadata=metadata, lane=lane).job.id)
    job_id = uuid.uuid4().hex
    with span("submit", "producer", {"warmline.job.id": job_id, "warmline.lane": lane}):
        return ledger.create_once(_new_job(job_id, source, options, metadata, lane), once)


def submit_batch(
    ledger: Ledger,
    calls: Iterable[Source | BatchItem],
    *,
    options: Options | None = None,
    metadata: Metadata | None = None,
    lane: Lane = "bulk",
) -> BatchState:
    """Accepts many jobs as one batch, all or none; returns how the batch stands in the ledger.

    `calls` are read once, and memory does not grow with their number. `options` and `metadata` are for all;
    an item's own options win, its metadata are added.

    Raises BatchTooLarge, BacklogFull, InvalidRequest for no calls at all, LedgerUnavailable when Redis does not
    take them, and whatever reading the calls raises; then none of them was accepted.
    """
    return _enter_batch(ledger, new_batch_id(), None, calls, options, metadata, lane)


def submit_batch_once(
    ledger: Ledger,
    once: Once | None,
    calls: Iterable[Source | BatchItem],
    *,
    options: Options | None = None,
    metadata: Metadata | None = None,
    lane: Lane = "bulk",
) -> Made:
    """As `submit_batch`, unless this request came before: then it is the batch that it made, and no call is read.

    None: a request without a name, which is always a new one. Raises IdempotencyKeyReused, and IdempotencyKeyInUse
    while the one that came before is being done, too.
    """
    if once is None:
        state = submit_batch(ledger, calls, options=options, metadata=metadata, lane=lane)
        return Made(id=state.id, total=state.total)
    batch_id = new_batch_id()
    if known := ledger.begin_batch(batch_id, once):
        return known
    try:
        state = _enter_batch(ledger, batch_id, once, calls, options, metadata, lane)
    except BaseException:
        ledger.end_batch(batch_id, once)
        raise
    return Made(id=state.id, total=state.total, replayed=state.id != batch_id)


def _enter_batch(
    ledger: Ledger,
    batch_id: str,
    once: Once | None,
    calls: Iterable[Source | BatchItem],
    options: Options | None,
    metadata: Metadata | None,
    lane: Lane,
) -> BatchState:
    items = _items(calls)
    first = next(items, None)
    if first is None:
        raise InvalidRequest("The batch has no jobs.")
    with span("submit batch", "producer", {"warmline.batch.id": batch_id, "warmline.lane": lane}) as submitting:
        template = _new_job(batch_id, first.source, options, metadata, lane, batch_id)
        state = ledger.create_batch(template, chain((first,), items), once)
        submitting.set("messaging.batch.message_count", state.total)
    return state


def _items(calls: Iterable[Source | BatchItem]) -> Iterator[BatchItem]:
    return (BatchItem(source=call) if isinstance(call, Source) else call for call in calls)


def _new_job(
    job_id: str,
    source: Source,
    options: Options | None,
    metadata: Metadata | None,
    lane: Lane,
    batch_id: str | None = None,
) -> Job:
    return Job(
        id=job_id,
        source=source,
        options=options or Options(),
        metadata=metadata or {},
        lane=lane,
        batch_id=batch_id,
        created_at=datetime.now(UTC),
        traceparent=current().traceparent,
    )
