"""The schemas of what Warmline makes, for validators: open to all, since they say nothing of anyone's calls."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from warmline.calls.report_schema import MEDIA_TYPE, report_schema_text

router = APIRouter(prefix="/v1/schemas", tags=["schemas"])

# It changes only with Warmline itself; an hour after an upgrade everyone has the new one.
_CACHING: Final = {"Cache-Control": "public, max-age=3600"}


class SchemaResponse(Response):
    """A JSON Schema as an answer."""

    media_type = MEDIA_TYPE


@router.get(
    "/report",
    summary="The report's JSON Schema",
    response_class=SchemaResponse,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}, "description": "The schema"}},
)
def report_schema() -> SchemaResponse:
    """JSON Schema, draft 2020-12, of report version 1. No key is needed."""
    return SchemaResponse(report_schema_text(), headers=_CACHING)
