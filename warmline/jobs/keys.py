"""Every Redis key that Warmline writes, a line each.

Redis Cluster is not supported: a script changes keys of several slots, and Celery's transport knows no cluster.
"""

from __future__ import annotations

PREFIX = "warmline:"

BROKER = f"{PREFIX}broker:"  # put before every key of Celery's transport: queues, unacknowledged messages

JOB = f"{PREFIX}job:"  # + job id: a hash, the fields of `rows.JOB_FIELDS`
REPORT = f"{PREFIX}report:"  # + job id: a string, the report's JSON
JOBS = f"{PREFIX}jobs:"  # + status: a sorted set of job ids by creation time, for listings
BATCH = f"{PREFIX}batch:"  # + batch id: a hash, its creation and finish times and a counter for each status
BATCH_JOBS = f"{PREFIX}batch-jobs:"  # + batch id: a sorted set of its job ids in the order of submission
BATCHES = f"{PREFIX}batches"  # a sorted set of batch ids by creation time
WORKER = f"{PREFIX}worker:"  # + worker name: a string, its heartbeat's JSON; gone when the worker is
WORKERS = f"{PREFIX}workers"  # a sorted set of worker names by the time of their last heartbeat


def job(job_id: str) -> str:
    """What was asked, and how far it got."""
    return f"{JOB}{job_id}"


def report(job_id: str) -> str:
    """The job's report, where Redis keeps it."""
    return f"{REPORT}{job_id}"


def jobs(status: str) -> str:
    """The jobs in this status."""
    return f"{JOBS}{status}"


def batch(batch_id: str) -> str:
    """How far a batch got."""
    return f"{BATCH}{batch_id}"


def batch_jobs(batch_id: str) -> str:
    """The jobs of a batch."""
    return f"{BATCH_JOBS}{batch_id}"


def worker(name: str) -> str:
    """One worker's heartbeat."""
    return f"{WORKER}{name}"
