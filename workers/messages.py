"""What comes from the queue: a job, or something that is logged, acknowledged and forgotten."""

from __future__ import annotations

from typing import Any

import structlog
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from pydantic import ValidationError

from warmline.jobs.records import Job

log = structlog.get_logger()


class JobRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A message in the parent, before a child gets it.

    Celery stops the worker over a body of another shape than it expects, and would again at the next start.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        try:
            super().__init__(message, **options)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidTaskError(f"not a message of Celery's protocol: {error}") from error


def parse_job(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job | None:
    """The job that a message carries as its only argument; None, and a line in the log, when it is not one."""
    if len(args) != 1 or kwargs:
        log.error("bad_message_dropped", problems=["a message has one argument, a job"])
        return None
    try:
        return Job.model_validate(args[0])
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_input=False)]
        log.error("bad_message_dropped", problems=problems[:5])  # noqa: TRY400  # the traceback tells nothing
        return None
