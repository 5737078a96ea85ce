"""The service at a glance, and the page that shows it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.dashboard_paths import DASHBOARD, FILES
from config.settings import S3Settings
from tests.api_process import ApiProcess, running_api
from tests.contract.api.conftest import KEYS
from tests.made_reports import made_side, make_report
from tests.servers import RedisServer
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import BatchItem, Failure, Job, Progress, ReportLocation, Source, WorkerState

POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' blob:",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}  # fmt: skip


def look(client: httpx.Client) -> dict[str, Any]:
    """A look that is not an earlier one's."""
    time.sleep(1.05)
    found: dict[str, Any] = client.get("/v1/overview").raise_for_status().json()
    return found


def new_job(ledger: Ledger, key: str, **more: Any) -> Job:
    job = Job(id=uuid4().hex, source=Source(bucket="calls", key=key), created_at=datetime.now(UTC), **more)
    ledger.create(job)
    return job


@pytest.fixture
def worker(ledger: Ledger) -> Iterator[WorkerState]:
    """A worker with no warm child."""
    state = WorkerState(
        name="w@host", host="host", pid=1, lanes=("live",), children=2, seen_at=datetime.now(UTC), version="7.7.7"
    )
    ledger.beat(state, ttl_seconds=60)
    yield state
    ledger.leave(state.name)


def test_it_tells_how_each_job_ended_and_what_runs(
    client: httpx.Client, ledger: Ledger, worker: WorkerState
) -> None:
    # Given a job that waits, one that runs, one that failed, and one that succeeded with a report in Redis
    before = look(client)
    waits = new_job(ledger, "waits.wav", metadata={"customer": "Mrs Marple"})
    runs, failed, done = (new_job(ledger, f"{name}.wav", lane="bulk") for name in ("runs", "failed", "done"))
    for job in (runs, failed, done):
        ledger.claim(job, f"{worker.name}/7")
    ledger.heartbeat(runs.id, 1, Progress(stage="score", windows_done=3, windows_total=12))
    ledger.fail(failed.id, 1, Failure(code="not_audio", message="It is no audio; send audio."))
    report = make_report(
        made_side("agent", windows=[(0, 5000, {"angry": 0.8}), (5000, 10_000, {"sad": 0.7})]),
        made_side("customer", windows=[]),
        duration_ms=10_000,
    )
    ledger.succeed(done.id, 1, ReportLocation(in_redis=True), report.model_dump_json())

    found = look(client)

    # Then each is where it belongs
    assert found["ended"]["failed"] - before["ended"]["failed"] == 1
    assert found["ended"]["succeeded"] - before["ended"]["succeeded"] == 1
    assert found["backlog"]["running"] - before["backlog"]["running"] == 1
    (running,) = [line for line in found["running"] if line["id"] == runs.id]
    assert running["progress"] == {"stage": "score", "windows_done": 3, "windows_total": 12}
    newest = found["failures"][0]
    assert (newest["id"], newest["uri"], newest["failure"]["code"]) == (failed.id, failed.source.uri, "not_audio")
    newest = found["finished"][0]
    assert (newest["id"], newest["lane"]) == (done.id, "bulk")
    assert [one["role"] for one in newest["emotions"]] == ["agent", "customer"]
    assert [one["tenths"] for one in newest["emotions"]] == [["angry"] * 5 + ["sad"] * 5, [None] * 10]
    assert [one["top"] for one in newest["emotions"]] == ["angry", None]
    assert found["looks"]["angry"] == {"letter": "a", "colour": "#D55E00"}
    # And the worker is one that loads
    (line,) = [line for line in found["workers"] if line["name"] == worker.name]
    assert (line["condition"], line["children"], line["warm"], line["version"]) == ("loading", 2, 0, "7.7.7")
    assert line["reason"]
    assert found["status"] == "unhealthy"
    # And nobody's metadata are there
    assert "Marple" not in json.dumps(found)
    assert waits.id not in json.dumps(found)
    ledger.fail(runs.id, 1, Failure(code="not_audio", message="It is no audio."))
    ledger.cancel(waits.id)


def test_a_call_that_was_submitted_long_ago_is_the_newest_when_it_ends(
    client: httpx.Client, ledger: Ledger, worker: WorkerState
) -> None:
    old = Job(
        id=uuid4().hex,
        source=Source(bucket="calls", key="old.wav"),
        created_at=datetime.now(UTC) - timedelta(days=2),
    )
    for job in (*(new_job(ledger, "young.wav") for _ in range(30)), old):
        ledger.claim(job, f"{worker.name}/7")
        ledger.succeed(job.id, 1, ReportLocation(in_redis=True), "{}")
    finished = look(client)["finished"]
    assert (finished[0]["id"], len(finished)) == (old.id, 12)


def test_a_batch_is_there_until_it_is_finished(client: httpx.Client, ledger: Ledger) -> None:
    template = Job(
        id=uuid4().hex, source=Source(bucket="calls", key="x"), created_at=datetime.now(UTC), lane="bulk",
        batch_id=uuid4().hex[:24] + "00000000",
    )  # fmt: skip
    batch = ledger.create_batch(
        template, [BatchItem(source=Source(bucket="calls", key=f"{n}.wav")) for n in (1, 2)]
    )

    (line,) = [line for line in look(client)["batches"] if line["id"] == batch.id]
    assert (line["total"], line["ended"], line["failed"], line["ends_in_seconds"]) == (2, 0, 0, None)

    ledger.cancel_batch(batch.id)
    assert batch.id not in {line["id"] for line in look(client)["batches"]}


def test_its_history_grows_and_is_in_order(client: httpx.Client) -> None:
    history = look(client)["history"]
    moments = [sample["at"] for sample in history["samples"]]
    assert moments == sorted(moments)
    assert abs(moments[-1] - time.time()) < 60
    assert history["every_seconds"] == 10


def test_many_who_ask_at_once_cost_as_much_as_one(client: httpx.Client) -> None:
    time.sleep(1.05)
    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: client.get("/v1/overview").json()["at"], range(10)))
    assert len(set(answers)) <= 1 + (time.monotonic() - began)  # a look a second


def test_without_a_key_it_tells_nothing(stranger: httpx.Client) -> None:
    answer = stranger.get("/v1/overview")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_without_redis_it_says_so_and_soon_knows_again(
    tmp_path: Path, redis_server: RedisServer, s3_settings: S3Settings
) -> None:
    with (
        running_api(tmp_path, "redis://127.0.0.1:1/0", s3_settings) as alone,
        httpx.Client(trust_env=False, timeout=60) as asking,
    ):
        answer = asking.get(f"{alone.url}/v1/overview", timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
        # And the page comes all the same, without asking for a key where none is needed
        page = asking.get(f"{alone.url}{DASHBOARD}")
        assert page.status_code == 200
        assert 'data-key="not-needed"' in page.text


# The page


@pytest.mark.parametrize("path", [DASHBOARD, *(f"{DASHBOARD}/{name}" for name in FILES)])
def test_the_page_s_files_are_open_and_let_nothing_else_in(api: ApiProcess, path: str) -> None:
    answer = httpx.get(f"{api.url}{path}", trust_env=False, timeout=60)
    assert answer.status_code == 200
    assert set(re.split(r"; *", answer.headers["content-security-policy"])) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == (
        "text/html; charset=utf-8" if path == DASHBOARD else FILES[Path(path).name]
    )
    for secret in KEYS:
        assert secret not in answer.text
    other = httpx.post(f"{api.url}{path}", trust_env=False, timeout=60)
    assert (other.status_code, other.headers["allow"]) == (405, "GET")


def test_the_page_says_that_it_needs_a_key(api: ApiProcess) -> None:
    page = httpx.get(f"{api.url}{DASHBOARD}", trust_env=False, timeout=60).text
    assert 'data-key="needed"' in page
    # And has neither scripts nor styles of its own, which its policy would not allow, nor addresses elsewhere
    assert not re.search(r"<style|\son\w+=|\sstyle=|<script(?![^>]* src=)", page)
    for name in ("dashboard.css", "dashboard.js", "charts.js", "words.js"):
        text = httpx.get(f"{api.url}{DASHBOARD}/{name}", trust_env=False, timeout=60).text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert "innerHTML =" not in text


def test_the_address_alone_leads_to_the_page(api: ApiProcess) -> None:
    answer = httpx.get(f"{api.url}/", trust_env=False, timeout=60)
    assert (answer.status_code, answer.headers["location"]) == (307, "dashboard")


def test_other_files_of_ours_are_not_there(stranger: httpx.Client, hold_to_openapi: Callable[..., None]) -> None:
    for path in ("/dashboard/", "/dashboard/../app.py", "/dashboard/%2e%2e/app.py", "/dashboard/nothing.js"):
        assert stranger.get(path).status_code in {401, 404}, path
