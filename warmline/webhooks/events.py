"""What is told of a job or a batch: ids, how it ended and a summary. Who wants the report itself fetches it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_core import from_json

from warmline.calls.report import REPORT_VERSION
from warmline.jobs.deliveries import EndedJob, Ending
from warmline.jobs.records import Failure, Job, Metadata, Record, Source


class ReportPlace(Record):
    """Where a report is to be had."""

    uri: str | None = Field(description="s3://bucket/key; null where Redis alone keeps it")
    path: str = Field(description="of Warmline's API")


class ChannelLine(Record):
    """One side of a call."""

    role: str
    emotion: str | None = Field(description="the dominant one; null without speech")
    confidence: float | None
    speech_seconds: float


class Summary(Record):
    """A report in a few lines."""

    duration_seconds: float
    channels: tuple[ChannelLine, ...]
    flags: tuple[str, ...]
    categories: tuple[str, ...] = Field(description="names of the categories that apply")
    model: str
    mini: bool

    @classmethod
    def of(cls, report_json: str | bytes) -> Self | None:
        """Of a report; None for what cannot be read as one."""
        try:
            report: dict[str, Any] = from_json(report_json)
            if report["version"] != REPORT_VERSION:
                return None
            model = report["provenance"]["model"]
            return cls(
                duration_seconds=report["source"]["duration_seconds"],
                channels=tuple(_line(channel) for channel in report["channels"]),
                flags=tuple(report["flags"]),
                categories=tuple(m["category"] for m in (report.get("categories") or {}).get("matches", ())),
                model=model["name"],
                mini=model["mini"],
            )
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
            return None


class JobData(Record):
    """`data` of job.succeeded, job.failed, job.cancelled and job.dead.

    Source, metadata, lane, batch and time of submission are null for a job that was forgotten (purged, replaced,
    expired) between its end and this event.
    """

    job_id: str
    status: Literal["succeeded", "failed", "cancelled", "dead"]
    source: Source | None
    metadata: Metadata | None
    lane: str | None
    batch_id: str | None
    created_at: datetime | None
    finished_at: datetime
    failure: Failure | None = Field(description="of a job that failed or is dead")
    report: ReportPlace | None = Field(description="of a job that succeeded")
    summary: Summary | None = Field(description="null where the report could not be read, or has more than 4 MiB")

    @classmethod
    def of(cls, ending: Ending, ended: EndedJob, summary: Summary | None) -> Self:
        """Of a job's ending."""
        job, status = ended.job, ending.event.removeprefix("job.")
        report = None
        if status == "succeeded":
            uri = ended.report.uri if ended.report else None
            report = ReportPlace(uri=uri, path=f"/v1/jobs/{ending.subject_id}/report")
        return cls.model_validate(
            {
                "job_id": ending.subject_id,
                "status": status,
                **_asked(job),
                "finished_at": ending.at,
                "failure": Failure.read(ending.more) if ending.more else None,
                "report": report,
                "summary": summary,
            }
        )


class BatchData(Record):
    """`data` of batch.finished: how many of its jobs ended how, at that time."""

    batch_id: str
    total: int
    succeeded: int
    failed: int
    cancelled: int
    dead: int
    finished_at: datetime

    @classmethod
    def of(cls, ending: Ending) -> Self:
        """Of a batch's ending."""
        total, succeeded, failed, cancelled, dead = map(int, ending.more.split())
        return cls(
            batch_id=ending.subject_id,
            total=total,
            succeeded=succeeded,
            failed=failed,
            cancelled=cancelled,
            dead=dead,
            finished_at=ending.at,
        )


class Notice(Record):
    """`data` of webhook.test."""

    message: str = "This is a test of Warmline's webhooks."


class Event(Record):
    """What is posted: the body of Standard Webhooks."""

    type: Literal[
        "job.succeeded", "job.failed", "job.cancelled", "job.dead", "batch.finished", "webhook.test"
    ]  # fmt: skip
    timestamp: datetime = Field(description="when it happened")
    data: JobData | BatchData | Notice

    @classmethod
    def test(cls) -> Self:
        """One that says nothing."""
        return cls(type="webhook.test", timestamp=datetime.now(UTC), data=Notice())


def event_of(ending: Ending, ended: EndedJob | None, summary: Summary | None) -> Event:
    """The event of an ending; `ended` is what is known of the job, None for a batch."""
    data = BatchData.of(ending) if ended is None else JobData.of(ending, ended, summary)
    return Event.model_validate({"type": ending.event, "timestamp": ending.at, "data": data})


def _asked(job: Job | None) -> dict[str, object]:
    names = ("source", "metadata", "lane", "batch_id", "created_at")
    return {name: getattr(job, name) if job else None for name in names}


def _line(channel: dict[str, Any]) -> ChannelLine:
    summary = channel["summary"]
    return ChannelLine(
        role=channel["role"],
        emotion=summary["top"],
        confidence=summary.get("confidence"),
        speech_seconds=channel["speech_seconds"],
    )
