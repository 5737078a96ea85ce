"""The OpenAPI document: FastAPI's, with every error as the problem it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.problems import MEDIA_TYPE, BodyTooLarge, BodyTooSlow, NotJson, Problem, Unauthorized, status_of
from warmline.jobs.errors import InternalError, InvalidRequest, LedgerUnavailable, WarmlineError

Responses = dict[int | str, dict[str, Any]]
_REFERENCE: Final = "#/components/schemas/{model}"

EVERYWHERE: tuple[type[WarmlineError], ...] = (Unauthorized, InvalidRequest, LedgerUnavailable, InternalError)


def problems(*kinds: type[WarmlineError]) -> Responses:
    """A route's `responses`: the problems it can answer with, by status, each with an example."""
    found: Responses = {}
    for kind in (*EVERYWHERE, *kinds):
        status = status_of(kind)
        entry = found.setdefault(
            int(status),
            {"model": Problem, "description": status.phrase, "content": {MEDIA_TYPE: {"examples": {}}}},
        )
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = {"summary": kind.title, "value": _example(kind)}
    return found


def with_body(*kinds: type[WarmlineError]) -> Responses:
    """As `problems`, of a route that takes a body."""
    return problems(BodyTooLarge, BodyTooSlow, NotJson, *kinds)


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """A route's `openapi_extra`: the body that it parses itself. `install` has to know the model too."""
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def install(app: FastAPI, *, description: str, bodies: Sequence[type[BaseModel]]) -> None:
    """Makes the document once, at the first request for it. `bodies` are what routes parse themselves."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=description, routes=app.routes)
            _add_schemas(made, bodies)
            _move_problems_to_their_media_type(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way FastAPI documents


def _add_schemas(document: dict[str, Any], bodies: Sequence[type[BaseModel]]) -> None:
    """What answers hold too (sources, options) is there already, and reads the same both ways."""
    _, made = models_json_schema([(body, "validation") for body in bodies], ref_template=_REFERENCE)
    document["components"]["schemas"] = made["$defs"] | document["components"]["schemas"]


def _move_problems_to_their_media_type(document: dict[str, Any]) -> None:
    """FastAPI files the schema of an extra response under the route's own type, whatever its content is."""
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                if MEDIA_TYPE in content:
                    for other in content.keys() - {MEDIA_TYPE}:
                        content[MEDIA_TYPE] |= content.pop(other)


def _example(kind: type[WarmlineError]) -> dict[str, Any]:
    error = kind()
    return {
        "type": f"urn:warmline:problem:{error.code}",
        "title": error.title,
        "status": int(status_of(kind)),
        "detail": error.message,
        "instance": "/v1/jobs",
        "code": error.code,
        "request_id": "0b9f1b4f6d4e4d7f8a3c2b1a09f8e7d6",
    }
