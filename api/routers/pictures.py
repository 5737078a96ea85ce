"""Reports as pictures: a call's timeline, a batch's overview. SVG without scripts or styles."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response, Security

from api.auth import bearer_in_openapi
from api.dependencies import Provided
from api.openapi import problems
from api.routers.jobs import report_of
from api.schemas import JobId
from warmline.calls.report_reading import NotAReport, read_report
from warmline.jobs.errors import (
    BatchNotFound,
    InternalError,
    JobNotFound,
    ObjectForbidden,
    ObjectNotFound,
    ReportNotReady,
    StoreUnavailable,
    TransientError,
)
from warmline.pictures.batch_overview import batch_overview_svg
from warmline.pictures.timeline import timeline_svg

router = APIRouter(prefix="/v1", tags=["pictures"], dependencies=[Security(bearer_in_openapi)])

WAIT_SECONDS: Final = 5.0

Emotion = Annotated[str, Query(max_length=64, description="the emotion to look at; without it, angry")]
IfNoneMatch = Annotated[str | None, Header(description="the ETag of the picture that the client has")]


class DrawingBusy(TransientError):
    """As many pictures are being drawn as may be at once; ask again in a few seconds."""

    code = "drawing_busy"
    title = "Too many pictures at once"


class Svg(Response):
    """A picture."""

    media_type = "image/svg+xml"


_NOT_CHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "the client has this picture already"}}


@router.get(
    "/jobs/{job_id}/timeline.svg",
    summary="Draw a job's report",
    response_class=Svg,
    responses=_NOT_CHANGED
    | problems(JobNotFound, ReportNotReady, ObjectNotFound, ObjectForbidden, StoreUnavailable, DrawingBusy),
)
def timeline(
    job_id: JobId, services: Provided, emotion: Emotion = "", if_none_match: IfNoneMatch = None
) -> Response:
    """The call's emotions over time; readable in grey and by colour-blind people. `emotion` is drawn as a line."""
    body = report_of(job_id, services)
    tag = _tag(body, emotion.encode())
    if _has(if_none_match, tag):
        return _known(tag)
    with in_turn(services.drawing):
        try:
            report = read_report(body)
        except NotAReport as error:
            raise InternalError(f"The report cannot be drawn: {error}.") from None
        return _picture(timeline_svg(report, emotion), tag)


@router.get(
    "/batches/{batch_id}/overview.svg",
    summary="Draw a batch",
    response_class=Svg,
    responses=_NOT_CHANGED | problems(BatchNotFound, ObjectForbidden, StoreUnavailable, DrawingBusy),
)
def overview(
    batch_id: JobId, services: Provided, emotion: Emotion = "", if_none_match: IfNoneMatch = None
) -> Response:
    """How emotions go along its calls, what stands out, which to listen to first. Of many calls a sample."""
    with in_turn(services.drawing):
        svg = batch_overview_svg(services.ledger, services.store, batch_id, emotion)
    tag = _tag(svg.encode())
    return _known(tag) if _has(if_none_match, tag) else _picture(svg, tag)


@contextmanager
def in_turn(drawing: threading.Semaphore, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """So that many pictures at once take neither all memory nor all threads. Raises DrawingBusy."""
    if not drawing.acquire(timeout=wait_seconds):
        raise DrawingBusy
    try:
        yield
    finally:
        drawing.release()


def _picture(svg: str, tag: str) -> Response:
    """Its receiver may keep it, and has to ask about it each time: a report can be made anew."""
    return Svg(svg, headers=_headers(tag))


def _known(tag: str) -> Response:
    return Response(status_code=304, headers=_headers(tag))


def _headers(tag: str) -> dict[str, str]:
    return {"Cache-Control": "private, no-cache", "ETag": tag}


def _tag(*parts: bytes) -> str:
    """An ETag over what decides a picture, and over who draws it."""
    digest = hashlib.sha256(b"\0".join((version("warmline").encode(), *parts)))
    return f'"{digest.hexdigest()[:32]}"'


def _has(if_none_match: str | None, tag: str) -> bool:
    """As RFC 9110 compares: weakly, any of a list, or all by a star."""
    known = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    return tag in known or "*" in known
