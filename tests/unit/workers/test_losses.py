"""Deaths of children are told to a real ledger, at once or when Redis is back."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings
from tests.ports import choose_port
from tests.unit.workers.test_announcements import child_state
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Job, JobState, JobStatus, Source
from workers.announcements import Announcements
from workers.losses import Losses
from workers.supervision import Children

WORKER = "worker-1@host"


@pytest.fixture
def children() -> Children:
    """One warm child, with the pid 7."""
    announcements = Announcements()
    children = Children(announcements, replacement_timeout_seconds=60)
    announcements.tell_warm(child_state(7))
    children.look([7])
    return children


def ledger_at(url: str) -> Ledger:
    return Ledger.connect(RedisSettings(url=SecretStr(url), timeout_seconds=20), JobsSettings(lease_seconds=60))


def test_the_job_of_a_child_that_died_is_tried_again_at_once(redis_url: str, children: Children) -> None:
    with closing(ledger_at(redis_url)) as ledger:
        # Given a job that the child holds, and one that another child holds
        own, other = (
            Job(id=uuid.uuid4().hex, source=Source(bucket="calls", key="a.wav"), created_at=datetime.now(UTC))
            for _ in range(2)
        )
        assert isinstance(ledger.claim(own, f"{WORKER}/7"), JobState)
        assert isinstance(ledger.claim(other, f"{WORKER}/77"), JobState)
        losses = Losses(ledger, children)
        # When it lives, nothing is told
        losses.tell(WORKER)
        assert ledger.get(own.id).status is JobStatus.RUNNING
        # When it has died
        children.look([])
        losses.tell(WORKER)
        # Then its job waits for its next attempt, and the other one runs on
        assert ledger.get(own.id).status is JobStatus.QUEUED
        assert [attempt.outcome for attempt in ledger.get(own.id).attempts] == ["lost"]
        assert ledger.get(other.id).status is JobStatus.RUNNING


def test_a_death_is_told_when_redis_is_back(redis_url: str, children: Children) -> None:
    with (
        closing(ledger_at(redis_url)) as ledger,
        closing(ledger_at(f"redis://127.0.0.1:{choose_port()}/0")) as gone,
    ):
        job = Job(id=uuid.uuid4().hex, source=Source(bucket="calls", key="a.wav"), created_at=datetime.now(UTC))
        assert isinstance(ledger.claim(job, f"{WORKER}/7"), JobState)
        # Given a child that died while Redis was away
        losses = Losses(gone, children)
        children.look([])
        losses.tell(WORKER)
        # When Redis is back
        losses.ledger = ledger
        losses.tell(WORKER)
        # Then the job waits for its next attempt
        assert ledger.get(job.id).status is JobStatus.QUEUED
