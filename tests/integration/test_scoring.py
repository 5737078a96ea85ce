"""An attempt at a job, without Celery: real Redis, real S3, a real (tiny) model."""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import RedisSettings, S3Settings
from tests.integration.desks import NewDesk, job_for, left_in_scratch
from tests.servers import running_s3
from tests.unit.calls.categories.category_files import rules_of
from warmline.calls.report import Report
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobStatus, Options, ReportLocation, Source
from warmline.objects.store import ObjectStore
from workers.scoring import retry_seconds


def call_in_lost_store(tmp_path: Path) -> tuple[Source, S3Settings]:
    """A call in a store that has gone."""
    with running_s3(tmp_path) as settings:
        store = ObjectStore(settings)
        store.ensure_bucket("calls")
        source = store.put_call("calls", "x.wav", Path(__file__))
        store.close()
    return source, settings


@pytest.mark.parametrize("results", ["redis", "s3", "both"])
def test_the_report_is_where_the_settings_say(new_desk: NewDesk, call: Source, results: str) -> None:
    # When a job is done
    desk = new_desk(results=results)
    job = job_for(call, options=Options(roles=(f"only_{results}",)))
    desk.attempt(job)
    # Then its report is in the places asked for, and the ledger says where
    state = desk.ledger.get(job.id)
    assert state.status is JobStatus.SUCCEEDED
    assert state.worker == f"w/{os.getpid()}"
    assert state.report is not None
    assert state.report.in_redis == (results != "s3")
    assert (state.report.bucket == "reports") == (results != "redis")
    in_redis = desk.ledger.report(job.id)
    assert (in_redis is not None) == (results != "s3")
    text = in_redis or desk.store.get_report(state.report)
    assert Report.model_validate_json(text).job_id == job.id
    assert left_in_scratch(desk) == []


def test_a_report_is_matched_with_the_categories_as_it_is_made(new_desk: NewDesk, call: Source) -> None:
    rules = rules_of('[[category]]\nname = "any"\n[[category.all]]\nkind = "duration"\nat_least_seconds = 1')
    desk = replace(new_desk(results="both"), categories=rules)
    job = job_for(call, options=Options(roles=("matched",)))
    desk.attempt(job)
    location = desk.ledger.get(job.id).report
    assert location is not None
    for text in (desk.ledger.report(job.id), desk.store.get_report(location)):
        assert text is not None
        report = Report.model_validate_json(text)
        assert report.categories == rules.match(report)
        assert report.categories.matches


def test_the_reports_key_is_made_of_object_options_and_model(new_desk: NewDesk, call: Source) -> None:
    # Given the same call under other options and in another version
    desk = new_desk(results="s3")
    jobs = [job_for(call, options=Options(roles=roles)) for roles in (("a",), ("b",), ("a",))]
    for job in jobs:
        desk.attempt(job)
    first, other, again = (desk.ledger.get(job.id).report for job in jobs)
    # Then the question decides the key, and nothing else
    assert first == again
    assert first != other
    facts = desk.store.head(call)
    assert isinstance(first, ReportLocation)
    assert first.key is not None
    assert first.key.startswith(f"calls/{call.key}@{facts.etag}-")


def test_a_report_that_an_earlier_attempt_wrote_is_kept(new_desk: NewDesk, call: Source) -> None:
    # Given an attempt that died between writing its report and saying so
    desk = new_desk(results="s3")
    job = job_for(call, options=Options(roles=("twice",)))
    desk.attempt(job)
    written = desk.ledger.get(job.id).report
    assert written is not None
    text = desk.store.get_report(written)
    again = job_for(call, id=uuid.uuid4().hex, options=job.options)
    # When the question is asked again, then the report is not written over
    desk.attempt(again)
    assert desk.ledger.get(again.id).report == written
    assert desk.store.get_report(written) == text


def test_a_finished_job_is_not_worked_on_again(new_desk: NewDesk, call: Source) -> None:
    desk = new_desk()
    job = job_for(call)
    desk.attempt(job)
    before = desk.ledger.get(job.id)
    desk.attempt(job)
    assert desk.ledger.get(job.id) == before


def test_a_store_that_went_away_is_waited_for_until_the_attempts_are_used_up(
    new_desk: NewDesk, tmp_path: Path
) -> None:
    # Given a call in a store that has gone
    source, settings = call_in_lost_store(tmp_path)
    desk = replace(new_desk(s3=settings, retry_seconds=10, max_retry_seconds=15), outage_seconds=0)
    job = job_for(source)
    # When it is worked on, then it is queued again for later, the second time for later still, but not too late
    for least, most in ((7, 13), (14, 15.1)):
        end = desk.attempt(job)
        assert (end.code, end.comes_again) == ("store_unavailable", True)
        state = desk.ledger.get(job.id)
        assert state.status is JobStatus.QUEUED
        assert state.retry_at is not None
        assert least <= (state.retry_at - state.attempts[-1].ended_at).total_seconds() <= most
    # Until its attempts are used up
    end = desk.attempt(job)
    assert (end.code, end.comes_again) == ("store_unavailable", False)
    state = desk.ledger.get(job.id)
    assert (state.status, state.attempt) == (JobStatus.DEAD, 3)
    assert state.failure is not None
    assert state.failure.code == "store_unavailable"
    assert [past.outcome for past in state.attempts] == ["retried", "retried", "dead"]


def test_what_nobody_foresaw_fails_the_job_and_not_the_worker(new_desk: NewDesk, call: Source) -> None:
    # Given a scratch directory that somebody removed
    desk = new_desk()
    for directory in desk.settings.worker.scratch_dir.iterdir():
        shutil.rmtree(directory)
    # When a job comes, then it fails with a code and a sentence, without the internals
    job = job_for(call)
    desk.attempt(job)
    state = desk.ledger.get(job.id)
    assert state.status is JobStatus.FAILED
    assert state.failure is not None
    assert state.failure.code == "internal_error"
    assert "Errno" not in state.failure.message


def test_a_ledger_that_is_gone_is_said_before_any_work(new_desk: NewDesk, call: Source) -> None:
    desk = new_desk()
    nowhere = Ledger.connect(
        RedisSettings.model_validate({"url": "redis://127.0.0.1:1/0", "timeout_seconds": 0.2}), desk.settings.jobs
    )
    with pytest.raises(LedgerUnavailable):
        dataclasses.replace(desk, ledger=nowhere).attempt(job_for(call))


def test_waits_double_and_differ_by_chance() -> None:
    for attempt, middle in ((1, 2.0), (2, 4.0), (3, 8.0)):
        waits = {retry_seconds(2.0, attempt) for _ in range(200)}
        assert 0.75 * middle <= min(waits) < 0.85 * middle
        assert 1.15 * middle < max(waits) <= 1.25 * middle
