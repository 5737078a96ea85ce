"""What the dashboard shows, as one document: GET /v1/overview."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from warmline.calls.brief_reports import BriefReport
from warmline.jobs.backlog import Backlog
from warmline.jobs.conditions import Condition, FleetStatus
from warmline.jobs.records import BatchState, Failure, JobState, JobStatus, Lane, Progress


class EmotionLine(BaseModel):
    """One side of a call in a line."""

    role: str
    top: str | None = Field(description="the dominant emotion; null without speech")
    confidence: float | None = Field(description="its mean score where it is on top, 0 to 1")
    tenths: list[str | None] = Field(description="the highest emotion of each tenth of the call; null: no speech")


class CallLine(BaseModel):
    """One job in a line."""

    id: str
    uri: str = Field(examples=["s3://calls/2026/05/call-001.wav"])
    lane: Lane
    batch_id: str | None
    status: JobStatus
    attempt: int
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress | None = None
    failure: Failure | None = None
    emotions: list[EmotionLine] = Field([], description="of a call whose report Redis keeps, by channel")

    @classmethod
    def of(cls, state: JobState) -> Self:
        """The line of this job."""
        job = state.job
        return cls(
            id=job.id,
            uri=job.source.uri,
            lane=job.lane,
            batch_id=job.batch_id,
            status=state.status,
            attempt=state.attempt,
            queued_at=state.queued_at,
            started_at=state.started_at,
            finished_at=state.finished_at,
            progress=state.progress,
            failure=state.failure,
        )


def emotions_of(report: BriefReport) -> list[EmotionLine]:
    """What a report says of each channel, in a line."""
    return [
        EmotionLine(
            role=channel.role,
            top=channel.summary.top,
            confidence=channel.summary.confidence,
            tenths=[part.top for part in channel.summary.tenths],
        )
        for channel in report.channels
    ]


class BatchLine(BaseModel):
    """A batch that is not finished, in a line."""

    id: str
    created_at: datetime
    total: int
    ended: int
    running: int
    failed: int = Field(description="failed, or dead")
    ends_in_seconds: float | None = Field(
        description="if it goes on as in the last minutes; null: not known yet, or nothing moves"
    )

    @classmethod
    def of(cls, state: BatchState, per_second: float) -> Self:
        """The line of this batch, of which so many jobs a second end."""
        left = state.total - state.ended
        return cls(
            id=state.id,
            created_at=state.created_at,
            total=state.total,
            ended=state.ended,
            running=state.running,
            failed=state.failed + state.dead,
            ends_in_seconds=round(left / per_second, 1) if per_second > 0 else None,
        )


class WorkerLine(BaseModel):
    """A worker in a line."""

    name: str
    condition: Condition
    reason: str = Field(description="what to look at; empty when it is ok")
    silent_seconds: float | None = Field(description="how long it has been missing; null: its heart beats")
    children: int = Field(description="that it should have")
    warm: int
    busy: int
    lanes: list[Lane]
    model: str | None
    mini: bool
    engine: str | None
    device: str | None
    precision: str | None
    version: str
    started_at: datetime | None
    respawns: int


class WebhooksLine(BaseModel):
    """Who is told when jobs end, in a line."""

    delivering: bool = Field(description="a process delivers now")
    waiting: int = Field(description="endings of which not all deliveries are made yet")
    pending: int
    delivered: int
    failed: int
    dropped: int
    endpoints: int
    disabled: int = Field(description="endpoints that answered 410 Gone and get nothing any more")


class Rates(BaseModel):
    """What ended in the last minutes."""

    seconds: float = Field(description="over which this was counted; 0: this API has just started")
    finished_per_minute: float
    failed_per_minute: float = Field(description="of those that finished: failed, or dead")


class Sample(BaseModel):
    """One moment of the last hour."""

    at: float = Field(description="seconds since the epoch")
    waiting: int = Field(description="for a free child, for their next attempt, or for their trigger's pace")
    running: int
    succeeded: int = Field(
        description="in all, since this Redis began; the difference of two samples is what ended"
    )
    failed: int = Field(description="the same of those that failed or are dead")


class History(BaseModel):
    """The last hour, as far as this API has seen it. While Redis is away there are no samples."""

    every_seconds: float
    samples: list[Sample] = Field(description="oldest first")


class Look(BaseModel):
    """An emotion's letter and colour."""

    letter: str
    colour: str = Field(examples=["#D55E00"])


class Overview(BaseModel):
    """The whole service at a glance. Made once a second at most, however many ask."""

    at: datetime
    version: str = Field(description="Warmline's version")
    status: FleetStatus = Field(
        description="unhealthy: no job can be worked on; degraded: work gets done, and a worker is to be looked at"
    )
    backlog: Backlog
    ended: dict[JobStatus, int] = Field(description="how many jobs ended so, since this Redis began")
    rates: Rates
    running: list[CallLine] = Field(description="the newest that run")
    failures: list[CallLine] = Field(description="the last that failed or were given up, by their ends")
    finished: list[CallLine] = Field(description="the last that succeeded, by their ends")
    batches: list[BatchLine] = Field(description="the newest that are not finished")
    workers: list[WorkerLine]
    webhooks: WebhooksLine | None = Field(description="null: webhooks are off")
    history: History
    looks: dict[str, Look] = Field(description="how each emotion looks, as in pictures")
    source_bucket: str = Field(description="where a recording can be put")
