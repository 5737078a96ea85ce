"""A ledger of the test's own in a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import JobQueue
from warmline.jobs.records import Job, Source

NewJob = Callable[..., Job]


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(
        redis=RedisSettings(url=SecretStr(redis_url), timeout_seconds=2),
        jobs=JobsSettings(max_attempts=3, retention_seconds=60),
    )


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger.connect(settings.redis, settings.jobs)
    yield ledger
    ledger.close()


@pytest.fixture
def queue(settings: Settings) -> Iterator[JobQueue]:
    queue = JobQueue.connect(settings)
    yield queue
    queue.close()


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
