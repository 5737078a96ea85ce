"""What becomes of jobs that nobody wants any more, and of those that were given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings
from tests.servers import wait_until
from warmline.jobs import keys
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES
from warmline.jobs.records import Failure, Hold, JobState, ReportLocation

FLAKY = Failure(code="store_unavailable", message="The object store does not answer.")
BAD = Failure(code="not_audio", message="The content is not audio.")
NOBODY = "0" * 32


@pytest.fixture(scope="module")
def strict(redis_url_of_api: str) -> Iterator[Ledger]:
    """The ledger as workers see it that try a job once."""
    with closing(
        Ledger.connect(RedisSettings(url=SecretStr(redis_url_of_api)), JobsSettings(max_attempts=1))
    ) as made:
        yield made


@pytest.fixture
def take_messages(redis_url_of_api: str) -> Callable[[], None]:
    """Takes every message from Celery's queues, as workers do, until no job waits behind them."""

    def take() -> None:
        with redis.Redis.from_url(redis_url_of_api) as connection:

            def nothing_waits() -> bool:
                connection.delete(*(f"{keys.BROKER}{queue}" for queue in QUEUES.values()))
                connection.publish(keys.BELL, "")
                return not any(map(int, connection.hvals(keys.WAITING)))  # type: ignore[arg-type]

            wait_until(nothing_waits, "every job is sent")

    return take


def submit(client: httpx.Client) -> str:
    answer = client.post("/v1/jobs", json={"source": {"bucket": "calls", "key": "a.wav"}})
    return str(answer.json()["id"])


def submit_batch(client: httpx.Client, size: int) -> tuple[str, list[str]]:
    """A batch's id, and its jobs' in the order of submission."""
    calls = [f"{n}.wav" for n in range(size)]
    batch = client.post("/v1/batches", json={"bucket": "calls", "keys": calls}).json()
    jobs = client.get(batch["links"]["jobs"]).json()["jobs"]
    return batch["id"], [job["id"] for job in reversed(jobs)]


def claim(ledger: Ledger, job_id: str) -> JobState:
    state = ledger.claim(ledger.get(job_id).job, "worker@host/1")
    assert isinstance(state, JobState)
    return state


def kill(ledger: Ledger, job_id: str) -> None:
    """Has a job tried as often as it may be."""
    assert ledger.retry(job_id, claim(ledger, job_id).attempt, FLAKY, delay_seconds=0) == "dead"


def job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return found


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# Cancel


def test_a_waiting_job_is_cancelled_at_once_and_stays_so(client: httpx.Client) -> None:
    job_id = submit(client)

    answer = client.post(f"/v1/jobs/{job_id}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert job(client, job_id) == answer.json()
    again = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()) == (200, answer.json())
    # and there is no report to wait for
    report = client.get(f"/v1/jobs/{job_id}/report")
    assert refused(report) == (409, "report_not_ready")
    assert "cancelled and has no report" in report.json()["detail"]


def test_a_running_job_is_told_to_stop(client: httpx.Client, ledger: Ledger) -> None:
    # Given a job that a worker is at
    job_id = submit(client)
    claim(ledger, job_id)
    # When it is cancelled
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    # Then it is accepted, the worker hears of it, and with its word the job has ended
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("running", True)
    assert ledger.heartbeat(job_id, 1) is Hold.CANCEL
    assert ledger.cancelled(job_id, 1)
    state = job(client, job_id)
    assert (state["status"], state["cancel_requested"]) == ("cancelled", False)
    assert [attempt["outcome"] for attempt in state["attempts"]] == ["cancelled"]


def test_what_has_ended_is_not_cancelled(client: httpx.Client, ledger: Ledger) -> None:
    job_id = submit(client)
    claim(ledger, job_id)
    ledger.succeed(job_id, 1, ReportLocation(in_redis=True), "{}")
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_a_batch_is_cancelled_but_for_what_has_ended(client: httpx.Client, ledger: Ledger) -> None:
    # Given a batch of which one job has succeeded and one runs
    batch_id, ids = submit_batch(client, 5)
    claim(ledger, ids[0])
    ledger.succeed(ids[0], 1, ReportLocation(in_redis=True), "{}")
    claim(ledger, ids[1])
    # When it is cancelled
    answer = client.post(f"/v1/batches/{batch_id}/cancel")
    # Then those that waited are cancelled now, and it ends with the one that runs
    assert answer.status_code == 202
    assert [answer.json()[name] for name in ("succeeded", "running", "cancelled", "queued")] == [1, 1, 3, 0]
    assert answer.json()["status"] == "running"
    ledger.cancelled(ids[1], 1)
    again = client.post(f"/v1/batches/{batch_id}/cancel")
    assert (again.status_code, again.json()["status"], again.json()["cancelled"]) == (200, "finished", 4)
    listed = client.get(f"/v1/batches/{batch_id}/jobs", params={"status": "cancelled"}).json()["jobs"]
    assert [row["id"] for row in reversed(listed)] == ids[1:]


# Attempts


def test_a_job_shows_its_attempts_and_its_last_error(client: httpx.Client, ledger: Ledger) -> None:
    job_id = submit(client)
    claim(ledger, job_id)
    ledger.retry(job_id, 1, FLAKY, delay_seconds=600)

    state = job(client, job_id)
    assert (state["status"], state["attempt"]) == ("queued", 1)
    assert state["retry_at"] > state["queued_at"]
    (attempt,) = state["attempts"]
    assert (attempt["number"], attempt["worker"], attempt["outcome"]) == (1, "worker@host/1", "retried")
    assert attempt["failure"] == {"code": "store_unavailable", "message": "The object store does not answer."}
    assert attempt["started_at"] <= attempt["ended_at"]


# Dead letters


def test_a_dead_letter_is_listed_replayed_and_succeeds(client: httpx.Client, strict: Ledger) -> None:
    # Given a job that was given up
    job_id = submit(client)
    kill(strict, job_id)
    newest = client.get("/v1/dead-letters", params={"limit": 1}).json()["jobs"][0]
    assert (newest["id"], newest["status"], newest["failure"]["code"]) == (job_id, "dead", "store_unavailable")
    assert len(newest["attempts"]) == 1
    # When it is replayed
    answer = client.post(f"/v1/jobs/{job_id}/replay")
    # Then it waits again, with its history, and can succeed
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert job_id not in {row["id"] for row in client.get("/v1/dead-letters").json()["jobs"]}
    state = claim(strict, job_id)
    assert state.attempt == 2
    assert strict.succeed(job_id, 2, ReportLocation(in_redis=True), "{}")
    state_now = job(client, job_id)
    assert (state_now["status"], state_now["failure"]) == ("succeeded", None)
    assert [attempt["outcome"] for attempt in state_now["attempts"]] == ["dead", "succeeded"]


def test_only_what_failed_or_is_dead_is_replayed(client: httpx.Client, ledger: Ledger) -> None:
    waiting, done, failed = (submit(client) for _ in range(3))
    claim(ledger, done)
    ledger.succeed(done, 1, ReportLocation(in_redis=True), "{}")
    claim(ledger, failed)
    ledger.fail(failed, 1, BAD)

    for job_id, status in ((waiting, "queued"), (done, "succeeded")):
        answer = client.post(f"/v1/jobs/{job_id}/replay")
        assert refused(answer) == (409, "not_replayable")
        assert status in answer.json()["detail"]
    assert client.post(f"/v1/jobs/{failed}/replay").status_code == 202
    assert job(client, failed)["status"] == "queued"


def test_a_batch_s_failures_are_replayed_and_nothing_else(client: httpx.Client, strict: Ledger) -> None:
    # Given a batch with a success, a failure, a dead job and one that waits, and a dead job of nobody's
    batch_id, (good, bad, dead, waiting) = submit_batch(client, 4)
    claim(strict, good)
    strict.succeed(good, 1, ReportLocation(in_redis=True), "{}")
    claim(strict, bad)
    strict.fail(bad, 1, BAD)
    kill(strict, dead)
    other = submit(client)
    kill(strict, other)
    # When the batch is replayed
    answer = client.post(f"/v1/batches/{batch_id}/replay")
    # Then two wait again
    assert (answer.status_code, answer.json()) == (202, {"replayed": 2})
    assert [job(client, one)["status"] for one in (good, bad, dead, waiting, other)] == [
        "succeeded", "queued", "queued", "queued", "dead",
    ]  # fmt: skip
    state = client.get(f"/v1/batches/{batch_id}").json()
    assert [state[name] for name in ("succeeded", "failed", "dead", "queued")] == [1, 0, 0, 3]
    # and with all dead letters, the other one too
    assert client.post("/v1/dead-letters/replay").json()["replayed"] >= 1
    assert job(client, other)["status"] == "queued"


def test_dead_letters_are_listed_by_batch_and_page_by_page(client: httpx.Client, strict: Ledger) -> None:
    batch_id, ids = submit_batch(client, 4)
    for job_id in ids[:3]:
        kill(strict, job_id)
    kill(strict, submit(client))

    first = client.get("/v1/dead-letters", params={"batch_id": batch_id, "limit": 2}).json()
    assert first["next"] == f"/v1/dead-letters?limit=2&before={ids[1]}&batch_id={batch_id}"
    second = client.get(first["next"]).json()
    assert [row["id"] for row in (*first["jobs"], *second["jobs"])] == ids[2::-1]
    assert second["next"] is None


def test_purged_is_gone(client: httpx.Client, strict: Ledger, take_messages: Callable[[], None]) -> None:
    batch_id, ids = submit_batch(client, 3)
    other = submit(client)
    take_messages()
    for job_id in (*ids, other):
        kill(strict, job_id)

    assert client.delete(f"/v1/dead-letters/{ids[0]}").json() == {"purged": 1}
    assert refused(client.get(f"/v1/jobs/{ids[0]}")) == (404, "job_not_found")
    assert client.delete("/v1/dead-letters", params={"batch_id": batch_id}).json() == {"purged": 2}
    assert client.get("/v1/dead-letters", params={"batch_id": batch_id}).json()["jobs"] == []
    assert job(client, other)["status"] == "dead"
    assert client.delete("/v1/dead-letters").json()["purged"] >= 1
    assert client.get("/v1/dead-letters").json()["jobs"] == []


def test_only_the_dead_are_purged(client: httpx.Client) -> None:
    job_id = submit(client)
    assert refused(client.delete(f"/v1/dead-letters/{job_id}")) == (404, "job_not_found")
    assert job(client, job_id)["status"] == "queued"


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/dead-letters"), ("POST", "/v1/dead-letters/replay")])
def test_a_typing_mistake_does_not_mean_all(client: httpx.Client, strict: Ledger, method: str, path: str) -> None:
    job_id = submit(client)
    kill(strict, job_id)
    answer = client.request(method, path, params={"batch": NOBODY})
    assert refused(answer) == (422, "invalid_request")
    assert job(client, job_id)["status"] == "dead"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", f"/v1/jobs/{NOBODY}/cancel", "job_not_found"),
        ("POST", f"/v1/jobs/{NOBODY}/replay", "job_not_found"),
        ("POST", f"/v1/batches/{NOBODY}/cancel", "batch_not_found"),
        ("POST", f"/v1/batches/{NOBODY}/replay", "batch_not_found"),
        ("DELETE", f"/v1/dead-letters/{NOBODY}", "job_not_found"),
        ("DELETE", f"/v1/dead-letters?batch_id={NOBODY}", "batch_not_found"),
    ],
)
def test_nothing_is_done_to_what_is_not_there(client: httpx.Client, method: str, path: str, code: str) -> None:
    assert refused(client.request(method, path)) == (404, code)


@pytest.mark.parametrize("path", ["/v1/jobs/x/cancel", "/v1/batches/x/replay"])
def test_without_a_body_an_id_that_is_none_is_still_named(client: httpx.Client, path: str) -> None:
    assert refused(client.post(path)) == (422, "invalid_request")
