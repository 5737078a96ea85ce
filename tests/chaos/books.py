"""The reckoning: what the ledger, the store, the broker, the logs and the disk say when everything has ended."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
import redis

from config.settings import S3Settings
from tests.chaos.faults import Fault
from warmline.jobs import keys
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus

PAGE = 1000
PUBLISHED = {"job_finished", "job_settled"}  # what a worker logs when the ledger took its report


def all_jobs(ledger: Ledger) -> list[JobState]:
    """Every job of the ledger."""
    found: list[JobState] = []
    before: str | None = None
    while page := ledger.list(limit=PAGE, before=before):
        found.extend(page)
        before = page[-1].job.id
    return found


@dataclass(frozen=True, kw_only=True)
class Reports:
    """The report objects in S3, with every version of each."""

    versions: Mapping[str, int]  # key -> how often it was written

    @classmethod
    def read(cls, s3: S3Settings) -> Reports:
        """Lists the results bucket."""
        pages = client_of(s3).get_paginator("list_object_versions").paginate(Bucket=s3.results_bucket)
        return cls(versions=Counter(entry["Key"] for page in pages for entry in page.get("Versions", ())))


def keep_versions(s3: S3Settings) -> None:
    """From now on the results bucket keeps every version of an object: one that is written twice has two."""
    client_of(s3).put_bucket_versioning(Bucket=s3.results_bucket, VersioningConfiguration={"Status": "Enabled"})


def client_of(s3: S3Settings) -> Any:
    """A plain S3 client."""
    return boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name=s3.region,
        aws_access_key_id=s3.access_key.get_secret_value(),
        aws_secret_access_key=s3.secret_key.get_secret_value(),
    )


def left_in_redis(url: str) -> dict[str, int]:
    """What should be empty when nothing runs and is not: leases, messages, jobs that wait."""
    client: Any = redis.Redis.from_url(url, decode_responses=True)
    sizes = {
        "leases": client.zcard(keys.LEASES),
        "holders of leases": client.hlen(keys.HOLDERS),
        "jobs that were sent": client.zcard(keys.SENT),
        "delayed jobs": client.zcard(keys.DELAYED),
        "waiting jobs": sum(int(count) for count in client.hvals(keys.WAITING)),
        "unacknowledged messages": client.hlen(f"{keys.BROKER}unacked"),
        "messages in lists": sum(
            client.llen(name) for name in client.scan_iter(f"{keys.BROKER}*") if client.type(name) == "list"
        ),
    }
    client.close()
    return {what: size for what, size in sizes.items() if size}


def published_twice(states: Iterable[JobState], reports: Reports, lines: Iterable[Mapping[str, Any]]) -> int:
    """Reports beyond each job's first: a second version in S3, a second success in its history or in a log."""
    again = sum(count - 1 for count in reports.versions.values())
    again += sum(max(0, _successes(state) - 1) for state in states)
    said = Counter(line.get("job_id") for line in lines if line.get("action") in PUBLISHED)
    return again + sum(count - 1 for count in said.values())


def _successes(state: JobState) -> int:
    return sum(attempt.outcome == "succeeded" for attempt in state.attempts)


def lost(states: Sequence[JobState], accepted: Collection[str], reports: Reports) -> list[str]:
    """Accepted jobs that have no end, or no report though they succeeded."""
    known = {state.job.id: state for state in states}
    gone = [f"{job_id} is not in the ledger" for job_id in accepted if job_id not in known]
    for state in states:
        if not state.status.finished:
            gone.append(f"{state.job.id} is {state.status}")
        elif state.status is JobStatus.SUCCEEDED:
            key = state.report.key if state.report else None
            if key not in reports.versions:
                gone.append(f"{state.job.id} has no report at {key}")
    return gone


def outcomes(states: Iterable[JobState]) -> dict[str, int]:
    """How many attempts ended how."""
    return dict(Counter(attempt.outcome for state in states for attempt in state.attempts))


def repeated_attempts(states: Iterable[JobState]) -> int:
    """Attempts beyond the first of each job."""
    return sum(max(0, state.attempt - 1) for state in states)


def to_next_end(fault: Fault, ends: Sequence[float]) -> float | None:
    """Seconds from the fault to the next job that ended anywhere; `ends` are sorted."""
    return next((end - fault.at for end in ends if end > fault.at), None)


def to_same_job_again(fault: Fault, states: Iterable[JobState]) -> list[float]:
    """Seconds from the fault until each job that died of it ran again."""
    return [
        after.started_at.timestamp() - fault.at
        for state in states
        for before, after in itertools.pairwise(state.attempts)
        if before.outcome == "lost"
        and int(before.worker.rpartition("/")[2]) in fault.pids
        and after.started_at.timestamp() > fault.at
    ]
