"""A job's embeddings beside its report, in a real S3."""

from __future__ import annotations

import io
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mypy_boto3_s3.client import S3Client

from config.settings import S3Settings
from tests.integration.desks import NewDesk, job_for, left_in_scratch
from warmline.calls.report import Report
from warmline.calls.stored_reports import BucketShelf
from warmline.emotion.engine import Embeddings, Scores
from warmline.jobs.errors import ObjectNotFound, StoreUnavailable
from warmline.jobs.records import Job, JobStatus, Options, Source
from warmline.objects.store import ObjectStore
from workers.scoring import Desk


def done(desk: Desk, job: Job) -> Report:
    desk.attempt(job)
    state = desk.ledger.get(job.id)
    assert state.status is JobStatus.SUCCEEDED, state.failure
    assert state.report is not None
    return Report.model_validate_json(desk.ledger.report(job.id) or desk.store.get_report(state.report))


def stored(s3: S3Client, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.mark.parametrize(("results", "kind"), [("redis", "npy"), ("s3", "parquet"), ("both", "npy")])
def test_they_are_in_s3_wherever_the_report_is(
    new_desk: NewDesk, call: Source, s3_client: S3Client, results: str, kind: str
) -> None:
    # When a job asks for embeddings
    desk = new_desk(results=results)
    job = job_for(call, options=Options(embedding=kind, roles=(f"{kind}_{results}",)))  # type: ignore[arg-type]
    report = done(desk, job)
    # Then the report says where they are, and there they are: a row for each window
    windows = [window for channel in report.channels for window in channel.windows]
    told = report.embeddings
    assert told is not None
    assert (told.format, told.rows, told.dimensions) == (kind, len(windows), desk.engine.embedding_dimensions)
    body = io.BytesIO(stored(s3_client, told.uri))
    if kind == "npy":
        assert np.load(body).shape == (len(windows), told.dimensions)
    else:
        assert pq.read_table(body)["start_ms"].to_pylist() == [window.start_ms for window in windows]
    # Beside the report, by the report's name
    location = desk.ledger.get(job.id).report
    assert location is not None
    if results == "redis":
        assert location.key is None
    else:
        assert told.uri == f"s3://reports/{location.key}".removesuffix(".json") + f".{kind}"
    # And nothing is left on the worker's disk
    assert left_in_scratch(desk) == []


def test_a_job_that_does_not_ask_has_none(new_desk: NewDesk, call: Source, s3_client: S3Client) -> None:
    desk = new_desk(results="s3")
    job = job_for(call, options=Options(roles=("none",)))
    assert done(desk, job).embeddings is None
    location = desk.ledger.get(job.id).report
    assert location is not None
    assert location.key is not None
    beside = s3_client.list_objects_v2(Bucket="reports", Prefix=location.key.removesuffix("json"))
    assert [entry["Key"] for entry in beside["Contents"]] == [location.key]


def test_whoever_lists_reports_does_not_take_them_for_one(new_desk: NewDesk, call: Source) -> None:
    desk = new_desk(results="s3")
    places = []
    for kind in ("npy", "parquet"):
        job = job_for(call, options=Options(embedding=kind, roles=("listed",)))  # type: ignore[arg-type]
        done(desk, job)
        location = desk.ledger.get(job.id).report
        assert location is not None
        places.append(f"s3://reports/{location.key}")
    listed = [ref.place for ref in BucketShelf(desk.store, "reports", f"calls/{call.key}").refs()]
    assert set(places) <= set(listed)
    assert all(place.endswith(".json") for place in listed)


class BreaksLate:
    """An engine that dies with its third batch."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.info, self.min_samples, self.windows_at_once = engine.info, engine.min_samples, 1
        self.embedding_dimensions = engine.embedding_dimensions
        self.left = 2

    def prepare(self, windows: Any) -> Any:
        return self._engine.prepare(windows)

    def infer(self, prepared: Any, *, embeddings: bool = False) -> Any:
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        return self._engine.infer(prepared, embeddings=embeddings)

    def finish(self, output: Any) -> Scores:
        return self._engine.finish(output)

    def embeddings(self, output: Any) -> Embeddings:
        return self._engine.embeddings(output)


def test_an_attempt_that_fails_leaves_no_file_anywhere_and_the_next_one_puts_it(
    new_desk: NewDesk, call: Source, s3_client: S3Client
) -> None:
    # Given an attempt that fails after some windows
    desk = new_desk(results="s3")
    options = Options(embedding="npy", roles=("fails",))
    job = job_for(call, options=options)
    replace(desk, engine=BreaksLate(desk.engine)).attempt(job)
    # Then it will be tried again, and nothing of it is left, here or in S3
    assert desk.ledger.get(job.id).status is JobStatus.QUEUED
    assert left_in_scratch(desk) == []
    listed = s3_client.list_objects_v2(Bucket="reports", Prefix=f"calls/{call.key}@")
    there = {entry["Key"] for entry in listed.get("Contents", [])}
    report = done(desk, job_for(call, options=options))
    assert report.embeddings is not None
    assert report.embeddings.uri.removeprefix("s3://reports/") not in there
    assert stored(s3_client, report.embeddings.uri)


def test_a_second_attempt_writes_the_same_file_again(new_desk: NewDesk, call: Source, s3_client: S3Client) -> None:
    # Given the files of an attempt that died before it could put the report
    desk = new_desk(results="s3")
    options = Options(embedding="npy", roles=("again",))
    job = job_for(call, options=options)
    report = done(desk, job)
    assert report.embeddings is not None
    first = stored(s3_client, report.embeddings.uri)
    location = desk.ledger.get(job.id).report
    assert location is not None
    assert location.key is not None
    s3_client.delete_object(Bucket="reports", Key=location.key)
    # When the same is asked again, then it is the same file, bit by bit, and the report is there
    again = done(desk, job_for(call, options=options))
    assert again.embeddings == report.embeddings
    assert stored(s3_client, report.embeddings.uri) == first


def test_a_bucket_that_is_not_there_fails_the_job_with_a_sentence(
    new_desk: NewDesk, call: Source, s3_settings: S3Settings
) -> None:
    # Given reports that go to Redis alone, and no bucket for results
    gone = s3_settings.model_copy(update={"results_bucket": "not-there"})
    desk = new_desk(results="redis", s3=gone)
    job = job_for(call, options=Options(embedding="npy"))
    # When a job asks for embeddings all the same
    desk.attempt(job)
    # Then it says what is missing
    state = desk.ledger.get(job.id)
    assert state.status is JobStatus.FAILED
    assert state.failure is not None
    assert state.failure.code == ObjectNotFound.code
    assert "not-there" in state.failure.message
    assert left_in_scratch(desk) == []


def test_a_large_file_goes_up_in_parts_and_in_little_memory(
    s3_settings: S3Settings, s3_client: S3Client, s3_prefix: str, tmp_path: Path
) -> None:
    # Given a file of three parts
    path = tmp_path / "x.npy"
    np.save(path, np.arange(5_000_000, dtype=np.float32).reshape(-1, 1000))
    with closing(ObjectStore(s3_settings)) as store:
        threads: set[str] = {thread.name for thread in threading.enumerate()}
        for _ in range(2):  # the second time over the first
            store.put_embeddings(f"{s3_prefix}x.npy", path)
        assert {thread.name for thread in threading.enumerate()} <= threads
    answer = s3_client.get_object(Bucket="reports", Key=f"{s3_prefix}x.npy")
    assert answer["ETag"].strip('"').endswith("-3"), "it went up in one piece"
    assert answer["Body"].read() == path.read_bytes()


def test_a_store_that_is_away_is_something_that_may_pass(s3_settings: S3Settings, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"x")
    away = s3_settings.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})
    with closing(ObjectStore(away, attempts=1)) as store, pytest.raises(StoreUnavailable):
        store.put_embeddings("x.npy", path)
