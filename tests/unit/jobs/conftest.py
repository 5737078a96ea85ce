"""A ledger of the test's own in a real Redis, and its feeder."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings
from warmline.jobs import keys
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import job_id_of_message
from warmline.jobs.records import ChildState, Job, JobState, Lane, Source, WorkerState

NewJob = Callable[..., Job]


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(
        redis=RedisSettings(url=SecretStr(redis_url), timeout_seconds=20),
        jobs=JobsSettings(
            max_attempts=3, max_losses=2, lease_seconds=60, retention_seconds=60, dead_letter_retention_seconds=90
        ),
    )


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with closing(Ledger.connect(settings.redis, settings.jobs)) as ledger:
        yield ledger


@pytest.fixture
def feeder(settings: Settings) -> Iterator[Feeder]:
    """Feeds a turn when it is told to."""
    feeder = Feeder(settings)
    yield feeder
    feeder.stop()


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    with closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


@pytest.fixture
def new_job() -> NewJob:
    """Makes a job; fields may be given by name."""

    def make(**fields: object) -> Job:
        defaults: dict[str, object] = {
            "id": uuid.uuid4().hex,
            "source": Source(bucket="calls", key="2026/a call.wav"),
            "created_at": datetime.now(UTC),
        }
        return Job.model_validate(defaults | fields)

    return make


def claim(ledger: Ledger, job: Job | str, worker: str = "w/1") -> JobState:
    """A job, claimed: it is there, and nobody else has it."""
    claimed = ledger.claim(ledger.get(job).job if isinstance(job, str) else job, worker)
    assert isinstance(claimed, JobState), claimed
    return claimed


def end_lease(raw: Any, *job_ids: str) -> None:
    """Their holders have been silent for long."""
    raw.zadd(keys.LEASES, dict.fromkeys(job_ids, 1))


def calls(count: int, name: str = "call") -> list[Source]:
    """So many calls."""
    return [Source(bucket="calls", key=f"{name}-{n}.wav") for n in range(count)]


def take_messages(raw: Any, queue: str) -> list[str]:
    """Takes all messages out of one of Celery's queues, as workers do: the ids of their jobs, in that order."""
    key = f"{keys.BROKER}{queue}"
    texts = list(reversed(raw.lrange(key, 0, -1)))
    raw.delete(key)
    return [job_id_of_message(text) or "" for text in texts]


def worker(
    name: str, warm: int, *, lanes: tuple[Lane, ...] = ("live", "bulk"), model_hash: str = ""
) -> WorkerState:
    now = datetime.now(UTC)
    child = ChildState(
        pid=9, model="mini", mini=True, engine="torch", device="cpu", precision="fp32", threads=1,
        load_seconds=0.5, warm_since=now, model_hash=model_hash,
    )  # fmt: skip
    return WorkerState(name=name, host="h", pid=1, lanes=lanes, children=warm, warm=(child,) * warm, seen_at=now)
