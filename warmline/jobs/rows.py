"""The ledger's hashes in Redis, and the records that are read from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from warmline.jobs.records import BatchState, Failure, Job, JobState, Progress, ReportLocation

# Of a job's hash; besides these it has created_ms, for the listings, and batch, the batch that counts it.
JOB_FIELDS = (
    "job",  # JSON, as all that is not a number or a name
    "status",
    "attempt",
    "worker",
    "progress",
    "queued_ms",  # milliseconds since the epoch, as all times
    "started_ms",
    "finished_ms",
    "failure",
    "report",
)
BATCH_FIELDS = ("created_ms", "total", "queued", "running", "succeeded", "failed", "finished_ms")

Row = Sequence[str | None]  # the values of such fields, None where there is none


def milliseconds(moment: datetime) -> int:
    """Since the epoch."""
    return int(moment.timestamp() * 1000)


def _moment(since_epoch_ms: str | None) -> datetime | None:
    return None if since_epoch_ms is None else datetime.fromtimestamp(int(since_epoch_ms) / 1000, UTC)


def job_state(row: Row) -> JobState:
    """From the values of JOB_FIELDS."""
    job, status, attempt, worker, progress, queued, started, finished, failure, report = row
    return JobState.model_validate(
        {
            "job": Job.model_validate_json(job or ""),
            "status": status,
            "attempt": int(attempt or 0),
            "worker": worker,
            "progress": progress and Progress.model_validate_json(progress),
            "queued_at": _moment(queued),
            "started_at": _moment(started),
            "finished_at": _moment(finished),
            "failure": failure and Failure.model_validate_json(failure),
            "report": report and ReportLocation.model_validate_json(report),
        }
    )


def batch_state(batch_id: str, row: Row) -> BatchState:
    """From the values of BATCH_FIELDS."""
    created, *counts, finished = row
    total, queued, running, succeeded, failed = (int(count or 0) for count in counts)
    return BatchState.model_validate(
        {
            "id": batch_id,
            "created_at": _moment(created),
            "total": total,
            "queued": queued,
            "running": running,
            "succeeded": succeeded,
            "failed": failed,
            "finished_at": _moment(finished),
        }
    )
