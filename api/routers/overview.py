"""The whole service at a glance, in one document: what the dashboard shows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, Security

from api.auth import bearer_in_openapi
from api.observer import Observer
from api.openapi import problems
from api.overview_schemas import Overview

router = APIRouter(prefix="/v1/overview", tags=["overview"], dependencies=[Security(bearer_in_openapi)])


async def _observer(request: Request) -> Observer:  # without async, FastAPI would look for a thread to run it in
    observer: Observer = request.app.state.observer
    return observer


@router.get("", summary="Everything at a glance", response_model=Overview, responses=problems())
def overview(observer: Annotated[Observer, Depends(_observer)]) -> Response:
    """Backlog, workers, batches, the newest jobs and the last hour: what `/dashboard` shows.

    It is made once a second at most, and its price does not grow with the number of jobs.
    """
    return Response(observer.overview(), media_type="application/json")
