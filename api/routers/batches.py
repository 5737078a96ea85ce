"""Many calls as one batch: by a list of jobs, by a list of keys, or by a prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Query, Response, Security

from api.auth import bearer_in_openapi
from api.bodies import SentBody
from api.dependencies import Provided, Services
from api.idempotency import REFUSALS, SentKey, accepted, say_if_replayed, takes_key
from api.openapi import problems, takes, with_body
from api.routers.jobs import Before, Limit, page
from api.schemas import BatchAccepted, BatchLinks, BatchList, BatchRequest, BatchView, JobId, JobList, Replayed
from warmline.jobs.errors import (
    BacklogFull,
    BatchNotFound,
    BatchTooLarge,
    BucketNotAllowed,
    JobNotFound,
    ObjectForbidden,
    ObjectNotFound,
    StoreUnavailable,
)
from warmline.jobs.records import BatchItem, JobStatus, Source
from warmline.jobs.submission import submit_batch_once

router = APIRouter(prefix="/v1/batches", tags=["batches"], dependencies=[Security(bearer_in_openapi)])

BatchId = JobId


@router.post(
    "",
    status_code=202,
    summary="Submit many calls",
    responses={
        **accepted("batch"),
        **with_body(
            *(BatchTooLarge, BacklogFull, BucketNotAllowed),
            *(ObjectNotFound, ObjectForbidden, StoreUnavailable),
            *REFUSALS,
        ),
    },
    openapi_extra=takes_key(takes(BatchRequest)),
)
def submit(body: SentBody, key: SentKey, response: Response, services: Provided) -> BatchAccepted:
    """Accepted whole or not at all. A prefix is listed now: a call uploaded later is not of this batch."""
    request = body.parse(BatchRequest)
    _refuse_early(request, services)
    made = submit_batch_once(
        services.ledger,
        key.once(body),
        _calls(request, services),
        options=request.options,
        metadata=request.metadata,
        lane=request.lane,
    )
    links = BatchLinks.of(made.id)
    response.headers["Location"] = links.own
    say_if_replayed(response, made)
    return BatchAccepted(id=made.id, total=made.total, links=links)


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
    return page(f"/v1/batches/{batch_id}/jobs", states, limit, status=status)


@router.post(
    "/{batch_id}/cancel",
    summary="Cancel a batch",
    responses={
        202: {"model": BatchView, "description": "some of its jobs run, and stop after the window they are at"},
        **problems(BatchNotFound),
    },
)
def cancel(batch_id: BatchId, response: Response, services: Provided) -> BatchView:
    """Those of its jobs that wait are cancelled at once; those that have ended stay as they are."""
    state = services.ledger.cancel_batch(batch_id)
    response.status_code = 200 if state.finished else 202
    return BatchView.of(state)


@router.post(
    "/{batch_id}/replay",
    status_code=202,
    summary="Run a batch's failures again",
    responses=problems(BatchNotFound),
)
def replay(batch_id: BatchId, services: Provided) -> Replayed:
    """Puts those of its jobs that failed or are dead among the waiting ones, and no others."""
    return Replayed(replayed=services.ledger.replay_all(batch_id))


def _refuse_early(request: BatchRequest, services: Services) -> None:
    """Raises BucketNotAllowed or BatchTooLarge before Redis is asked to hold anything."""
    buckets = {item.source.bucket for item in request.jobs or ()}
    for bucket in sorted(buckets | ({request.bucket} if request.bucket else set())):
        services.store.check_allowed(bucket)
    limit = services.settings.jobs.max_batch
    if len(request.jobs or request.keys or ()) > limit:
        raise BatchTooLarge(f"The batch has more than {limit:,} jobs (WARMLINE_JOBS_MAX_BATCH); split it.")


def _calls(request: BatchRequest, services: Services) -> Iterable[BatchItem | Source]:
    """The batch's calls, one after the other: a prefix is listed while it is accepted, and held nowhere."""
    if request.jobs is not None:
        return request.jobs
    bucket = request.bucket or ""
    if request.keys is not None:
        return (Source(bucket=bucket, key=key) for key in request.keys)
    return _listed(bucket, request.prefix or "", services)


def _listed(bucket: str, prefix: str, services: Services) -> Iterator[Source]:
    """What S3 lists. Raises ObjectNotFound when that is nothing."""
    found = services.store.list_keys(bucket, prefix)
    first = next(found, None)
    if first is None:
        raise ObjectNotFound(f"There is no object whose key begins with s3://{bucket}/{prefix}.")
    yield from chain((first,), found)
