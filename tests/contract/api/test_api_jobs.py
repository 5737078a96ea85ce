"""Jobs and batches over HTTP: submitted, followed, fetched. The workers' part is played through the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from warmline.calls.report import Report
from warmline.jobs import keys
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES
from warmline.jobs.records import BatchState, Failure, JobState, Options, Progress, ReportLocation, Source
from warmline.objects.store import ObjectStore

SOURCE = {"bucket": "calls", "key": "2026/05/Anruf é 客.wav"}


def submit(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={"source": SOURCE} | body)
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def submit_batch(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == answer.json()["links"]["self"]
    accepted: dict[str, Any] = answer.json()
    return accepted


@pytest.fixture
def queued(redis_url_of_api: str) -> Callable[[str], int]:
    """How many jobs of a lane wait in the ledger or in Celery's queue: the API's feeder takes them there."""

    def count(lane: str) -> int:
        with redis.Redis.from_url(redis_url_of_api) as connection, connection.pipeline() as pipe:
            pipe.hget(keys.WAITING, lane)
            pipe.llen(f"{keys.BROKER}{QUEUES[lane]}")  # type: ignore[index]
            return sum(int(number or 0) for number in pipe.execute())

    return count


def claim(ledger: Ledger, job_id: str, worker: str = "w") -> JobState:
    """A worker takes a job."""
    claimed = ledger.claim(ledger.get(job_id).job, worker)
    assert isinstance(claimed, JobState), claimed
    return claimed


@pytest.fixture
def report() -> Report:
    return Report.model_validate_json(json.dumps(REPORT))


REPORT: dict[str, Any] = {
    "job_id": None,
    "source": {
        "uri": "s3://calls/a.wav", "size_bytes": 44, "container": "WAV", "codec": "ULAW",
        "sample_rate_hz": 8000, "channels": 1, "duration_seconds": 1.0,
    },
    "provenance": {
        "warmline_version": "0.1.0",
        "model": {
            "name": "mini", "hash": "ab" * 32, "mini": True,
            "engine": "torch", "device": "cpu", "precision": "fp32",
        },
        "options": Options().model_dump(mode="json"),
        "stage_seconds": {"fetch": 0.1},
        "rtfx": 100.0,
        "analysed_at": "2026-05-01T12:00:00Z",
    },
    "channels": [],
    "flags": ["no_speech"],
}  # fmt: skip


# One job


def test_a_submitted_job_is_in_the_ledger_and_waits_in_its_lane(
    client: httpx.Client, ledger: Ledger, queued: Callable[[str], int]
) -> None:
    before = queued("live"), queued("bulk")
    asked = {
        "source": SOURCE | {"version_id": "v1"},
        "options": {"granularity": "utterance", "roles": ["agent", "customer"]},
        "metadata": {"call_id": "4711", "名": "値"},
        "lane": "bulk",
    }

    answer = client.post("/v1/jobs", json=asked)

    accepted = answer.json()
    own = f"/v1/jobs/{accepted['id']}"
    assert answer.headers["location"] == own
    assert accepted["status"] == "queued"
    assert accepted["links"] == {"self": own, "report": f"{own}/report", "batch": None}
    job = ledger.get(accepted["id"]).job
    assert {name: job.model_dump(mode="json")[name] for name in asked} == asked
    assert (queued("live"), queued("bulk")) == (before[0], before[1] + 1)


def test_a_job_alone_goes_to_the_live_lane_under_the_usual_options(client: httpx.Client, ledger: Ledger) -> None:
    job = ledger.get(submit(client)["id"]).job
    assert (job.lane, job.options, job.metadata, job.batch_id) == ("live", Options(), {}, None)
    assert abs((datetime.now(UTC) - job.created_at).total_seconds()) < 10


def test_a_job_is_followed_from_queued_to_its_report(client: httpx.Client, ledger: Ledger, report: Report) -> None:
    # Given an accepted job
    links = submit(client)["links"]
    state = client.get(links["self"]).json()
    assert (state["status"], state["attempt"], state["report"]) == ("queued", 0, None)
    not_yet = client.get(links["report"])
    assert (not_yet.status_code, not_yet.json()["code"]) == (409, "report_not_ready")

    # When a worker takes it and works on it
    job = ledger.get(state["id"]).job
    ledger.claim(job, "worker@host")
    ledger.heartbeat(job.id, 1, Progress(stage="score", windows_done=3, windows_total=9))
    state = client.get(links["self"]).json()
    assert (state["status"], state["attempt"], state["worker"]) == ("running", 1, "worker@host")
    assert state["progress"] == {"stage": "score", "windows_done": 3, "windows_total": 9}

    # Then its end is seen, and its report fetched
    text = report.model_copy(update={"job_id": job.id}).model_dump_json()
    ledger.succeed(job.id, 1, ReportLocation(in_redis=True), text)
    state = client.get(links["self"]).json()
    assert (state["status"], state["report"]["in_redis"]) == ("succeeded", True)
    assert JobState.model_validate(state, extra="ignore") == ledger.get(job.id)
    fetched = client.get(links["report"])
    assert fetched.status_code == 200
    assert Report.model_validate_json(fetched.content).job_id == job.id


def test_a_report_that_is_only_in_s3_is_fetched_from_there(
    client: httpx.Client, ledger: Ledger, store: ObjectStore, s3_prefix: str, report: Report
) -> None:
    accepted = submit(client)
    claim(ledger, accepted["id"])
    key = f"{s3_prefix}r.json"
    store.put_report(key, report.model_dump_json().encode())
    ledger.succeed(accepted["id"], 1, ReportLocation(bucket="reports", key=key), None)

    assert Report.model_validate(client.get(accepted["links"]["report"]).json()) == report


def test_a_report_that_was_deleted_is_not_found(client: httpx.Client, ledger: Ledger) -> None:
    accepted = submit(client)
    claim(ledger, accepted["id"])
    ledger.succeed(accepted["id"], 1, ReportLocation(bucket="reports", key="deleted.json"), None)

    answer = client.get(accepted["links"]["report"])
    assert (answer.status_code, answer.json()["code"]) == (404, "object_not_found")


def test_a_failed_job_says_why_and_has_no_report(client: httpx.Client, ledger: Ledger) -> None:
    accepted = submit(client)
    claim(ledger, accepted["id"])
    ledger.fail(accepted["id"], 1, Failure(code="not_audio", message="The content is not audio."))

    assert client.get(accepted["links"]["self"]).json()["failure"] == {
        "code": "not_audio",
        "message": "The content is not audio.",
    }
    answer = client.get(accepted["links"]["report"])
    assert (answer.status_code, answer.json()["code"]) == (409, "report_not_ready")
    assert "The content is not audio. [not_audio]" in answer.json()["detail"]


def test_jobs_are_listed_newest_first_page_by_page(client: httpx.Client, ledger: Ledger) -> None:
    ids = [submit(client)["id"] for _ in range(3)]
    claim(ledger, ids[0])
    ledger.fail(ids[0], 1, Failure(code="x", message="y"))

    first = client.get("/v1/jobs", params={"limit": 2}).json()
    assert len(first["jobs"]) == 2
    second = client.get(first["next"]).json()
    listed = [job["id"] for job in (*first["jobs"], *second["jobs"])]
    assert set(listed[:3]) == set(ids)  # jobs of one millisecond stand in no order
    assert len(set(listed)) == 4

    failed = client.get("/v1/jobs", params={"status": "failed", "limit": 1}).json()
    assert [job["id"] for job in failed["jobs"]] == [ids[0]]
    assert failed["next"] == f"/v1/jobs?limit=1&before={ids[0]}&status=failed"


def test_the_last_page_has_no_next(client: httpx.Client) -> None:
    submit(client)
    assert client.get("/v1/jobs", params={"limit": 1000}).json()["next"] is None


# Batches


def test_a_batch_of_keys_is_followed_to_its_end(
    client: httpx.Client, ledger: Ledger, queued: Callable[[str], int]
) -> None:
    # Given a batch of two keys
    before = queued("bulk")
    accepted = submit_batch(
        client, bucket="calls", keys=["a.wav", "b/ü.wav"], options={"roles": ["agent"]}, metadata={"n": "1"}
    )
    assert (accepted["total"], queued("bulk") - before) == (2, 2)
    state = client.get(accepted["links"]["self"]).json()
    assert (state["status"], state["total"], state["queued"]) == ("queued", 2, 2)

    # When its jobs are done, one well and one not
    listed = client.get(accepted["links"]["jobs"]).json()["jobs"]
    assert {job["job"]["source"]["key"] for job in listed} == {"a.wav", "b/ü.wav"}
    for job in (ledger.get(row["id"]).job for row in listed):
        assert (job.lane, job.options.roles, job.metadata) == ("bulk", ("agent",), {"n": "1"})
        assert job.batch_id == accepted["id"]
        ledger.claim(job, "w")
    assert client.get(accepted["links"]["self"]).json()["status"] == "running"
    ledger.succeed(listed[0]["id"], 1, ReportLocation(in_redis=True), "{}")
    ledger.fail(listed[1]["id"], 1, Failure(code="x", message="y"))

    # Then the batch says so
    state = client.get(accepted["links"]["self"]).json()
    assert (state["status"], state["succeeded"], state["failed"]) == ("finished", 1, 1)
    assert BatchState.model_validate(state, extra="ignore").finished_at is not None
    failed = client.get(accepted["links"]["jobs"], params={"status": "failed"}).json()["jobs"]
    assert [job["id"] for job in failed] == [listed[1]["id"]]
    assert client.get(failed[0]["links"]["batch"]).json()["id"] == accepted["id"]


def test_a_batch_of_jobs_takes_what_each_brings(client: httpx.Client, ledger: Ledger) -> None:
    accepted = submit_batch(
        client,
        jobs=[
            {"source": {"bucket": "calls", "key": "a.wav"}},
            {
                "source": {"bucket": "calls", "key": "b.wav", "version_id": "v"},
                "options": {"granularity": "utterance"},
                "metadata": {"call": "b", "n": "2"},
            },
        ],
        options={"roles": ["agent"]},
        metadata={"n": "1"},
        lane="live",
    )
    jobs = {state.job.source.key: state.job for state in ledger.list(batch_id=accepted["id"])}
    assert jobs["a.wav"].options == Options(roles=("agent",))
    assert jobs["a.wav"].metadata == {"n": "1"}
    assert jobs["b.wav"].options == Options(granularity="utterance")
    assert jobs["b.wav"].metadata == {"call": "b", "n": "2"}
    assert jobs["b.wav"].source.version_id == "v"
    assert {job.lane for job in jobs.values()} == {"live"}


def test_a_batch_by_prefix_is_what_s3_lists(
    client: httpx.Client, ledger: Ledger, store: ObjectStore, s3_prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    expected = {store.put_call("calls", f"{s3_prefix}{name}", path) for name in ("a.wav", "b c/é.wav")}
    store.put_call("calls", f"{s3_prefix[:-1]}-beside.wav", path)

    accepted = submit_batch(client, bucket="calls", prefix=s3_prefix)

    assert {state.job.source for state in ledger.list(batch_id=accepted["id"])} == expected


def test_batches_are_listed_newest_first(client: httpx.Client) -> None:
    ids = [submit_batch(client, bucket="calls", keys=["a.wav"])["id"] for _ in range(2)]
    listed = [batch["id"] for batch in client.get("/v1/batches", params={"limit": 2}).json()["batches"]]
    assert set(listed) == set(ids)


def test_a_batch_s_jobs_come_page_by_page(client: httpx.Client) -> None:
    accepted = submit_batch(client, bucket="calls", keys=[f"{n}.wav" for n in range(5)])
    seen: list[str] = []
    following: str | None = f"{accepted['links']['jobs']}?limit=2"
    while following:
        page = client.get(following).json()
        seen += [job["job"]["source"]["key"] for job in page["jobs"]]
        following = page["next"]
    assert seen == [f"{n}.wav" for n in reversed(range(5))]


@pytest.mark.parametrize(
    "body",
    [
        {"bucket": "calls", "keys": [f"{n}" for n in range(6)]},
        {"jobs": [{"source": SOURCE}] * 6},
    ],
    ids=["keys", "jobs"],
)
def test_a_batch_over_the_limit_is_not_accepted_at_all(
    client: httpx.Client, queued: Callable[[str], int], body: dict[str, Any]
) -> None:
    before = queued("bulk"), client.get("/v1/batches").json()
    answer = client.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")
    assert "WARMLINE_JOBS_MAX_BATCH" in answer.json()["detail"]
    assert (queued("bulk"), client.get("/v1/batches").json()) == before


def test_a_prefix_over_the_limit_is_not_accepted_at_all(
    client: httpx.Client, store: ObjectStore, s3_prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    for n in range(6):
        store.put_call("calls", f"{s3_prefix}{n}.wav", path)
    before = client.get("/v1/batches").json()
    answer = client.post("/v1/batches", json={"bucket": "calls", "prefix": s3_prefix})
    assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")
    assert client.get("/v1/batches").json() == before


def test_a_batch_with_one_call_from_another_bucket_is_not_accepted_at_all(client: httpx.Client) -> None:
    before = client.get("/v1/batches").json()
    answer = client.post(
        "/v1/batches",
        json={"jobs": [{"source": SOURCE}, {"source": {"bucket": "payroll", "key": "a.wav"}}]},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "bucket_not_allowed")
    assert client.get("/v1/batches").json() == before


@pytest.mark.parametrize(("bucket", "detail"), [("calls", "begins with"), ("no-such-bucket", "no such bucket")])
def test_a_prefix_without_calls_is_not_found(client: httpx.Client, bucket: str, detail: str) -> None:
    answer = client.post("/v1/batches", json={"bucket": bucket, "prefix": "there is nothing here/"})
    assert (answer.status_code, answer.json()["code"]) == (404, "object_not_found")
    assert detail in answer.json()["detail"]


def test_a_missing_object_is_the_worker_s_business(client: httpx.Client, ledger: Ledger) -> None:
    # Submitting asks S3 nothing: it is as fast as Redis, and the object may yet be uploaded.
    accepted = submit(client, source={"bucket": "no-such-bucket", "key": "a.wav"})
    assert ledger.get(accepted["id"]).job.source == Source(bucket="no-such-bucket", key="a.wav")
