"""What is told to whom when a job or a batch has ended: the records of it, and how they are kept in few bytes."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

from pydantic import Field

from warmline.jobs.records import Job, Record, ReportLocation

KEPT_TRIES: Final = 30  # of a delivery: the last ones


class DeliveryStatus(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"  # it is tried, or waits for its next try
    DELIVERED = "delivered"  # the receiver answered with 2xx
    FAILED = "failed"  # given up; it can be redelivered


class Try(Record):
    """One try at a delivery, and what came of it."""

    at: datetime
    seconds: float = Field(description="until the answer, or until it was clear that there is none")
    status_code: int | None = Field(None, description="the answer's; null: there was none")
    error: str | None = Field(None, description="why it is no success, in a sentence")


class Delivery(Record):
    """One event for one endpoint. Its id begins with the event's; the endpoint's is the rest."""

    id: str
    event: str = Field(examples=["job.succeeded"])
    subject_id: str = Field(description="the job's id, or the batch's")
    created_at: datetime = Field(description="when the job or batch ended")
    status: DeliveryStatus = DeliveryStatus.PENDING
    tries: tuple[Try, ...] = Field((), description=f"oldest first; the last {KEPT_TRIES}")
    tries_made: int = Field(0, description="since its beginning, or since it was last redelivered")
    next_try_at: datetime | None = Field(None, description="of a pending one")
    body: str = Field(description="what is posted, to the byte: it is signed")

    @property
    def endpoint_id(self) -> str:
        """The endpoint that it goes to."""
        return self.id[EVENT_DIGITS:]

    @property
    def webhook_id(self) -> str:
        """The header of that name: the same at every try, so that receivers know what they have had."""
        return webhook_id(self.id)


EVENT_DIGITS: Final = 24  # hex, of a delivery's id
ENDPOINT_DIGITS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Ending:
    """That a job or batch has ended, as the ledger's scripts wrote it."""

    place: str  # in the stream of endings: milliseconds and a number, in order
    event: str
    subject_id: str
    more: str  # a failure's JSON, or a batch's counts

    @property
    def at(self) -> datetime:
        """When it was written, which is when the job or batch ended."""
        return _moment(int(self.place.partition("-")[0]))

    def delivery_id(self, endpoint_id: str) -> str:
        """The same whoever asks, however often: an ending becomes one delivery for an endpoint."""
        told = f"{self.place}\0{self.event}\0{self.subject_id}".encode()
        return blake2b(told, digest_size=EVENT_DIGITS // 2).hexdigest() + endpoint_id


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """What the ledger knows of a job that has ended. None: it has forgotten it since."""

    job: Job | None
    report: ReportLocation | None
    report_bytes: int = 0  # its report's length, where Redis keeps that


class Endpoint(Record):
    """An address that events are posted to. Its query is left out: that may be a secret."""

    id: str
    url: str
    disabled_at: datetime | None = Field(
        None, description="when it answered 410 Gone; it gets nothing from then on"
    )
    pending: int = Field(0, description="deliveries that are tried, or wait for their next try")


class WebhooksState(Record):
    """Who is told of what, and how far that is."""

    events: tuple[str, ...] = Field(description="what is told; empty: webhooks are off")
    endpoints: tuple[Endpoint, ...]
    delivering: bool = Field(description="a process delivers now")
    waiting: int = Field(description="endings of which not all deliveries are made yet")
    dropped: int = Field(description="endings that nobody was told of, since more than may have waited")
    pending: int
    delivered: int = Field(description="in the log")
    failed: int = Field(description="in the log")


def endpoint_id_of(url: str) -> str:
    """Stands for an address."""
    return blake2b(url.encode(), digest_size=ENDPOINT_DIGITS // 2).hexdigest()


def webhook_id(delivery_id: str) -> str:
    """The header of that name for a delivery."""
    return f"msg_{delivery_id[:EVENT_DIGITS]}"


# What deliveries have in common; the first digit of a packed one says that it was used. It must stay as it is.
_COMMON: Final = (
    b'The receiver answered 500.The connection was refused.No answer within 15 s.batch.finished"total":1,'
    b'"succeeded":0,"failed":0,"cancelled":0,"dead":0job.cancelledjob.deadjob.failed{"code":"not_audio","message":'
    b'"The object store does not answer"angry"disgusted"fearful"happy"sad"surprised"low_confidence"one_sided"mono'
    b'"clipping"no_speech"role":"channel_0","role":"channel_1"["job.succeeded","'
    b'{"type":"job.succeeded","timestamp":"2026-11-23T0:000Z","data":{"job_id":"","status":"succeeded",'
    b'"source":{"bucket":"calls","key":"2026/.wav","version_id":null},"metadata":{},"lane":"bulk","batch_id":null,'
    b'"created_at":"2026-11-23T0:00000Z","finished_at":"2026-11-23T00Z","failure":null,"report":{"uri":"s3://reports'
    b'/","path":"/v1/jobs//report"},"summary":{"duration_seconds":60.0,"channels":[{"role":"agent",'
    b'"emotion":"neutral","confidence":0.,"speech_seconds":0.},{"role":"customer","emotion":"neutral",'
    b'"confidence":0.,"speech_seconds":1.}],"flags":[],"categories":[],"model":"mini"}}}'
)
_VERSION: Final = "1"


def pack(delivery: Delivery) -> str:
    """In few bytes: a third of its JSON."""
    fields = [
        delivery.event,
        delivery.subject_id,
        _ms(delivery.created_at),
        delivery.status.value,
        delivery.tries_made,
        None if delivery.next_try_at is None else _ms(delivery.next_try_at),
        [[_ms(t.at), round(t.seconds, 3), t.status_code, t.error] for t in delivery.tries[-KEPT_TRIES:]],
    ]
    press = zlib.compressobj(6, wbits=-zlib.MAX_WBITS, zdict=_COMMON)
    # The body stands behind, as it is: in the JSON each of its quotes would be two characters.
    text = f"{json.dumps(fields, separators=(',', ':'))}\n{delivery.body}"
    return _VERSION + base64.b85encode(press.compress(text.encode()) + press.flush()).decode()


def unpack(delivery_id: str, packed: str) -> Delivery:
    """What `pack` made."""
    press = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=_COMMON)
    head, _, body = press.decompress(base64.b85decode(packed.removeprefix(_VERSION))).partition(b"\n")
    fields: Sequence[Any] = json.loads(head)
    event, subject_id, created, status, tries_made, next_try, tries = fields
    return Delivery(
        id=delivery_id,
        event=event,
        subject_id=subject_id,
        created_at=_moment(created),
        status=DeliveryStatus(status),
        tries=tuple(
            Try(at=_moment(at), seconds=seconds, status_code=code, error=error)
            for at, seconds, code, error in tries
        ),
        tries_made=tries_made,
        next_try_at=None if next_try is None else _moment(next_try),
        body=body.decode(),
    )


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(since_epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(since_epoch_ms / 1000, UTC)
