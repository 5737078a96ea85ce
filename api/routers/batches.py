"""Many calls as one batch: by a list of jobs, by a list of keys, or by a prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Response, Security

from api.auth import bearer_in_openapi
from api.dependencies import Provided, Services
from api.openapi import problems, with_body
from api.problems import BatchTooLarge
from api.routers.jobs import Before, Limit, page
from api.schemas import BatchAccepted, BatchLinks, BatchList, BatchRequest, BatchView, JobId, JobList
from warmline.jobs.errors import (
    BatchNotFound,
    BucketNotAllowed,
    JobNotFound,
    ObjectForbidden,
    ObjectNotFound,
    StoreUnavailable,
)
from warmline.jobs.records import BatchItem, JobStatus, Source
from warmline.jobs.submission import submit_batch

router = APIRouter(prefix="/v1/batches", tags=["batches"], dependencies=[Security(bearer_in_openapi)])

BatchId = JobId


@router.post(
    "",
    status_code=202,
    summary="Submit many calls",
    responses={
        202: {"headers": {"Location": {"description": "the batch's address", "schema": {"type": "string"}}}},
        **with_body(BatchTooLarge, BucketNotAllowed, ObjectNotFound, ObjectForbidden, StoreUnavailable),
    },
)
def submit(request: BatchRequest, response: Response, services: Provided) -> BatchAccepted:
    """Accepted whole or not at all. A prefix is listed now: a call uploaded later is not of this batch."""
    items = _at_most(_items(request, services), services.settings.jobs.max_batch)
    if not items:
        raise ObjectNotFound(f"There is no object whose key begins with s3://{request.bucket}/{request.prefix}.")
    state = submit_batch(
        services.ledger,
        services.queue,
        items,
        options=request.options,
        metadata=request.metadata,
        lane=request.lane,
    )
    links = BatchLinks.of(state.id)
    response.headers["Location"] = links.own
    return BatchAccepted(id=state.id, total=state.total, links=links)


@router.get("", summary="List batches", responses=problems())
def list_batches(services: Provided, limit: Limit = 50) -> BatchList:
    """The newest first."""
    return BatchList(batches=[BatchView.of(state) for state in services.ledger.batches(limit)])


@router.get("/{batch_id}", summary="How far is a batch?", responses=problems(BatchNotFound))
def get(batch_id: BatchId, services: Provided) -> BatchView:
    """How many of its jobs are where."""
    return BatchView.of(services.ledger.batch(batch_id))


@router.get("/{batch_id}/jobs", summary="List a batch's jobs", responses=problems(BatchNotFound, JobNotFound))
def list_jobs_of(
    batch_id: BatchId,
    services: Provided,
    status: Annotated[JobStatus | None, Query(description="only jobs in this status")] = None,
    limit: Limit = 50,
    before: Before = None,
) -> JobList:
    """The last submitted first."""
    states = services.ledger.list(batch_id=batch_id, status=status, limit=limit, before=before)
    return page(f"/v1/batches/{batch_id}/jobs", states, limit, status)


def _items(request: BatchRequest, services: Services) -> Iterator[BatchItem]:
    """The batch's jobs, one after the other. Raises BucketNotAllowed at the first that is not allowed."""
    for item in request.jobs or ():
        services.store.check_allowed(item.source.bucket)
        yield item
    if request.bucket is not None:
        services.store.check_allowed(request.bucket)
        for source in _below(request, request.bucket, services):
            yield BatchItem(source=source)


def _below(request: BatchRequest, bucket: str, services: Services) -> Iterator[Source]:
    if request.keys is not None:
        return (Source(bucket=bucket, key=key) for key in request.keys)
    return services.store.list_keys(bucket, request.prefix or "")


def _at_most(items: Iterable[BatchItem], limit: int) -> list[BatchItem]:
    """All of them. Reads one beyond the limit and no further: a prefix may hold millions of keys."""
    found = list(islice(items, limit + 1))
    if len(found) > limit:
        raise BatchTooLarge(f"The batch has more than {limit:,} jobs (WARMLINE_JOBS_MAX_BATCH); split it.")
    return found
