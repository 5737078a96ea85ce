"""What monitoring and autoscaling ask for."""

from __future__ import annotations

from fastapi import APIRouter, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST

from api.auth import METRICS_PATH, bearer_in_openapi
from api.dependencies import Provided
from api.openapi import problems
from warmline.jobs.backlog import Backlog

router = APIRouter(tags=["monitoring"], dependencies=[Security(bearer_in_openapi)])


class MetricsResponse(Response):
    """Prometheus' text form as an answer."""

    media_type = CONTENT_TYPE_LATEST


@router.get(
    METRICS_PATH,
    summary="Metrics for Prometheus",
    response_class=MetricsResponse,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}, **problems()},
)
def metrics(services: Provided) -> MetricsResponse:
    """Of the whole fleet and of this process. A key opens it, and so does WARMLINE_METRICS_TOKEN."""
    return MetricsResponse(services.metrics.page())


@router.get("/v1/backlog", summary="How much work is there?", responses=problems())
def backlog(services: Provided) -> Backlog:
    """What waits and runs, by lane. Autoscaling follows `work`. The price does not grow with the jobs."""
    return services.fleet.backlog()
