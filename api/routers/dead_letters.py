"""Jobs that were given up after too many attempts: look at them, run them again, or let them go."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Security

from api.auth import bearer_in_openapi
from api.dependencies import Provided
from api.openapi import problems
from api.routers.jobs import Before, Limit, page
from api.schemas import AllOfThem, AllOrOfBatch, JobId, JobList, Purged, Replayed
from warmline.jobs.errors import BatchNotFound, JobNotFound
from warmline.jobs.records import JobStatus

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], dependencies=[Security(bearer_in_openapi)])


@router.get("", summary="List dead letters", responses=problems(BatchNotFound, JobNotFound))
def list_dead_letters(
    services: Provided,
    batch_id: Annotated[JobId | None, Query(description="only those of this batch")] = None,
    limit: Limit = 50,
    before: Before = None,
) -> JobList:
    """The newest first, each with its last error and its attempts."""
    states = services.ledger.list(status=JobStatus.DEAD, batch_id=batch_id, limit=limit, before=before)
    return page("/v1/dead-letters", states, limit, batch_id=batch_id)


@router.post("/replay", status_code=202, summary="Run dead letters again", responses=problems())
def replay(services: Provided, _: Annotated[AllOfThem, Query()]) -> Replayed:
    """Puts all of them among the waiting jobs. One alone, or a batch's: `replay` of that job or batch."""
    return Replayed(replayed=services.ledger.replay_all())


@router.delete("", summary="Purge dead letters", responses=problems(BatchNotFound))
def purge_all(services: Provided, which: Annotated[AllOrOfBatch, Query()]) -> Purged:
    """Forgets them for good. Their calls stay in S3, and can be submitted anew."""
    return Purged(purged=services.ledger.purge_all(which.batch_id))


@router.delete("/{job_id}", summary="Purge a dead letter", responses=problems(JobNotFound))
def purge(job_id: JobId, services: Provided) -> Purged:
    """Forgets one for good. Its call stays in S3, and can be submitted anew."""
    if not services.ledger.purge(job_id):
        raise JobNotFound("There is no dead letter with this id.")
    return Purged(purged=1)
