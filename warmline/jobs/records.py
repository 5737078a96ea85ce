"""What was asked and how far it got: the records that API, ledger, messages and workers share.

All are frozen and reject unknown fields when they are made. The wire form is JSON: `model_dump_json`, and `read`,
which takes what another version of Warmline wrote: docs/upgrades.md says what a version may change here.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator


def _printable_key(key: str) -> str:
    if len(key.encode()) > 1024:
        raise ValueError("an S3 key has at most 1,024 bytes in UTF-8")
    if "\x00" in key:
        raise ValueError("an S3 key holds no NUL")
    return key


BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]$")]
ObjectKey = Annotated[str, StringConstraints(min_length=1), AfterValidator(_printable_key)]
MAX_METADATA = 32
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=1024)],
    ],
    Field(max_length=MAX_METADATA),
]
Lane = Literal["live", "bulk"]
TRACEPARENT = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """From the JSON that any version wrote: fields that came later than this one are left aside.

        Raises pydantic's ValidationError.
        """
        return cls.model_validate_json(text, extra="ignore")


class Asked(Record):
    """Base of what says what is to be done. A newer version's fields are kept, and written again with the rest.

    Another process, which knows them, does the work: who only hands a job on must not take a part of it away, and
    who would have to do it must see that there is more to it than it knows.
    """

    # The published schemas say what this version takes; the API refuses the rest.
    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """From the JSON that any version wrote. Raises pydantic's ValidationError."""
        return cls.model_validate_json(text)

    def unknown_fields(self) -> tuple[str, ...]:
        """The fields of it, and of what it holds, that this version does not know, as dotted names."""
        found = list(self.model_extra or ())
        for name in type(self).model_fields:
            value = getattr(self, name)
            for held in value if isinstance(value, tuple) else (value,):
                if isinstance(held, Asked):
                    found.extend(f"{name}.{below}" for below in held.unknown_fields())
        return tuple(found)


class Source(Asked):
    """The call: one object in S3."""

    bucket: BucketName
    key: ObjectKey
    version_id: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None

    @property
    def uri(self) -> str:
        """s3://bucket/key, for people."""
        return f"s3://{self.bucket}/{self.key}"


class ExcludedRange(Asked):
    """A stretch of the call that is no conversation: hold music, a ring tone, an announcement."""

    start_seconds: float = Field(ge=0, le=1e6)
    end_seconds: float = Field(gt=0, le=1e6)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end_seconds <= self.start_seconds:
            raise ValueError("a range ends after its start")
        return self


class Options(Asked):
    """What decides a report besides the call itself; part of the report's key.

    An option that came later than the first two is left out of the wire form where it has its default: so jobs
    stay small, and the key of a report that does not use it stays as it was.
    """

    granularity: Literal["segment", "utterance", "frame"] = Field(
        "segment",
        description="segment: windows within stretches of speech; utterance: a whole channel at once; "
        "frame: a window that slides over the speech, `hop_seconds` further each time",
    )
    roles: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")], ...], Field(max_length=16)
    ] = Field((), description="the channels' roles in order, e.g. agent, customer")
    hop_seconds: float = Field(
        1.0,
        ge=0.1,
        le=30.0,
        description="granularity=frame: from one window's start to the next one's",
        exclude_if=lambda value: value == 1.0,
    )
    exclude: Annotated[tuple[ExcludedRange, ...], Field(max_length=1000)] = Field(
        (), description="what is not looked at: hold music, announcements", exclude_if=lambda value: not value
    )
    embedding: Literal["none", "npy", "parquet"] = Field(
        "none",
        description="the windows' embeddings as a file beside the report",
        exclude_if=lambda value: value == "none",
    )
    split_speakers: bool = Field(
        False,
        description="splits a mono call into two speakers (needs the extra `diarise`)",
        exclude_if=lambda value: not value,
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.split_speakers and self.granularity == "utterance":
            raise ValueError("a whole channel at once has no speakers to split: segment or frame does")
        return self


class BatchItem(Asked):
    """One call of a batch. Its own options replace the batch's; its metadata is added to the batch's."""

    source: Source
    options: Options | None = None
    metadata: Metadata = Field(default_factory=dict)


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"  # in the ledger, waiting for a warm child or for its next attempt
    RUNNING = "running"  # a child holds its lease and works on it
    SUCCEEDED = "succeeded"  # its report is published
    FAILED = "failed"  # no attempt can mend it; `failure` says why
    CANCELLED = "cancelled"  # nobody wants it any more
    DEAD = "dead"  # given up after too many attempts; `failure` says why, and it can be replayed

    @property
    def finished(self) -> bool:
        """True once the job can no longer change, unless it is replayed."""
        return self not in {JobStatus.QUEUED, JobStatus.RUNNING}


class Job(Asked):
    """What was asked. Never changes after it was accepted; this is also the message on the queue."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    source: Source
    options: Options = Options()
    metadata: Metadata = Field(default_factory=dict)
    lane: Lane = "live"
    batch_id: str | None = None
    created_at: datetime
    traceparent: Annotated[str, StringConstraints(pattern=TRACEPARENT)] | None = Field(
        None,
        description="the trace of its submission, as W3C Trace Context has it; a batch's jobs share it",
        exclude_if=lambda value: value is None,
    )

    def too_new(self) -> tuple[str, ...]:
        """What it asks for that this version cannot do: unknown fields of its call and its options.

        Those of the job itself decide nothing of its report and may be left aside: who adds one keeps to that.
        """
        return tuple(name for name in self.unknown_fields() if name.startswith(("source.", "options.")))


class Failure(Record):
    """Why a job was given up."""

    code: str
    message: str


class Attempt(Record):
    """One attempt at a job that is over. `ended_at` of a lost one is when the loss was noticed."""

    number: int
    worker: str
    started_at: datetime
    ended_at: datetime
    outcome: Literal["succeeded", "failed", "retried", "lost", "handed_back", "cancelled", "dead"]
    failure: Failure | None = None


class Refusal(Record):
    """Why a job was not given to a worker: it has ended, or somebody holds its lease."""

    reason: Literal["ended", "leased"]
    holder: str | None = None


class Hold(StrEnum):
    """What a worker learns when it renews the lease of its job."""

    HELD = "held"  # go on
    CANCEL = "cancel"  # the job is to be cancelled: stop after this window
    LOST = "lost"  # the job has ended, or another attempt has it: stop, and write nothing


class Progress(Record):
    """How far a running job is. `windows_total` is 0 until the audio has been read to its end."""

    stage: Literal["fetch", "score", "store"]
    windows_done: int = 0
    windows_total: int = 0


class ReportLocation(Record):
    """Where a report lies: in Redis, in S3, or both."""

    in_redis: bool = False
    bucket: str | None = None
    key: str | None = None

    @property
    def uri(self) -> str | None:
        """s3://bucket/key, or None where the report is only in Redis."""
        return f"s3://{self.bucket}/{self.key}" if self.bucket else None


class JobState(Record):
    """How far a job got: what the ledger knows of it."""

    job: Job
    status: JobStatus
    attempt: int = 0
    worker: str | None = None
    progress: Progress | None = None
    queued_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure: Failure | None = None
    report: ReportLocation | None = None
    retry_at: datetime | None = Field(
        None, description="when a queued job is tried again after a fault, or is due by its trigger's pace"
    )
    cancel_requested: bool = Field(False, description="it runs, and stops after the window it is at")
    attempts: tuple[Attempt, ...] = Field((), description="the attempts that are over, oldest first")


class BatchState(Record):
    """How far a batch got. The counts add up to `total`."""

    id: str
    created_at: datetime
    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int = 0
    dead: int = 0
    finished_at: datetime | None = None

    @property
    def ended(self) -> int:
        """How many jobs have ended, well or not."""
        return self.succeeded + self.failed + self.cancelled + self.dead

    @property
    def finished(self) -> bool:
        """True once every job has ended."""
        return self.ended >= self.total


class ChildState(Record):
    """One warm child, as its worker announces it."""

    pid: int
    model: str
    model_hash: str = Field("", description="sha256 of the weights file, hex; part of its reports' keys")
    mini: bool
    engine: str
    device: str
    precision: str
    threads: int
    load_seconds: float
    warm_since: datetime


class WorkerState(Record):
    """One worker, as its heartbeat in Redis says. Absent from Redis means not alive."""

    name: str
    host: str
    pid: int
    lanes: tuple[Lane, ...]
    children: int = Field(description="children it should have")
    warm: tuple[ChildState, ...] = Field((), description="children that can take a job now")
    seen_at: datetime
    version: str = Field("", description="Warmline's version; empty before 0.2")
    started_at: datetime | None = None
    draining: bool = Field(False, description="it was told to end, and takes no more jobs")
    busy: int = Field(0, ge=0, description="children that have a job now")
    taken: int = Field(0, ge=0, description="messages taken since it started")
    last_taken_at: datetime | None = None
    respawns: int = Field(0, ge=0, description="children replaced since it started")
    recent_deaths: int = Field(
        0, ge=0, description="its processes that died in the last five minutes, its predecessors' among them"
    )
    stuck: int = Field(0, ge=0, description="children that have a job and have not come on with it for too long")
    hungry_seconds: dict[Lane, float] = Field(
        default_factory=dict, description="for how long it has had room for jobs of a lane, and has taken none"
    )
    hungry_for_retries_seconds: float | None = Field(
        None, description="the same for jobs that are tried again, a queue of their own; null: it has no room"
    )
    ended_because: str = Field("", description="why it gave up, where it did")
