"""From an event to a job, with a real ledger and a real store: which object it is for, and that it is one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, S3Settings, Settings, TriggersSettings
from tests.ports import choose_port
from warmline.jobs.errors import (
    BacklogFull,
    BucketNotAllowed,
    LedgerUnavailable,
    ObjectNotFound,
    StoreUnavailable,
)
from warmline.jobs.records import Failure, Job, JobState, Options, Source
from warmline.jobs.upload_ledger import UploadLedger
from warmline.objects.events import Upload
from warmline.objects.store import ObjectStore
from warmline.triggers.intake import Intake, Outcome
from warmline.triggers.rules import Rule, Rules

NewIntake = Callable[..., Intake]

ANY = Rule(name="any", bucket="calls")


@pytest.fixture
def new_intake(redis_url: str, s3_settings: S3Settings) -> Iterator[NewIntake]:
    """Makes intakes at one ledger; rules, and what is given by name of the jobs' settings."""
    made: list[Intake] = []

    def make(*rules: Rule, s3: S3Settings = s3_settings, url: str = redis_url, **jobs: float) -> Intake:
        settings = Settings(
            redis=RedisSettings(url=SecretStr(url), timeout_seconds=20),
            s3=s3,
            jobs=JobsSettings.model_validate(jobs),
            triggers=TriggersSettings(remember_seconds=60),
        )
        ledger = UploadLedger.connect(settings.redis, settings.jobs)
        made.append(Intake(settings, Rules(rules=rules or (ANY,)), ledger, ObjectStore(s3)))
        return made[-1]

    yield make
    for intake in made:
        intake.close()


@pytest.fixture
def jobs(redis_url: str) -> Iterator[Callable[[], list[Job]]]:
    """The jobs in the ledger, oldest first."""
    with closing(UploadLedger.connect(RedisSettings(url=SecretStr(redis_url)), JobsSettings())) as ledger:
        yield lambda: [state.job for state in reversed(list(ledger.list()))]


def told(key: str, etag: str | None = None, *, bucket: str = "calls", **fields: Any) -> Upload:
    """An upload, as a store with sequencers tells of it; `version` is its version id."""
    source = Source(bucket=bucket, key=key, version_id=fields.pop("version", None))
    return Upload(**({"source": source, "dialect": "aws", "name": "ObjectCreated:Put", "etag": etag} | fields))


def test_an_event_that_says_enough_needs_no_look_at_the_store(
    new_intake: NewIntake, jobs: Callable[[], list[Job]], s3_settings: S3Settings
) -> None:
    # Given a store that nobody can reach
    nowhere = s3_settings.model_copy(update={"endpoint_url": f"http://127.0.0.1:{choose_port()}"})
    intake = new_intake(
        Rule(name="live", bucket="calls", lane="live", options=Options(roles=("agent",))), s3=nowhere
    )
    outcome = intake.accept([told("a.wav", "e1", sequencer="1"), told("b.wav", "e2", version="v7")])
    assert outcome.counts == {"entered": 2}
    made = {job.id: job for job in jobs()}
    assert sorted(made) == sorted(outcome.job_ids)
    assert {(job.source.key, job.source.version_id, job.lane, job.options.roles) for job in made.values()} == {
        ("a.wav", None, "live", ("agent",)),
        ("b.wav", "v7", "live", ("agent",)),
    }
    # Then one that does not say enough waits until the store answers
    for upload in (told("c.wav", "e3"), told("d.wav", None, sequencer="1")):
        with pytest.raises(StoreUnavailable):
            intake.accept([upload])


def test_where_events_say_too_little_the_job_is_for_what_is_there_now(
    new_intake: NewIntake, jobs: Callable[[], list[Job]], s3_client: S3Client, s3_prefix: str
) -> None:
    intake, key = new_intake(), f"{s3_prefix}call.wav"
    first = s3_client.put_object(Bucket="calls", Key=key, Body=b"first")["ETag"].strip('"')
    assert intake.accept([told(key, first)]).counts == {"entered": 1}
    second = s3_client.put_object(Bucket="calls", Key=key, Body=b"second")["ETag"].strip('"')
    # Whatever comes first of what is told of both: one more job
    assert intake.accept([told(key, second), told(key, first), told(key)]).counts == {"entered": 1, "known": 2}
    # And content that was there before is known
    s3_client.put_object(Bucket="calls", Key=key, Body=b"first")
    assert intake.accept([told(key, first)]).counts == {"known": 1}
    assert len({job.id for job in jobs()}) == 2


def test_a_call_that_is_gone_has_no_job(
    new_intake: NewIntake, jobs: Callable[[], list[Job]], s3_prefix: str
) -> None:
    assert new_intake().accept([told(f"{s3_prefix}gone.wav", "e")]).counts == {"gone": 1}
    assert jobs() == []


def test_a_version_has_its_own_job_and_names_it(
    new_intake: NewIntake,
    jobs: Callable[[], list[Job]],
    s3_client: S3Client,
    s3_settings: S3Settings,
    new_bucket: Callable[[], str],
) -> None:
    bucket = new_bucket()
    s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    versions = [s3_client.put_object(Bucket=bucket, Key="a.wav", Body=body)["VersionId"] for body in (b"1", b"2")]
    s3 = s3_settings.model_copy(update={"source_buckets": (bucket,)})
    intake = new_intake(Rule(name="r", bucket=bucket), s3=s3)
    # Told of without an ETag, then without a version
    assert intake.accept([told("a.wav", bucket=bucket, version=versions[0])]).counts == {"entered": 1}
    assert intake.accept([told("a.wav", bucket=bucket)]).counts == {"entered": 1}
    assert [job.source.version_id for job in jobs()] == versions


def test_a_copy_onto_itself_runs_again_only_where_its_rule_asks_for_it(
    new_intake: NewIntake, s3_client: S3Client, s3_prefix: str
) -> None:
    key = f"{s3_prefix}call.wav"
    etag = s3_client.put_object(Bucket="calls", Key=key, Body=b"call")["ETag"]
    intake = new_intake()
    again = new_intake(Rule(name="again", bucket="calls", prefix=s3_prefix, rerun=True))
    first, rewritten = told(key, etag.strip('"'), sequencer="1"), told(key, etag.strip('"'), sequencer="2")
    assert intake.accept([first, rewritten]).counts == {"entered": 1, "known": 1}
    assert again.accept([rewritten, rewritten]).counts == {"entered": 1, "known": 1}
    assert again.accept([told(key, etag.strip('"'), sequencer="3")]).counts == {"entered": 1}


def test_metadata_come_from_the_object_and_its_tags(
    new_intake: NewIntake, jobs: Callable[[], list[Job]], s3_client: S3Client, s3_prefix: str
) -> None:
    key = f"{s3_prefix}call.wav"
    s3_client.put_object(Bucket="calls", Key=key, Body=b"x", Metadata={"Call-Id": "4711"}, Tagging="team=blue")
    rule = Rule(
        name="r",
        bucket="calls",
        metadata={"id": "{object.call-id}", "team": "{tag.team}", "none": "{object.absent}"},
    )
    intake = new_intake(rule)
    # Of the store where the event does not say them
    intake.accept([told(key, "e", sequencer="1")])
    intake.accept([told(key, "f", sequencer="2", metadata={"call-id": "4712"})])
    assert [job.metadata for job in jobs()] == [{"id": "4711", "team": "blue"}, {"id": "4712", "team": "blue"}]


def test_what_cannot_be_mended_does_not_keep_its_neighbours_back(
    new_intake: NewIntake, jobs: Callable[[], list[Job]], s3_client: S3Client, s3_prefix: str
) -> None:
    s3_client.put_object(Bucket="calls", Key=f"{s3_prefix}1.wav", Body=b"x")
    outcome = new_intake(Rule(name="r", bucket="calls", prefix=s3_prefix)).accept(
        [
            told("x.wav", "e", bucket="of-others"),
            told(f"{s3_prefix}1.wav"),
            told(f"{s3_prefix}2.wav", "e", sequencer="1"),
        ]
    )
    assert outcome.counts == {"refused": 1, "entered": 2}
    assert [failure.code for failure in outcome.failures] == [BucketNotAllowed.code]
    assert len(jobs()) == 2


def test_a_call_that_comes_back_after_its_job_found_it_gone_runs_again(
    new_intake: NewIntake, jobs: Callable[[], list[Job]], redis_url: str, s3_client: S3Client, s3_prefix: str
) -> None:
    key = f"{s3_prefix}call.wav"
    etag = s3_client.put_object(Bucket="calls", Key=key, Body=b"x")["ETag"].strip('"')
    intake = new_intake()
    intake.accept([told(key, etag)])
    with closing(UploadLedger.connect(RedisSettings(url=SecretStr(redis_url)), JobsSettings())) as ledger:
        (job,) = jobs()
        state = ledger.claim(job, "w/1")
        assert isinstance(state, JobState)
        ledger.fail(job.id, state.attempt, Failure(code=ObjectNotFound.code, message="It is gone."))
    time.sleep(1.1)  # stores tell the time in whole seconds
    s3_client.put_object(Bucket="calls", Key=key, Body=b"x")
    assert intake.accept([told(key, etag)]).counts == {"entered": 1}


def test_a_rule_has_its_lane_and_its_pace(new_intake: NewIntake, jobs: Callable[[], list[Job]]) -> None:
    intake = new_intake(Rule(name="night", bucket="calls", lane="bulk", jobs_per_minute=60))
    outcome = intake.accept([told(f"{n}.wav", "e", sequencer="1") for n in range(5)])
    assert outcome.counts == {"entered": 2, "held": 3}
    assert len(outcome.job_ids) == 5
    assert {job.lane for job in jobs()} == {"bulk"}


def test_what_does_not_fit_the_backlog_can_be_brought_again(
    new_intake: NewIntake, jobs: Callable[[], list[Job]]
) -> None:
    uploads = [told(f"{n}.wav", "e", sequencer="1") for n in range(5)]
    with pytest.raises(BacklogFull):
        new_intake(max_backlog=3).accept(uploads)
    assert len(jobs()) == 3
    assert new_intake().accept(uploads).counts == {"known": 3, "entered": 2}


def test_without_redis_nothing_is_accepted(new_intake: NewIntake) -> None:
    intake = new_intake(url=f"redis://127.0.0.1:{choose_port()}/0")
    with pytest.raises(LedgerUnavailable):
        intake.accept([told("a.wav", "e", sequencer="1")])


def test_any_number_of_bringers_make_one_job_of_each_upload(
    new_intake: NewIntake, jobs: Callable[[], list[Job]], s3_client: S3Client, s3_prefix: str
) -> None:
    """As of SQS pollers, a webhook and a listing at once, some of which know sequencers and some do not."""
    uploads = []
    for n in range(12):
        key = f"{s3_prefix}{n}.wav"
        etag = s3_client.put_object(Bucket="calls", Key=key, Body=b"%d" % n)["ETag"].strip('"')
        now = datetime.now(UTC)
        uploads.append([told(key, etag, sequencer=f"{n:x}"), told(key, etag, happened_at=now), told(key)])
    roads = [[ways[road % 3] for ways in uploads] for road in range(6)]

    def bring(road: int) -> Outcome:
        return new_intake().accept(roads[road] if road % 2 else reversed(roads[road]))

    with ThreadPoolExecutor(6) as pool:
        counts = sum((Counter(outcome.counts) for outcome in pool.map(bring, range(6))), Counter())
    assert counts == {"entered": 12, "known": 60}
    assert len(jobs()) == 12
