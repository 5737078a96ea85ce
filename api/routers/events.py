"""What object stores post when something is uploaded: each upload's job, once however often it is announced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Request, Security

from api.auth import EVENTS_PATH, bearer_in_openapi, is_signed_by_sns, token_in_openapi
from api.dependencies import Provided, Services
from api.openapi import problems
from api.problems import (
    BodyTooSlow,
    EncodingNotSupported,
    EventTooLarge,
    EventUnauthorized,
    Fault,
    RequestRefused,
)
from api.schemas import EventAnswer, EventJob, EventsTaken, SubscriptionConfirmed
from warmline.jobs.errors import (
    BacklogFull,
    BucketNotAllowed,
    InvalidRequest,
    ObjectForbidden,
    PermanentError,
    StoreMisconfigured,
    StoreUnavailable,
    WarmlineError,
)
from warmline.jobs.records import Failure
from warmline.objects.events import Decoded, NotAnEvent, decode
from warmline.triggers.intake import Outcome
from warmline.triggers.sns import NotAnSnsMessage, SnsTopicNotAllowed, is_sns_message
from warmline.triggers.sns_certificates import SnsNotVerified, SnsUnavailable

log = structlog.get_logger()

router = APIRouter(tags=["events"], dependencies=[Security(bearer_in_openapi), Security(token_in_openapi)])

MAX_UPLOADS: Final = 1000  # stores announce one at a time, or some; each may take a request to the store
MAX_JOBS_NAMED: Final = 100
MAX_FAILURES_NAMED: Final = 20

_REFUSALS: Final[dict[str, type[PermanentError]]] = {
    refusal.code: refusal for refusal in (BucketNotAllowed, ObjectForbidden, StoreMisconfigured)
}
_EVENT: Final = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventTime": "2026-05-04T10:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": {"name": "calls"},
                "object": {
                    "key": "2026/05/call+001.wav",
                    "size": 480044,
                    "eTag": "5d41402abc4b2a76b9719d911017c592",
                },
            },
        }
    ]
}
_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "The event as the store sends it, S3, EventBridge, MinIO, Ceph, SeaweedFS or R2, or in a "
        "message of SNS. Its Content-Type does not matter.",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": _EVENT},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}


@dataclass(frozen=True, kw_only=True)
class Event:
    """What was posted."""

    content: bytes
    encoding: str
    signed_by_sns: bool
    sns_type: str | None


async def _event(request: Request) -> Event:
    return Event(
        content=await request.body(),
        encoding=request.headers.get("content-encoding", "identity").strip().lower(),
        signed_by_sns=is_signed_by_sns(request.headers),
        sns_type=request.headers.get("x-amz-sns-message-type"),
    )


@router.post(
    EVENTS_PATH,
    status_code=202,
    summary="Announce uploads",
    responses=problems(
        *(EventUnauthorized, EventTooLarge, BodyTooSlow, EncodingNotSupported, NotAnEvent, NotAnSnsMessage),
        *(BucketNotAllowed, SnsTopicNotAllowed, SnsNotVerified, BacklogFull),
        *(ObjectForbidden, StoreMisconfigured, StoreUnavailable, SnsUnavailable),
    ),
    openapi_extra=_BODY,
)
def take(event: Annotated[Event, Depends(_event)], services: Provided) -> EventAnswer:
    """Enters a job for each upload that a rule wants, in whatever order and however often they are announced.

    A 202 means that there is nothing left to do about this event; a 429 or 503, that it is to be sent again.
    A message of SNS needs no key: its topic has to be one of WARMLINE_TRIGGERS_SNS_TOPICS, its signature right.
    """
    if event.encoding != "identity":
        raise EncodingNotSupported
    if not event.signed_by_sns and not is_sns_message(event.content):
        return _enter(event.content, services)
    try:
        message = services.sns.verify(event.content, event.sns_type)
        if message.type == "SubscriptionConfirmation":
            services.sns.confirm(message)
            return EventAnswer(SubscriptionConfirmed())
    except WarmlineError as error:
        log.warning("sns_message_refused", code=error.code, error=error.message)
        raise
    if message.type == "UnsubscribeConfirmation":
        log.warning("sns_unsubscribed", topic=message.topic_arn)
        return EventAnswer(EventsTaken(skipped={"unsubscribed": 1}))
    return _enter(message.message, services)


def _enter(content: bytes | str, services: Services) -> EventAnswer:
    decoded = decode(content)
    _refuse_unusable(decoded)
    outcome = services.intake.accept(decoded.uploads)
    if decoded.uploads and outcome.counts.get("refused") == len(decoded.uploads):
        raise _refusal(outcome.failures)
    if decoded.malformed:
        log.warning("event_records_malformed", count=len(decoded.malformed), first=decoded.malformed[0])
    return _answer(decoded, outcome)


def _refuse_unusable(decoded: Decoded) -> None:
    """Raises NotAnEvent or RequestRefused where no record can be read, and where there are too many."""
    if len(decoded.uploads) > MAX_UPLOADS:
        raise RequestRefused(f"The event announces more than {MAX_UPLOADS:,} uploads; send it in parts.")
    if decoded.uploads or decoded.skipped:
        return
    if not decoded.malformed:
        raise NotAnEvent("The event holds no record.")
    first, count = decoded.malformed[0], len(decoded.malformed)
    faults = [Fault(location="body", message=sentence) for sentence in decoded.malformed[:MAX_FAILURES_NAMED]]
    raise RequestRefused(f"The event has no record that can be read: {first} ({count:,} in all)", faults)


def _refusal(failures: tuple[Failure, ...]) -> PermanentError:
    """Why all were refused: as the first one."""
    return _REFUSALS.get(failures[0].code, InvalidRequest)(failures[0].message)


def _answer(decoded: Decoded, outcome: Outcome) -> EventAnswer:
    taken = EventsTaken.model_validate(
        {
            **outcome.counts,
            "malformed": len(decoded.malformed),
            "skipped": dict(decoded.skipped),
            "jobs": [EventJob.of(job_id) for job_id in outcome.job_ids[:MAX_JOBS_NAMED]],
            "failures": outcome.failures[:MAX_FAILURES_NAMED],
        }
    )
    return EventAnswer(taken)
