"""What a reconciliation is asked, and how far it is.

A job that it enters has an id that its question decides: bucket, key, ETag, options and model. So the same
question is asked once, however often somebody reconciles.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from warmline.jobs.records import BucketName, Failure, Lane, Options, Record

Prefix = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")]


class ReconcileStatus(StrEnum):
    """Where a reconciliation is."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"  # `failure` says why; what was entered until then stays, and running it again goes on
    INTERRUPTED = "interrupted"  # the process that ran it is gone; run it again


class Wanted(Record):
    """What is to be reconciled: every call below a prefix is to have a report under these options."""

    bucket: BucketName
    prefix: Prefix = Field("", description="every object whose key begins so; empty: the whole bucket")
    options: Options = Options()
    lane: Lane = "bulk"
    retry_failed: bool = Field(
        False, description="also what an earlier reconciliation entered and what failed or died"
    )
    by_rules: bool = Field(
        False, description="the rules for uploads say which calls, under which options, in which lane"
    )

    @model_validator(mode="after")
    def _rules_or_options(self) -> Self:
        if self.by_rules and (self.retry_failed or self.options != Options() or self.lane != "bulk"):
            raise ValueError("by_rules goes with bucket and prefix alone: the rules decide the rest")
        return self


class Counts(Record):
    """What was found, call by call: found = reported + in_ledger + enqueued + replayed, once it has finished."""

    found: int = Field(0, description="calls below the prefix")
    reported: int = Field(0, description="of those, the ones that have their report")
    in_ledger: int = Field(0, description="of those, the ones that wait or run, or that failed for good")
    enqueued: int = Field(0, description="of those, the ones that have a new job now")
    replayed: int = Field(0, description="of those, the ones whose failed job runs again")
    settled: int = Field(
        0, description="jobs that waited or ran while their report was there, and are succeeded now"
    )

    def plus(self, **more: int) -> Self:
        """With these added."""
        return self.model_copy(update={name: getattr(self, name) + count for name, count in more.items()})


class Reconciliation(Record):
    """One reconciliation, and how far it is."""

    id: str
    wanted: Wanted
    model_hash: str
    status: ReconcileStatus = ReconcileStatus.RUNNING
    counts: Counts = Counts()
    started_at: datetime
    finished_at: datetime | None = None
    failure: Failure | None = None


def job_id_for(report_key: str) -> str:
    """The id of the job that a reconciliation enters: its report's key holds the whole question."""
    return hashlib.sha256(f"reconcile\0{report_key}".encode()).hexdigest()[:32]
