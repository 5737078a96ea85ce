"""The queue, and those who work on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from config.sections.section import PREFIX, Section


class GeneralSettings(Section):
    """What belongs to no single part."""

    results: Literal["redis", "s3", "both"] = Field("both", description="where reports are put")


class JobsSettings(Section):
    """Rules of the queue."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}JOBS_")

    max_attempts: int = Field(10, ge=1, description="attempts that end in a transient fault before a job is dead")
    max_losses: int = Field(3, ge=1, description="worker processes a job may lose before it is dead")
    retry_seconds: float = Field(2.0, gt=0, description="wait before the first retry; doubles each time")
    max_retry_seconds: float = Field(300.0, gt=0, description="longest wait before a retry")
    lease_seconds: float = Field(
        30.0, ge=1, description="a running job that is not heard of for so long is lost, and runs again"
    )
    visibility_timeout_seconds: int = Field(
        300, ge=10, description="a message unacknowledged this long is delivered again (the job is not run twice)"
    )
    runway: int = Field(4, ge=1, le=100, description="messages that wait in Celery's queues for each warm child")
    max_backlog: int = Field(1_000_000, ge=1, description="most jobs that may wait; more are refused with 429")
    max_batch: int = Field(100_000, ge=1, description="most jobs in one batch")
    idempotency_seconds: int = Field(
        86400, ge=1, description="how long a request with an Idempotency-Key is remembered"
    )
    time_limit_factor: float = Field(
        20.0, gt=0, description="longest a job may take, in lengths of its audio, once that is known"
    )
    time_limit_seconds: float = Field(600.0, gt=0, description="longest a job may take besides that, in seconds")
    retention_seconds: int = Field(
        7 * 86400, ge=60, description="how long finished jobs and their reports stay in Redis"
    )
    dead_letter_retention_seconds: int = Field(
        30 * 86400, ge=60, description="how long dead jobs stay in Redis, to be looked at and replayed"
    )
    reconcile_prefixes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="s3://bucket/prefix/ of calls that are all to have a report, comma-separated"
    )
    reconcile_seconds: int = Field(
        0, ge=0, description="how often jobs are entered for those that have none; 0: never by itself"
    )
    reconcile_by_rules: bool = Field(
        False, description="the rules for uploads say which of them, under which options (docs/triggers.md)"
    )

    @field_validator("reconcile_prefixes")
    @classmethod
    def _are_s3_uris(cls, uris: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [uri for uri in uris if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/.*)?", uri)]:
            raise ValueError(f"{len(bad)} of them not of the form s3://bucket/prefix/")
        return uris


class WorkerSettings(Section):
    """One worker: a parent and its warm children."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}WORKER_")

    children: int = Field(0, ge=0, description="warm children; 0: planned, see `warmline doctor --plan`")
    engine_hosts: str = Field(
        "auto",
        pattern=r"^(auto|\d{1,2})$",
        description="processes that hold the model for all children; auto: planned; 0: each child holds it itself",
    )
    lanes: Annotated[tuple[Literal["live", "bulk"], ...], NoDecode] = Field(
        ("live", "bulk"), description="lanes this worker takes jobs from, comma-separated"
    )
    live_children: int = Field(
        1, ge=0, description="children beside those, kept free for the live lane; 0 where only one lane is served"
    )
    grace_seconds: float = Field(
        30.0, gt=0, description="how long a job that runs may go on after SIGTERM before it is handed back"
    )
    load_timeout_seconds: float = Field(600.0, gt=0, description="longest time a child may take to get warm")
    replacement_timeout_seconds: float = Field(
        75.0,
        gt=0,
        description="the same for one that replaces another; three times the first ones' time if that is more",
    )
    heartbeat_seconds: float = Field(5.0, gt=0, description="how often readiness is written to Redis")
    missing_seconds: float = Field(
        900.0, ge=0, description="how long a worker that fell silent without a word is reported as missing"
    )
    stalled_seconds: float = Field(
        60.0,
        gt=0,
        description="with free children and waiting jobs, a worker that takes none for so long is stalled",
    )
    scratch_dir: Path = Field(Path("/tmp/warmline"), description="where calls lie while they are analysed")  # noqa: S108

    @property
    def hosts_asked_for(self) -> int | None:
        """The number of engine hosts; None: to be planned."""
        return None if self.engine_hosts == "auto" else int(self.engine_hosts)

    @property
    def reserved_children(self) -> int:
        """How many children this worker has for the live lane alone: none where there is no other lane."""
        return self.live_children if len(set(self.lanes)) > 1 else 0
