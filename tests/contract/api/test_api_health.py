"""What probes and monitoring see, and what the API says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.api_process import ApiProcess
from tests.servers import wait_until
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import ChildState, WorkerState


def worker(name: str, *models: str) -> WorkerState:
    """A worker with a warm child for each model."""
    now = datetime.now(UTC)
    return WorkerState(
        name=name,
        host="host",
        pid=1,
        lanes=("live", "bulk"),
        children=max(1, len(models)),
        warm=tuple(
            ChildState(
                pid=pid, model=model, mini=model == "mini", engine="torch", device="cpu", precision="fp32",
                threads=1, load_seconds=0.5, warm_since=now,
            )
            for pid, model in enumerate(models, 2)
        ),
        seen_at=now,
    )  # fmt: skip


@pytest.fixture
def workers(ledger: Ledger) -> Iterator[list[str]]:
    """Names of workers to take away after the test."""
    names: list[str] = []
    yield names
    for name in names:
        ledger.leave(name)


def beat(ledger: Ledger, workers: list[str], state: WorkerState) -> None:
    workers.append(state.name)
    ledger.beat(state, ttl_seconds=60)


def test_alive_asks_nobody(stranger: httpx.Client) -> None:
    answer = stranger.get("/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def wait_health(stranger: httpx.Client, **expected: object) -> dict[str, Any]:
    """/health, once it says so: its answer may be a second old."""
    seen: dict[str, Any] = {}

    def says_so() -> bool:
        answer = stranger.get("/health")
        seen.update(answer.json(), status_code=answer.status_code)
        return expected.items() <= seen.items()

    wait_until(says_so, f"/health says {expected}", interval_seconds=0.1)
    return seen


def test_without_a_worker_it_is_neither_ready_nor_healthy(stranger: httpx.Client) -> None:
    ready = stranger.get("/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert int(ready.headers["retry-after"]) > 0

    found = wait_health(stranger, workers=0, status_code=503)
    assert found.pop("version")
    (reason,) = found.pop("reasons")
    assert "No model is warm" in reason
    assert found.pop("waiting") >= 0  # other tests' jobs
    found.pop("oldest_seconds")
    assert found == {
        "status_code": 503, "status": "unhealthy", "model_loaded": False, "redis": "ok",
        "workers": 0, "warm_children": 0, "model": None, "mini": None,
        "conditions": {"ok": 0, "loading": 0, "draining": 0, "stalled": 0, "looping": 0, "missing": 0},
        "running": 0,
    }  # fmt: skip


def test_a_worker_that_is_still_loading_does_not_make_it_ready(
    stranger: httpx.Client, ledger: Ledger, workers: list[str]
) -> None:
    beat(ledger, workers, worker("loading@host"))
    assert stranger.get("/ready").status_code == 503
    found = wait_health(stranger, workers=1, status_code=503)
    assert (found["status"], found["model_loaded"], found["warm_children"]) == ("unhealthy", False, 0)
    assert found["conditions"]["loading"] == 1


def test_a_warm_worker_makes_it_ready_and_healthy(
    stranger: httpx.Client, ledger: Ledger, workers: list[str]
) -> None:
    beat(ledger, workers, worker("a@host", "mini", "mini"))
    beat(ledger, workers, worker("b@host"))

    assert (stranger.get("/ready").status_code, stranger.get("/ready").json()) == (200, {"status": "ready"})
    found = wait_health(stranger, workers=2, status_code=200)
    assert (found["status"], found["model_loaded"], found["warm_children"]) == ("healthy", True, 2)
    assert (found["model"], found["mini"], found["reasons"]) == ("mini", True, [])
    assert (found["conditions"]["ok"], found["conditions"]["loading"]) == (1, 1)

    ledger.leave("a@host")
    assert stranger.get("/ready").status_code == 503


def test_workers_with_different_models_are_all_named(
    stranger: httpx.Client, ledger: Ledger, workers: list[str]
) -> None:
    beat(ledger, workers, worker("a@host", "mini"))
    beat(ledger, workers, worker("b@host", "large"))
    assert wait_health(stranger, model="large, mini")["mini"] is True


@pytest.mark.parametrize("condition", ["stalled", "looping", "missing"])
def test_one_worker_that_is_not_well_degrades_it(
    stranger: httpx.Client, client: httpx.Client, ledger: Ledger, workers: list[str], condition: str
) -> None:
    # Given a worker that is well, and one that is not
    beat(ledger, workers, worker("well@host", "mini"))
    sick = worker("sick@secret-host", "mini").model_copy(
        update={"stalled": {"stuck": 1}, "looping": {"recent_deaths": 3}}.get(condition, {})
    )
    workers.append(sick.name)
    if condition == "missing":
        ledger.beat(sick, ttl_seconds=0.001, remembered_seconds=60)
    else:
        ledger.beat(sick, ttl_seconds=60)
    # Then work gets done, and somebody is told to look; a stranger learns no names
    found = wait_health(stranger, status="degraded", status_code=200)
    assert found["conditions"] | {"ok": 1, condition: 1} == found["conditions"]
    (reason,) = found["reasons"]
    assert condition in reason
    assert "sick" not in str(found)
    assert "secret-host" not in str(found)
    assert stranger.get("/ready").status_code == 200
    # And who has a key learns which, and what to look at
    listed = client.get("/v1/workers").json()
    assert listed["status"] == "degraded"
    told = {each["worker"]["name"]: each for each in listed["workers"]}
    assert told["well@host"]["condition"] == "ok"
    assert told["well@host"]["silent_seconds"] is None
    assert told[sick.name]["condition"] == condition
    assert told[sick.name]["reason"]
    assert (told[sick.name]["silent_seconds"] is not None) == (condition == "missing")
    # When it is gone, then all is well again
    ledger.leave(sick.name)
    wait_health(stranger, status="healthy", status_code=200)


def test_the_list_of_workers_needs_a_key(stranger: httpx.Client) -> None:
    assert stranger.get("/v1/workers").status_code == 401


# The description


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_description_has_every_address(openapi: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(openapi)} == {
        ("get", "/health"), ("get", "/live"), ("get", "/ready"),
        ("post", "/v1/jobs"), ("get", "/v1/jobs"),
        ("get", "/v1/jobs/{job_id}"), ("get", "/v1/jobs/{job_id}/report"),
        ("post", "/v1/jobs/{job_id}/cancel"), ("post", "/v1/jobs/{job_id}/replay"),
        ("post", "/v1/batches"), ("get", "/v1/batches"),
        ("get", "/v1/batches/{batch_id}"), ("get", "/v1/batches/{batch_id}/jobs"),
        ("post", "/v1/batches/{batch_id}/cancel"), ("post", "/v1/batches/{batch_id}/replay"),
        ("get", "/v1/dead-letters"), ("delete", "/v1/dead-letters"),
        ("post", "/v1/dead-letters/replay"), ("delete", "/v1/dead-letters/{job_id}"),
        ("post", "/v1/reconciliations"), ("get", "/v1/reconciliations/{run_id}"),
        ("post", "/v1/uploads"), ("post", "/v1/events/s3"),
        ("get", "/v1/webhooks"), ("post", "/v1/webhooks/test"), ("post", "/v1/webhooks/redeliver"),
        ("get", "/v1/webhooks/deliveries"), ("get", "/v1/webhooks/deliveries/{delivery_id}"),
        ("post", "/v1/webhooks/deliveries/{delivery_id}/redeliver"),
        ("post", "/v1/webhooks/endpoints/{endpoint_id}/enable"),
        ("get", "/v1/overview"),
        ("get", "/v1/schemas/report"), ("get", "/v1/batches/{batch_id}/aggregate"), ("get", "/v1/workers"),
        ("get", "/v1/backlog"), ("get", "/v1/overview"), ("get", "/metrics"),
        ("get", "/v1/jobs/{job_id}/timeline.svg"), ("get", "/v1/batches/{batch_id}/overview.svg"),
    }  # fmt: skip


def test_the_description_is_complete(openapi: dict[str, Any]) -> None:
    for method, path, operation in operations(openapi):
        if path == "/v1/schemas/report":  # open to all, and a schema itself
            assert list(operation["responses"]["200"]["content"]) == ["application/schema+json"]
            assert "security" not in operation
            continue
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        for status, response in operation["responses"].items():
            is_problem = status[0] in "45" and path != "/health"
            if path.endswith(".svg") and not is_problem:
                assert list(response.get("content", {})) == (["image/svg+xml"] if status == "200" else []), where
                continue
            if path == "/metrics" and status == "200":
                assert [each.partition(";")[0] for each in response["content"]] == ["text/plain"]
                continue
            media_type = "application/problem+json" if is_problem else "application/json"
            content = response["content"][media_type]
            assert list(response["content"]) == [media_type], where
            assert content["schema"]["$ref"].startswith("#/components/schemas/"), where
            if is_problem:
                assert content["schema"]["$ref"].endswith("/Problem"), where
                assert content["examples"], where
        assert ("security" in operation) == path.startswith(("/v1/", "/metrics")), where
    assert "HTTPValidationError" not in openapi["components"]["schemas"]


def test_every_reference_in_the_description_leads_somewhere(openapi: dict[str, Any]) -> None:
    text = json.dumps(openapi)
    used = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert used <= set(openapi["components"]["schemas"])


@pytest.mark.parametrize(
    ("path", "model"),
    [("/v1/jobs", "JobRequest"), ("/v1/batches", "BatchRequest"), ("/v1/uploads", "UploadRequest")],
)
def test_the_description_s_examples_are_accepted(
    client: httpx.Client, openapi: dict[str, Any], path: str, model: str
) -> None:
    examples = openapi["components"]["schemas"][model]["examples"]
    assert len(examples) >= 2
    for example in examples:
        if "prefix" not in example:  # nothing is there
            assert client.post(path, json=example).status_code == (201 if path == "/v1/uploads" else 202)


# The log


def logged(api: ApiProcess, request_id: str) -> list[dict[str, Any]]:
    """A request's lines in the log. Every line is JSON, uvicorn's too."""
    lines = [json.loads(line) for line in api.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line.get("request_id") == request_id]


def test_a_request_is_one_line_of_the_log_in_our_shape(client: httpx.Client, api: ApiProcess) -> None:
    client.get("/v1/jobs?limit=7", headers={"x-request-id": "find-me"})

    wait_until(lambda: bool(logged(api, "find-me")), "the line, which is written after the answer")
    (found,) = logged(api, "find-me")
    assert (found["action"], found["process"]) == ("http_request", "api")
    assert (found["method"], found["path"], found["status"]) == ("GET", "/v1/jobs", 200)
    assert found["milliseconds"] > 0


def test_a_probe_leaves_a_line_only_when_it_finds_a_fault(client: httpx.Client, api: ApiProcess) -> None:
    assert client.get("/live", headers={"x-request-id": "all-is-well"}).status_code == 200
    assert client.get("/ready", headers={"x-request-id": "nobody-is-warm"}).status_code == 503
    wait_until(lambda: bool(logged(api, "nobody-is-warm")), "the failing probe's line")
    assert logged(api, "all-is-well") == []
