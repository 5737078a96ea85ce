"""One call, one job: submit it, ask how far it is, fetch its report, cancel it, replay it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response, Security

from api.auth import bearer_in_openapi
from api.bodies import SentBody
from api.dependencies import Provided, Services
from api.idempotency import REFUSALS, SentKey, accepted, say_if_replayed, takes_key
from api.openapi import problems, takes, with_body
from api.schemas import JobAccepted, JobId, JobLinks, JobList, JobRequest, JobView
from warmline.calls.report import Report
from warmline.jobs.errors import (
    BacklogFull,
    BucketNotAllowed,
    JobNotFound,
    NotReplayable,
    ObjectForbidden,
    ObjectNotFound,
    ReportNotReady,
    StoreUnavailable,
)
from warmline.jobs.records import JobState, JobStatus
from warmline.jobs.submission import submit_job_once

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Security(bearer_in_openapi)])

Limit = Annotated[int, Query(ge=1, le=1000, description="how many at most")]
Before = Annotated[JobId | None, Query(description="only what comes after this job in the list: the next page")]


@router.post(
    "",
    status_code=202,
    summary="Submit a call",
    responses={**accepted("job"), **with_body(BucketNotAllowed, BacklogFull, *REFUSALS)},
    openapi_extra=takes_key(takes(JobRequest)),
)
def submit(body: SentBody, key: SentKey, response: Response, services: Provided) -> JobAccepted:
    """Accepted means: it is in the ledger, and ends as succeeded, failed, cancelled or dead whatever happens.

    Whether the object exists is found out by the worker: a job for a missing one fails as `object_not_found`.
    """
    request = body.parse(JobRequest)
    services.store.check_allowed(request.source.bucket)
    made = submit_job_once(
        services.ledger,
        key.once(body),
        request.source,
        options=request.options,
        metadata=request.metadata,
        lane=request.lane,
    )
    links = JobLinks.of(made.id)
    response.headers["Location"] = links.own
    say_if_replayed(response, made)
    return JobAccepted(id=made.id, links=links)


@router.get("", summary="List jobs", responses=problems(JobNotFound))
def list_jobs(
    services: Provided,
    status: Annotated[JobStatus | None, Query(description="only jobs in this status")] = None,
    limit: Limit = 50,
    before: Before = None,
) -> JobList:
    """The newest first."""
    states = services.ledger.list(status=status, limit=limit, before=before)
    return page("/v1/jobs", states, limit, status=status)


@router.get("/{job_id}", summary="How far is a job?", responses=problems(JobNotFound))
def get(job_id: JobId, services: Provided) -> JobView:
    """Its status, its progress while it runs, its attempts, and in the end its report's place or its failure."""
    return JobView.of(services.ledger.get(job_id))


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    responses={
        202: {"model": JobView, "description": "it runs, and stops after the window it is at"},
        **problems(JobNotFound),
    },
)
def cancel(job_id: JobId, response: Response, services: Provided) -> JobView:
    """A job that waits is cancelled at once. One that has ended stays as it is: look at its `status`."""
    state = services.ledger.cancel(job_id)
    response.status_code = 200 if state.status.finished else 202
    return JobView.of(state)


@router.post(
    "/{job_id}/replay",
    status_code=202,
    summary="Run a job again",
    responses=problems(JobNotFound, NotReplayable),
)
def replay(job_id: JobId, services: Provided) -> JobView:
    """Puts a job that failed or is dead among the waiting ones, with all its attempts before it."""
    return JobView.of(services.ledger.replay(job_id))


@router.get(
    "/{job_id}/report",
    summary="Fetch a job's report",
    response_model=Report,
    responses=problems(JobNotFound, ReportNotReady, ObjectNotFound, ObjectForbidden, StoreUnavailable),
)
def report(job_id: JobId, services: Provided) -> Response:
    """The report as the worker wrote it, from Redis or else from S3."""
    return Response(report_of(job_id, services), media_type="application/json")


def report_of(job_id: str, services: Services) -> bytes:
    """A job's report as JSON. Raises what the route above answers with."""
    text = services.ledger.report(job_id)
    if text is None:
        state = services.ledger.get(job_id)
        if state.report is None:
            raise _no_report(state)
        text = services.store.get_report(state.report)
    return text


def page(path: str, states: tuple[JobState, ...], limit: int, **filters: str | None) -> JobList:
    """A page of jobs and the address of the next one, if this one is full."""
    following = None
    if len(states) == limit:
        query: dict[str, Any] = {"limit": limit, "before": states[-1].job.id}
        query |= {name: str(value) for name, value in filters.items() if value is not None}
        following = f"{path}?{urlencode(query)}"
    return JobList(jobs=[JobView.of(state) for state in states], next=following)


def _no_report(state: JobState) -> ReportNotReady:
    if state.failure is not None and state.status.finished:
        why = f"{state.failure.message} [{state.failure.code}]"
        return ReportNotReady(f"This job is {state.status.value} and has no report: {why}")
    if state.status.finished:
        return ReportNotReady(f"This job is {state.status.value} and has no report.")
    return ReportNotReady(f"This job is {state.status.value}; ask again when its status is succeeded.")
