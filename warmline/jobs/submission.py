"""How a job enters: into the ledger, where the feeder finds it. Celery alone never knows of an accepted job."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain

from warmline.jobs.batch_ids import new_batch_id
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import BatchItem, BatchState, Job, JobState, JobStatus, Lane, Metadata, Options, Source


def submit_job(
    ledger: Ledger,
    source: Source,
    *,
    options: Options | None = None,
    metadata: Metadata | None = None,
    lane: Lane = "live",
) -> JobState:
    """Accepts one job; returns how it stands in the ledger. Raises BacklogFull, LedgerUnavailable."""
    job = _new_job(uuid.uuid4().hex, source, options, metadata, lane)
    ledger.create(job)
    return JobState(job=job, status=JobStatus.QUEUED, queued_at=job.created_at)


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
    items = _items(calls)
    first = next(items, None)
    if first is None:
        raise InvalidRequest("The batch has no jobs.")
    batch_id = new_batch_id()
    template = _new_job(batch_id, first.source, options, metadata, lane, batch_id)
    return ledger.create_batch(template, chain((first,), items))


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
    )
