"""What comes from the queue: a job, or something that is logged, acknowledged and forgotten.

A job that asks for what this version cannot do is another version's: its message is let go, and the ledger sends
it again, until a worker takes it that can.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.request import Request
from celery.worker.strategy import default
from kombu.utils.json import loads
from pydantic import ValidationError

from warmline.jobs.queue import shown_as
from warmline.jobs.records import Job

log = structlog.get_logger()

LEFT_SECONDS = (
    1.0  # after a job was left to another worker, so that a lane full of them is not gone through at once
)


def drop_malformed(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """A task's `Strategy`: what the parent does with a message before a child gets it.

    Celery's own stops the worker over a body of another shape than its protocol has, and the message comes again.
    """
    handle = default(task, app, consumer)

    def handle_well_formed(message: Any, body: Any, *args: Any) -> Any:
        # `body` is given for protocol 1 only. A payload that cannot be decoded is dropped by Celery itself.
        match (body, message.headers, message.payload):
            case (None, {"id": str()}, [list() as given, dict(), dict()]):
                hide_arguments(message.headers, given)
                return handle(message, body, *args)
        log.error("bad_message_dropped", problems=["a message has an id and a body of three (task protocol 2)"])
        return message.reject_log_error(log, consumer.connection_errors)

    return handle_well_formed


def hide_arguments(headers: dict[str, Any], given: list[Any]) -> None:
    """Has the worker's events tell of a job what its own messages do, whoever sent this one.

    Celery's clients send a copy of all arguments along, for the events: calls' keys, and customers' metadata.
    """
    lane = given[0].get("lane", "live") if given and isinstance(given[0], dict) else None
    headers["argsrepr"], headers["kwargsrepr"] = shown_as(lane), "{}"


class DiscreetRequest(Request):  # type: ignore[misc]
    """A task's `Request` that does not show its arguments to those who ask the worker what it has in hand."""

    def info(self, safe: bool = True) -> dict[str, Any]:
        """As Celery's, and always safe: Flower asks for that of running tasks, but not of those that wait."""
        shown: dict[str, Any] = super().info(safe=True)
        return shown


def drop_unreadable(channel: Any) -> None:
    """Has a channel of kombu's Redis transport drop what lies in a queue's list and is no message.

    kombu reads it in the event loop, where what it raises ends the worker, and Redis has forgotten the message.
    """
    client = channel.client
    parse = client.parse_response

    def parse_readable(connection: Any, command: str, **options: Any) -> Any:
        answer = parse(connection, command, **options)
        if command == "BRPOP" and answer and not is_readable(answer[1], channel):
            log.error("bad_message_dropped", problems=["a message is a JSON object as kombu writes it"])
            return None  # as when the wait was over
        return answer

    client.parse_response = parse_readable


def is_readable(payload: bytes | str, channel: Any) -> bool:
    """Whether kombu can make a message of this, keep it as unacknowledged, and hand it to Celery."""
    try:
        raw = loads(payload)  # type: ignore[no-untyped-call]
        message = channel.Message(raw, channel=channel)
        info = message.delivery_info
        names = (message.delivery_tag, info["exchange"], info["routing_key"])
        return isinstance(message.headers, dict) and all(isinstance(name, str) for name in names)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def parse_job(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job | None:
    """The job that a message carries as its only argument.

    None, and a line in the log, when it is not one, and when it is one that only a newer version can do.
    """
    if len(args) != 1 or kwargs:
        log.error("bad_message_dropped", problems=["a message has one argument, a job"])
        return None
    try:
        job = Job.model_validate(args[0])
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_input=False)]
        log.error("bad_message_dropped", problems=problems[:5])  # noqa: TRY400  # the traceback tells nothing
        return None
    if unknown := job.too_new():
        log.warning(
            "job_left_to_newer_worker",
            job_id=job.id,
            unknown=unknown[:5],
            advice="upgrade this worker, or submit the job without these",
        )
        time.sleep(LEFT_SECONDS)
        return None
    return job
