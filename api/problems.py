"""Errors as RFC 9457 problems: the error tree here, HTTP statuses there, one table between them.

A client decides by `code`, which is stable; `detail` is a sentence for a person. No traceback leaves the process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from api.dashboard_paths import PATHS
from warmline.jobs import errors
from warmline.jobs.errors import PermanentError, TransientError, WarmlineError
from warmline.telemetry.tracing import current
from warmline.triggers.sns import SnsTopicNotAllowed
from warmline.triggers.sns_certificates import SnsNotVerified

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
BACKLOG_RETRY_AFTER_SECONDS: Final = 10  # a worker has to finish something first
MAX_NAMED_FAULTS: Final = 20  # of a request with hundreds of faults, the first ones are enough
MAX_LISTED_FAULTS: Final = 10_000  # pydantic can only list all of them at once, which holds up every other thread


class Unauthorized(PermanentError):
    """The request needs an API key: send the header Authorization: Bearer KEY, a key of WARMLINE_API_KEYS."""

    code = "unauthorized"
    title = "An API key is needed"
    challenge: ClassVar = 'Bearer realm="warmline"'


class EventUnauthorized(Unauthorized):
    """This path needs a token of WARMLINE_TRIGGERS_TOKENS or an API key, as Authorization: Bearer TOKEN."""

    challenge = 'Bearer realm="warmline", Basic realm="warmline"'


class RouteNotFound(PermanentError):
    """There is nothing at this address; /openapi.json lists what there is."""

    code = "route_not_found"
    title = "No such address"


class MethodNotAllowed(PermanentError):
    """This address does not take this method; the header Allow says which it takes."""

    code = "method_not_allowed"
    title = "Method not allowed"


class BodyTooLarge(PermanentError):
    """The request's body is larger than WARMLINE_API_MAX_BODY_BYTES; submit fewer jobs at once, or a prefix."""

    code = "body_too_large"
    title = "The body is too large"


class EventTooLarge(BodyTooLarge):
    """The request's body is larger than WARMLINE_TRIGGERS_MAX_BODY_BYTES, or than what SNS sends."""


class BodyTooSlow(PermanentError):
    """The request's body did not arrive in time."""

    code = "body_too_slow"
    title = "The body is too slow"


class NotJson(PermanentError):
    """The request's body is not JSON; send JSON, with the header Content-Type: application/json."""

    code = "not_json"
    title = "The body is not JSON"


class IdempotencyKeyInvalid(PermanentError):
    """The header Idempotency-Key holds 1 to 255 printable ASCII characters, and comes once."""

    code = "idempotency_key_invalid"
    title = "Invalid Idempotency-Key"


class EncodingNotSupported(PermanentError):
    """The request's body is compressed; send it as it is, without the header Content-Encoding."""

    code = "encoding_not_supported"
    title = "The body is compressed"


class NotReady(TransientError):
    """No worker has a warm model yet; jobs are accepted and wait."""

    code = "not_ready"
    title = "Not ready"


# The first class of an error's line of descent that is here decides.
STATUS_BY_ERROR: dict[type[WarmlineError], HTTPStatus] = {
    errors.InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyKeyInvalid: HTTPStatus.BAD_REQUEST,
    errors.IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.BucketNotAllowed: HTTPStatus.FORBIDDEN,
    SnsTopicNotAllowed: HTTPStatus.FORBIDDEN,
    SnsNotVerified: HTTPStatus.FORBIDDEN,
    RouteNotFound: HTTPStatus.NOT_FOUND,
    errors.JobNotFound: HTTPStatus.NOT_FOUND,
    errors.BatchNotFound: HTTPStatus.NOT_FOUND,
    errors.ReconciliationNotFound: HTTPStatus.NOT_FOUND,
    errors.DeliveryNotFound: HTTPStatus.NOT_FOUND,
    errors.EndpointNotFound: HTTPStatus.NOT_FOUND,
    errors.ObjectNotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    errors.ReportNotReady: HTTPStatus.CONFLICT,
    errors.NotReplayable: HTTPStatus.CONFLICT,
    errors.IdempotencyKeyInUse: HTTPStatus.CONFLICT,
    errors.ObjectChanged: HTTPStatus.CONFLICT,
    NotJson: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    EncodingNotSupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BatchTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ObjectTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    # The object store refuses the API's own credentials or settings: the client's request is not at fault.
    errors.ObjectForbidden: HTTPStatus.BAD_GATEWAY,
    errors.StoreMisconfigured: HTTPStatus.BAD_GATEWAY,
    errors.BacklogFull: HTTPStatus.TOO_MANY_REQUESTS,
    TransientError: HTTPStatus.SERVICE_UNAVAILABLE,
    PermanentError: HTTPStatus.INTERNAL_SERVER_ERROR,  # what only a worker raises, and InternalError
    WarmlineError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_BY_HTTP_STATUS: dict[int, type[WarmlineError]] = {
    HTTPStatus.NOT_FOUND: RouteNotFound,
    HTTPStatus.METHOD_NOT_ALLOWED: MethodNotAllowed,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: BodyTooLarge,
}


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    location: str = Field(description="where, in dots", examples=["body.source.bucket"])
    message: str = Field(description="what", examples=["Field required"])


class Problem(BaseModel):
    """An error as RFC 9457 has it, with a stable code."""

    type: str = Field(
        description="a name for this kind of problem", examples=["urn:warmline:problem:job_not_found"]
    )
    title: str = Field(description="the kind of problem in a few words", examples=["No such job"])
    status: int = Field(description="the HTTP status", examples=[404])
    detail: str = Field(description="what happened and what to do, in a sentence")
    instance: str = Field(description="the address that was asked")
    code: str = Field(description="stable: decide by this", examples=["job_not_found"])
    request_id: str | None = Field(None, description="this request in the API's log")
    errors: list[Fault] | None = Field(None, description="what is wrong with the request, part by part")


# People cut ids short: what they are told is to be no regular expression.
_IN_WORDS = {"String should match pattern '^[0-9a-f]{32}$'": "an id has 32 digits, 0 to 9 and a to f"}


class RequestRefused(errors.InvalidRequest):
    """The request is not valid."""

    def __init__(self, message: str | None = None, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = faults

    @classmethod
    def by(cls, error: ValidationError | RequestValidationError, part: str = "") -> Self:
        """What was found wrong with a `part` of the request: named part by part, up to a number."""
        if isinstance(error, ValidationError):
            count = error.error_count()
            if count > MAX_LISTED_FAULTS:
                return cls(f"The request is not valid: {count:,} faults were found in its {part}.")
            found: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
        else:
            found = error.errors()
            count = len(found)
        faults = [
            # Without pydantic's `input`: it may be large, and it is the client's own.
            Fault(
                location=".".join(map(str, (*filter(None, [part]), *fault["loc"]))),
                message=_IN_WORDS.get(fault["msg"], fault["msg"].removeprefix("Value error, ")),
            )
            for fault in found[:MAX_NAMED_FAULTS]
        ]
        first = f"{faults[0].location}: {faults[0].message}" if faults else "see `errors`"
        tail = f" (and {count - 1:,} more)" if count > 1 else ""
        return cls(f"The request is not valid: {first}{tail}.", faults)


def status_of(error: type[WarmlineError]) -> HTTPStatus:
    """The HTTP status for a class of the error tree."""
    return next(STATUS_BY_ERROR[ancestor] for ancestor in error.__mro__ if ancestor in STATUS_BY_ERROR)


def problem(
    error: WarmlineError,
    *,
    path: str,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response for an error; itself an ASGI application, so that middleware can send it too."""
    status = int(status_of(type(error)))
    current().set("warmline.code", error.code)
    document = Problem(
        type=f"urn:warmline:problem:{error.code}",
        title=error.title,
        status=status,
        detail=error.message,
        instance=quote(path[:1024]),
        code=error.code,
        request_id=request_id,
        errors=list(error.faults) or None if isinstance(error, RequestRefused) else None,
    )
    extra = dict(headers or {})
    if isinstance(error, TransientError):
        full = isinstance(error, errors.BacklogFull)
        extra["Retry-After"] = str(BACKLOG_RETRY_AFTER_SECONDS if full else RETRY_AFTER_SECONDS)
    if isinstance(error, Unauthorized):
        extra["WWW-Authenticate"] = error.challenge
    return JSONResponse(
        document.model_dump(exclude_none=True), status_code=status, headers=extra, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Makes problems of everything that a route or the router raises."""
    app.exception_handler(WarmlineError)(_on_warmline_error)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(HTTPException)(_on_http_exception)


async def _on_warmline_error(request: Request, error: WarmlineError) -> JSONResponse:
    if status_of(type(error)) >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, NotReady):
        log.warning("request_refused", code=error.code, detail=error.message)
    return _answer(request, error)


async def _on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    return _answer(request, RequestRefused.by(error))


async def _on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    known = _BY_HTTP_STATUS.get(error.status_code)
    if known is None:
        known = errors.InvalidRequest if error.status_code < 500 else errors.InternalError
    headers = dict(error.headers or {})
    if known is MethodNotAllowed:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return _answer(request, known(), headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    """All methods of this address: the router, which tries one route after the other, names the first route's."""
    if request.url.path in PATHS:
        return ["GET"]  # a page, which is not in the description
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    fitting = (
        operations
        for template, operations in paths.items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), request.url.path)
    )
    return sorted({method.upper() for operations in fitting for method in operations})


def _answer(request: Request, error: WarmlineError, **more: Any) -> JSONResponse:
    return problem(error, path=request.url.path, request_id=request.scope.get("warmline.request_id"), **more)
