"""Reconciling beside uploads that are announced: a call has one job, whoever of the two comes first."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr, ValidationError

from config.settings import RedisSettings, S3Settings, Settings
from tests.unit.jobs.conftest import worker
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.reconcile_ledger import ReconcileLedger
from warmline.jobs.reconciliation import Wanted
from warmline.jobs.records import Job, JobState, Options, Source
from warmline.jobs.submission import submit_job
from warmline.jobs.upload_ledger import UploadJob, UploadLedger, upload_job_id
from warmline.objects.events import Upload
from warmline.objects.reconcile import Reconciler
from warmline.objects.reconcile_schedule import ReconcileSchedule
from warmline.objects.report_keys import report_key
from warmline.objects.store import ObjectStore
from warmline.triggers.intake import Intake
from warmline.triggers.rules import Rule, Rules


@pytest.fixture
def settings(s3_settings: S3Settings, redis_url: str) -> Settings:
    return Settings(s3=s3_settings, redis=RedisSettings(url=SecretStr(redis_url)))


@pytest.fixture
def ledger(settings: Settings) -> Iterator[ReconcileLedger]:
    with closing(ReconcileLedger.connect(settings.redis, settings.jobs)) as made:
        yield made


def test_a_call_whose_upload_is_announced_meanwhile_has_one_job(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str
) -> None:
    # Given a page of absent calls as a reconciliation has it, and their events that come before it enters them
    names = ("announced", "other options", "over", "quiet")
    sources = [Source(bucket="calls", key=f"{s3_prefix}{name}.wav") for name in names]
    etags = [f"etag of {name}" for name in names]
    asked = [_job_of(source, etag, Options()) for source, etag in zip(sources, etags, strict=True)]
    asked[1] = _job_of(sources[1], etags[1], Options(granularity="utterance"))
    with closing(UploadLedger.connect(settings.redis, settings.jobs)) as uploads:
        uploads.enter_uploads([UploadJob(job=job, rule="r") for job in asked[:3]], remember_seconds=60)
    over = ledger.claim(asked[2], "w/1")
    assert isinstance(over, JobState)
    ledger.cancelled(over.job.id, over.attempt)
    # When it enters them
    outcomes = ledger.enter(
        [
            (job.model_copy(update={"id": uuid.uuid4().hex, "options": Options()}), etag)
            for job, etag in zip(asked, etags, strict=True)
        ]
    )
    # Then the one that waits for the same report is left alone
    assert outcomes == ["queued", "entered", "entered", "entered"]


def test_a_version_of_the_call_that_waits_counts_as_waiting(
    settings: Settings, ledger: ReconcileLedger, s3_client: S3Client, s3_prefix: str
) -> None:
    key = f"{s3_prefix}versioned.wav"
    s3_client.put_object(Bucket="calls", Key=key, Body=b"x")
    submit_job(ledger, Source(bucket="calls", key=key, version_id="v1"))
    with closing(Reconciler(settings)) as reconciler:
        run = reconciler.carry_out(reconciler.begin(Wanted(bucket="calls", prefix=s3_prefix), "m"))
    assert (run.counts.found, run.counts.in_ledger, run.counts.enqueued) == (1, 1, 0)


def test_by_rules_what_uploads_missed_gets_the_jobs_that_it_would_have_had(
    settings: Settings, ledger: ReconcileLedger, s3_client: S3Client, s3_prefix: str
) -> None:
    # Given rules for two kinds of calls, and calls of which some have their report or their job
    live = Rule(
        name="live",
        bucket="calls",
        prefix=f"{s3_prefix}live/",
        lane="live",
        options=Options(roles=("agent", "customer")),
        metadata={"kind": "live"},
    )
    night = Rule(name="night", bucket="calls", prefix=f"{s3_prefix}night/", jobs_per_minute=1)
    etags = {}
    for name in (
        "live/missed",
        "live/reported",
        "live/otherwise",
        "night/1",
        "night/2",
        "night/3",
        "night/told",
        "x",
    ):
        key = f"{s3_prefix}{name}.wav"
        etags[key] = s3_client.put_object(Bucket="calls", Key=key, Body=name.encode())["ETag"]
    with closing(ObjectStore(settings.s3)) as store:
        for name, options in (("reported", live.options), ("otherwise", Options())):
            source = Source(bucket="calls", key=f"{s3_prefix}live/{name}.wav")
            store.put_report(report_key(source, options, etag=etags[source.key], model_hash="m"), b"{}")
        uploads = UploadLedger.connect(settings.redis, settings.jobs)
        intake = Intake(settings, Rules(rules=(live, night)), uploads, store)
        told = Source(bucket="calls", key=f"{s3_prefix}night/told.wav")
        intake.accept(
            [Upload(source=told, dialect="aws", name="Put", etag=etags[told.key].strip('"'), sequencer="1")]
        )
        # When they are reconciled by the rules, twice
        wanted = Wanted(bucket="calls", prefix=s3_prefix, by_rules=True)
        with closing(Reconciler(settings, rules=intake)) as reconciler:
            first, again = (reconciler.carry_out(reconciler.begin(wanted, "m")).counts for _ in range(2))
        intake.close()
    # Then each has its rule's job, and what no rule wants has none
    assert (first.found, first.reported, first.in_ledger, first.enqueued) == (7, 1, 1, 5)
    assert (again.found, again.reported, again.in_ledger, again.enqueued) == (7, 1, 6, 0)
    jobs = {state.job.source.key.removeprefix(s3_prefix): state for state in ledger.list()}
    assert sorted(jobs) == [
        f"{n}.wav" for n in ("live/missed", "live/otherwise", "night/1", "night/2", "night/3", "night/told")
    ]
    missed = jobs["live/missed.wav"].job
    assert (missed.lane, missed.options, missed.metadata) == ("live", live.options, {"kind": "live"})
    assert sum(state.retry_at is not None for state in jobs.values()) == 3  # of four, at the rule's pace


@pytest.fixture
def live_rule(settings: Settings, s3_client: S3Client, s3_prefix: str) -> Iterator[Intake]:
    """An intake with a rule for one of two calls that are there."""
    for name in ("live/1", "other"):
        s3_client.put_object(Bucket="calls", Key=f"{s3_prefix}{name}.wav", Body=name.encode())
    rule = Rule(name="live", bucket="calls", prefix=f"{s3_prefix}live/", lane="live")
    ledger = UploadLedger.connect(settings.redis, settings.jobs)
    with closing(Intake(settings, Rules(rules=(rule,)), ledger, ObjectStore(settings.s3))) as intake:
        yield intake


def test_without_being_asked_for_rules_have_no_say(
    settings: Settings, ledger: ReconcileLedger, live_rule: Intake, s3_prefix: str
) -> None:
    with closing(Reconciler(settings, rules=live_rule)) as reconciler:
        run = reconciler.carry_out(reconciler.begin(Wanted(bucket="calls", prefix=s3_prefix), "m"))
    assert (run.counts.found, run.counts.enqueued) == (2, 2)
    assert {state.job.lane for state in ledger.list()} == {"bulk"}


def test_the_schedule_goes_by_the_rules_where_the_settings_say_so(
    settings: Settings, ledger: ReconcileLedger, live_rule: Intake, s3_prefix: str
) -> None:
    jobs = settings.jobs.model_copy(
        update={
            "reconcile_prefixes": (f"s3://calls/{s3_prefix}",),
            "reconcile_seconds": 60,
            "reconcile_by_rules": True,
        }
    )
    ledger.beat(worker("w", 1, model_hash="m"), ttl_seconds=30)
    with closing(Reconciler(settings, rules=live_rule)) as reconciler:
        schedule = ReconcileSchedule(settings.model_copy(update={"jobs": jobs}), reconciler)
        assert schedule.step()
        schedule.stop()
    assert [(state.job.source.key, state.job.lane) for state in ledger.list()] == [
        (f"{s3_prefix}live/1.wav", "live")
    ]


def test_rules_decide_alone_and_only_where_there_are_some(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="the rules decide the rest"):
        Wanted(bucket="calls", by_rules=True, lane="live")
    with closing(Reconciler(settings)) as reconciler, pytest.raises(InvalidRequest, match="no rules"):
        reconciler.begin(Wanted(bucket="calls", by_rules=True), "m")


def _job_of(source: Source, etag: str, options: Options) -> Job:
    return Job(
        id=upload_job_id(source.bucket, source.key, etag),
        source=source,
        options=options,
        created_at=datetime.now(UTC),
    )
