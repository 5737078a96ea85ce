"""The API's wire forms: what clients send, and what they get beyond the records themselves."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, model_validator
from pydantic.config import JsonDict

from warmline.jobs.conditions import Condition, FleetStatus, WorkerCondition
from warmline.jobs.records import (
    MAX_METADATA,
    BatchItem,
    BatchState,
    BucketName,
    Failure,
    JobState,
    Lane,
    Metadata,
    ObjectKey,
    Options,
    Record,
    Source,
)

BatchStatus = Literal["queued", "running", "finished"]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Prefix = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00]*$")]

_SOURCE: JsonDict = {"bucket": "calls", "key": "2026/05/call-001.wav"}
_ID = "5f0c954d9d2c4c0f8d2f6f0e4a3b2c1d"


class JobRequest(Record):
    """One call to analyse."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"source": _SOURCE},
                {
                    "source": _SOURCE | {"version_id": "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"},
                    "options": {"granularity": "segment", "roles": ["agent", "customer"]},
                    "metadata": {"call_id": "4711"},
                    "lane": "live",
                },
            ]
        }
    )

    source: Source
    options: Options = Options()
    metadata: Metadata = Field(default_factory=dict, description="yours; comes back with the report")
    lane: Lane = Field("live", description="live: soon; bulk: when nothing live waits")


class BatchRequest(Record):
    """Many calls as one: `jobs`, or `bucket` with `keys`, or `bucket` with `prefix`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"bucket": "calls", "keys": ["2026/05/call-001.wav", "2026/05/call-002.mp3"]},
                {"bucket": "calls", "prefix": "2026/05/", "options": {"roles": ["agent", "customer"]}},
                {"jobs": [{"source": _SOURCE, "metadata": {"call_id": "4711"}}], "lane": "live"},
            ]
        }
    )

    # The first bad one of a million ends the reading: all of them would be found in one piece, which nobody may
    # interrupt.
    jobs: list[BatchItem] | None = Field(None, min_length=1, fail_fast=True)
    bucket: BucketName | None = Field(None, description="where `keys` or `prefix` are")
    keys: list[ObjectKey] | None = Field(None, min_length=1, fail_fast=True)
    prefix: Prefix | None = Field(None, description="every object whose key begins so; empty: the whole bucket")
    options: Options = Options()
    metadata: Metadata = Field(default_factory=dict, description="for every job of the batch")
    lane: Lane = "bulk"

    @model_validator(mode="after")
    def _one_way_to_name_the_calls(self) -> Self:
        ways = [name for name in ("jobs", "keys", "prefix") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError("give one of: jobs, keys (with bucket), prefix (with bucket)")
        if (self.bucket is None) != (ways == ["jobs"]):
            raise ValueError("keys and prefix need a bucket, and jobs have their own")
        for place, item in enumerate(self.jobs or ()):
            if len(self.metadata.keys() | item.metadata.keys()) > MAX_METADATA:
                raise ValueError(f"jobs.{place}: with the batch's it has more than {MAX_METADATA} metadata")
        return self


class Links(BaseModel):
    """Where to go from here, relative to the API's address."""

    own: str = Field(alias="self", examples=[f"/v1/jobs/{_ID}"])


class JobLinks(Links):
    """A job's neighbours."""

    report: str = Field(examples=[f"/v1/jobs/{_ID}/report"])
    batch: str | None = None

    @classmethod
    def of(cls, job_id: str, batch_id: str | None = None) -> Self:
        """The links of this job."""
        own = f"/v1/jobs/{job_id}"
        return cls.model_validate(
            {"self": own, "report": f"{own}/report", "batch": batch_id and f"/v1/batches/{batch_id}"}
        )


class BatchLinks(Links):
    """A batch's neighbours."""

    jobs: str = Field(examples=[f"/v1/batches/{_ID}/jobs"])

    @classmethod
    def of(cls, batch_id: str) -> Self:
        """The links of this batch."""
        own = f"/v1/batches/{batch_id}"
        return cls.model_validate({"self": own, "jobs": f"{own}/jobs"})


class JobAccepted(BaseModel):
    """A job is in the ledger, and will end."""

    id: str = Field(examples=[_ID])
    status: Literal["queued"] = "queued"
    links: JobLinks


class BatchAccepted(BaseModel):
    """All of a batch's jobs are in the ledger, and will end."""

    id: str = Field(examples=[_ID])
    status: Literal["queued"] = "queued"
    total: int = Field(description="how many jobs", examples=[2])
    links: BatchLinks


class _JobHead(Record):
    id: str = Field(examples=[_ID])
    links: JobLinks


class JobView(JobState, _JobHead):
    """How far a job is."""

    @classmethod
    def of(cls, state: JobState) -> Self:
        """The view of this state."""
        job = state.job
        return cls(id=job.id, links=JobLinks.of(job.id, job.batch_id), **dict(state))


class BatchView(BatchState):
    """How far a batch is."""

    status: BatchStatus = Field(description="queued: no job has begun; finished: every job has ended")
    links: BatchLinks

    @classmethod
    def of(cls, state: BatchState) -> Self:
        """The view of this state."""
        status: BatchStatus = "queued" if state.queued == state.total else "running"
        if state.finished:
            status = "finished"
        return cls(status=status, links=BatchLinks.of(state.id), **dict(state))


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    next: str | None = Field(None, description="the next page, relative to the API's address; null: there is none")


class Replayed(BaseModel):
    """How many jobs wait again."""

    replayed: int = Field(examples=[3])


class Purged(BaseModel):
    """How many dead letters are gone."""

    purged: int = Field(examples=[3])


class AllOfThem(BaseModel):
    """A query that chooses nothing. An unknown name is an error: a typing mistake must not mean everything."""

    model_config = ConfigDict(extra="forbid")


class AllOrOfBatch(AllOfThem):
    """Which dead letters."""

    batch_id: JobId | None = Field(None, description="only those of this batch; without it, all")


class BatchList(BaseModel):
    """The newest batches first."""

    batches: list[BatchView]


class EventJob(BaseModel):
    """A job that an event led to."""

    id: str = Field(examples=[_ID])
    links: JobLinks

    @classmethod
    def of(cls, job_id: str) -> Self:
        """The job with this id."""
        return cls(id=job_id, links=JobLinks.of(job_id))


class EventsTaken(BaseModel):
    """What became of the uploads that the events announce, counted. Sent again, nothing is entered twice."""

    entered: int = Field(0, description="new jobs", examples=[1])
    held: int = Field(0, description="new jobs that wait for their turn in their rule's pace")
    known: int = Field(0, description="uploads that have their job already")
    older: int = Field(0, description="uploads after which another one of the same key has been seen")
    ignored: int = Field(0, description="uploads that no rule wants")
    gone: int = Field(0, description="uploads whose object is not there any more")
    refused: int = Field(0, description="uploads that cannot become jobs; see `failures`")
    malformed: int = Field(0, description="records that could not be read")
    skipped: dict[str, int] = Field(
        default_factory=dict, description="what announces no upload, by the reason", examples=[{"deleted": 1}]
    )
    jobs: list[EventJob] = Field(default_factory=list, description="the new jobs; the first hundred")
    failures: list[Failure] = Field(default_factory=list, description="why uploads were refused; the first twenty")


class SubscriptionConfirmed(BaseModel):
    """The topic of SNS sends its messages from now on."""

    confirmed: Literal[True] = True


class EventAnswer(RootModel[EventsTaken | SubscriptionConfirmed]):
    """What became of the uploads; or, for SNS's offer of a subscription, that it is confirmed."""


class Health(BaseModel):
    """What the service can do now."""

    status: FleetStatus = Field(
        description="healthy: Redis answers, a model is warm, no worker needs anybody; degraded: work gets done, "
        "and a worker is stalled, looping or missing; unhealthy: Redis does not answer, or no model is warm"
    )
    reasons: list[str] = Field(description="why it is not healthy")
    model_loaded: bool = Field(description="a worker's child holds a warm model")
    redis: Literal["ok", "unavailable"]
    workers: int = Field(description="workers whose heartbeat is fresh")
    warm_children: int = Field(description="children that can take a job now")
    model: str | None = Field(description="the warm model's name; several are joined by commas")
    mini: bool | None = Field(description="true: the small bundled model, which is for trying things out")
    conditions: dict[Condition, int] = Field(description="how many workers are how; GET /v1/workers says which")
    waiting: int | None = Field(description="jobs that a free child would take at once; null: not known")
    running: int | None = Field(description="jobs that a child works on")
    oldest_seconds: float | None = Field(description="how long the job that waits longest has waited")
    version: str = Field(description="Warmline's version")


class WorkerList(BaseModel):
    """Every worker, by name."""

    status: FleetStatus = Field(description="as in /health")
    workers: list[WorkerCondition]


class Alive(BaseModel):
    """The process serves requests."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Jobs will be worked on at once."""

    status: Literal["ready"] = "ready"
