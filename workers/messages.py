"""What comes from the queue: a job, or something that is logged, acknowledged and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.strategy import default
from pydantic import ValidationError

from warmline.jobs.records import Job

log = structlog.get_logger()


def drop_malformed(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """A task's `Strategy`: what the parent does with a message before a child gets it.

    Celery's own stops the worker over a body of another shape than its protocol has, and the message comes again.
    """
    handle = default(task, app, consumer)

    def handle_well_formed(message: Any, body: Any, *args: Any) -> Any:
        # `body` is given for protocol 1 only. A payload that cannot be decoded is dropped by Celery itself.
        match (body, message.headers, message.payload):
            case (None, {"id": str()}, [list(), dict(), dict()]):
                return handle(message, body, *args)
        log.error("bad_message_dropped", problems=["a message has an id and a body of three (task protocol 2)"])
        return message.reject_log_error(log, consumer.connection_errors)

    return handle_well_formed


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
