"""Is it alive, is it ready, how is it: for supervisors and monitoring, without a key."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from fastapi import APIRouter, Response

from api.dependencies import Provided
from api.openapi import problems
from api.problems import NotReady, Unauthorized, status_of
from api.schemas import Alive, Health, Ready
from warmline.jobs.conditions import Condition, FleetState, oldest_waiting
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
    """200 when healthy or degraded, 503 when not; the same document either way. It names no worker and no host."""
    try:
        state = services.glance.state()
    except LedgerUnavailable:
        response.status_code = 503
        return _health(None)
    response.status_code = 503 if state.status == "unhealthy" else 200
    return _health(state)


def _health(state: FleetState | None) -> Health:
    """Without a state, Redis does not answer."""
    alive = tuple(each.worker for each in state.workers if each.silent_seconds is None) if state else ()
    warm = _warm(alive)
    backlog = state.backlog if state else None
    ages = oldest_waiting(backlog).values() if backlog else ()
    return Health(
        status=state.status if state else "unhealthy",
        reasons=list(_reasons(state)),
        model_loaded=bool(warm),
        redis="ok" if state else "unavailable",
        workers=len(alive),
        warm_children=len(warm),
        model=", ".join(sorted({child.model for child in warm})) or None,
        mini=any(child.mini for child in warm) if warm else None,
        conditions=state.counts if state else dict.fromkeys(Condition, 0),
        waiting=backlog.waiting if backlog else None,
        running=backlog.running if backlog else None,
        oldest_seconds=max(ages, default=None),
        version=importlib.metadata.version("warmline"),
    )


def _reasons(state: FleetState | None) -> Iterator[str]:
    """A sentence for each thing that somebody should look at. Open to all: no names, and no words of a worker."""
    if state is None:
        yield "Redis does not answer: check WARMLINE_REDIS_URL, and the server's log."
        return
    if not any(each.worker.warm for each in state.workers if each.silent_seconds is None):
        yield "No model is warm, so no job is worked on: the workers' logs say what they wait for."
    for condition, count in state.counts.items():
        if count and not condition.is_well:
            verb = "worker is" if count == 1 else "workers are"
            yield f"{count} {verb} {condition}: GET /v1/workers says which, and what to look at."


def _warm(workers: tuple[WorkerState, ...]) -> list[ChildState]:
    return [child for worker in workers for child in worker.warm]
