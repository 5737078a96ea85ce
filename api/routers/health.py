"""Is it alive, is it ready, how is it: for supervisors and monitoring, without a key."""

from __future__ import annotations

import importlib.metadata

from fastapi import APIRouter, Response

from api.dependencies import Provided
from api.openapi import problems
from api.problems import NotReady, Unauthorized, status_of
from api.schemas import Alive, Health, Ready
from warmline.jobs.errors import InvalidRequest, LedgerUnavailable
from warmline.jobs.records import ChildState, WorkerState

router = APIRouter(tags=["health"])

_READY_PROBLEMS = {
    status: response
    for status, response in problems(NotReady).items()
    if status not in {int(status_of(kind)) for kind in (Unauthorized, InvalidRequest)}
}


@router.get("/live", summary="Is the process alive?")
async def live() -> Alive:
    """200 as long as the process turns; asks nobody. A supervisor restarts what does not answer."""
    return Alive()


@router.get("/ready", summary="Will jobs be worked on at once?", responses=_READY_PROBLEMS)
def ready(services: Provided) -> Ready:
    """200 when Redis answers and at least one worker's model is warm; else 503."""
    if not _warm(services.ledger.workers()):
        raise NotReady
    return Ready()


@router.get(
    "/health",
    summary="How is the service?",
    responses={503: {"model": Health, "description": "Redis does not answer, or no model is warm"}},
)
def health(services: Provided, response: Response) -> Health:
    """200 when healthy, 503 when not; the same document either way."""
    try:
        workers, redis_answers = services.ledger.workers(), True
    except LedgerUnavailable:
        workers, redis_answers = (), False
    warm = _warm(workers)
    healthy = redis_answers and bool(warm)
    response.status_code = 200 if healthy else 503
    return Health(
        status="healthy" if healthy else "unhealthy",
        model_loaded=bool(warm),
        redis="ok" if redis_answers else "unavailable",
        workers=len(workers),
        warm_children=len(warm),
        model=", ".join(sorted({child.model for child in warm})) or None,
        mini=any(child.mini for child in warm) if warm else None,
        version=importlib.metadata.version("warmline"),
    )


def _warm(workers: tuple[WorkerState, ...]) -> list[ChildState]:
    return [child for worker in workers for child in worker.warm]
