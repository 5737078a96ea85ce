"""The workers one by one, for people who look for the one that is not well."""

from __future__ import annotations

from fastapi import APIRouter, Security

from api.auth import bearer_in_openapi
from api.dependencies import Provided
from api.openapi import problems
from api.schemas import WorkerList

router = APIRouter(prefix="/v1/workers", tags=["monitoring"], dependencies=[Security(bearer_in_openapi)])


@router.get("", summary="How is each worker?", responses=problems())
def workers(services: Provided) -> WorkerList:
    """Every worker that is alive or missing, by name: its condition, what to look at, its last heartbeat."""
    state = services.glance.state()
    return WorkerList(status=state.status, workers=list(state.workers))
