"""The ledger's hashes in Redis, and the records that are read from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from warmline.jobs.batch_ids import job_id_of
from warmline.jobs.records import (
    Attempt,
    BatchItem,
    BatchState,
    Failure,
    Job,
    JobState,
    JobStatus,
    Progress,
    ReportLocation,
    Source,
)

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
    "retry_at_ms",
    "cancel",
    "attempts",  # a line of JSON for each
)
BATCH_FIELDS = (
    "created_ms", "total", "queued", "running", "succeeded", "failed", "cancelled", "dead", "finished_ms",
)  # fmt: skip
WAITING_FIELDS = (
    "template",
    "created_ms",
    "cursor",
    "total",
    "cancelled_ms",
)  # of a batch's hash, for its waiting jobs

Row = Sequence[str | None]  # the values of such fields, None where there is none


def milliseconds(moment: datetime) -> int:
    """Since the epoch."""
    return int(moment.timestamp() * 1000)


def _moment(since_epoch_ms: str | None) -> datetime | None:
    return None if since_epoch_ms is None else datetime.fromtimestamp(int(since_epoch_ms) / 1000, UTC)


def job_state(row: Row) -> JobState:
    """From the values of JOB_FIELDS."""
    (job, status, attempt, worker, progress, queued, started, finished, failure, report,
     retry_at, cancel, attempts) = row  # fmt: skip
    return JobState.model_validate(
        {
            "job": Job.read(job or ""),
            "status": status,
            "attempt": int(attempt or 0),
            "worker": worker,
            "progress": progress and Progress.read(progress),
            "queued_at": _moment(queued),
            "started_at": _moment(started),
            "finished_at": _moment(finished),
            "failure": failure and Failure.read(failure),
            "report": report and ReportLocation.read(report),
            "retry_at": _moment(retry_at),
            "cancel_requested": cancel is not None,
            "attempts": tuple(map(_attempt, (attempts or "").splitlines())),
        }
    )


def _attempt(line: str) -> Attempt:
    values = json.loads(line)
    for name in ("started", "ended"):
        values[f"{name}_at"] = _moment(values.pop(f"{name}_ms"))
    return Attempt.model_validate(values, extra="ignore")


def batch_state(batch_id: str, row: Row) -> BatchState:
    """From the values of BATCH_FIELDS."""
    created, *counts, finished = row
    names = ("total", "queued", "running", "succeeded", "failed", "cancelled", "dead")
    return BatchState.model_validate(
        {
            "id": batch_id,
            "created_at": _moment(created),
            "finished_at": _moment(finished),
            **{name: int(count or 0) for name, count in zip(names, counts, strict=True)},
        }
    )


class WaitingBatch:
    """A batch whose jobs have no hashes of their own yet, as far as they wait: the values of WAITING_FIELDS."""

    def __init__(self, batch_id: str, row: Row) -> None:
        template, created, cursor, total, cancelled = row
        self.id = batch_id
        self.created_ms = int(created or 0)
        self.cursor = int(cursor or 0)  # the place of the first job that waits
        self.total = int(total or 0)
        self._cancelled_at = _moment(cancelled)
        self._template = Job.read(template or "")

    @property
    def status(self) -> JobStatus:
        """That of all its jobs from the cursor on that have no hash of their own."""
        return JobStatus.QUEUED if self._cancelled_at is None else JobStatus.CANCELLED

    def job(self, place: int, call: str) -> Job:
        """Its job at this place, from 0. `call` is what `pack_call` made."""
        changes: dict[str, object] = {"id": job_id_of(self.id, place)}
        if call.startswith(_KEY):
            changes["source"] = Source(bucket=self._template.source.bucket, key=call[1:])
        else:
            item = BatchItem.read(call[1:])
            changes |= {"source": item.source, "metadata": {**self._template.metadata, **item.metadata}}
            if item.options is not None:
                changes["options"] = item.options
        return self._template.model_copy(update=changes)

    def state(self, place: int, call: str) -> JobState:
        """How that job stands."""
        queued_at = _moment(str(self.created_ms))
        assert queued_at is not None  # noqa: S101 - there is one
        job = self.job(place, call)
        return JobState(job=job, status=self.status, queued_at=queued_at, finished_at=self._cancelled_at)


_KEY, _ITEM = "k", "i"  # how a packed call begins


def pack_call(item: BatchItem, bucket: str) -> str:
    """A call of a batch in few bytes: its key alone, if that is all in which it differs from the others."""
    source = item.source
    alone = source.version_id is None and item.options is None and not item.metadata
    if source.bucket == bucket and alone and not source.model_extra and not item.model_extra:
        return f"{_KEY}{source.key}"
    return f"{_ITEM}{item.model_dump_json(exclude_defaults=True)}"
