"""What Prometheus and an autoscaler read from the API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from config.settings import S3Settings
from tests.api_process import running_api
from tests.contract.api.conftest import KEYS, METRICS_TOKEN, TOKENS
from tests.servers import wait_until
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import ChildState, WorkerState


def samples_of(answer: httpx.Response) -> Mapping[str, float]:
    """name, then label=value in order -> value."""
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.raise_for_status().text)
        for sample in family.samples
    }


def fresh(client: httpx.Client, name: str, value: float) -> Mapping[str, float]:
    """The metrics, once this one has that value: the fleet is looked at once a second."""
    wait_until(lambda: samples_of(client.get("/metrics")).get(name) == value, f"{name} is {value}")
    return samples_of(client.get("/metrics"))


@pytest.fixture
def worker(ledger: Ledger) -> Iterator[WorkerState]:
    """A worker with one warm child of two."""
    now = datetime.now(UTC)
    child = ChildState(
        pid=2, model="mini", mini=True, engine="torch", device="cpu", precision="fp32",
        threads=1, load_seconds=0.5, warm_since=now,
    )  # fmt: skip
    state = WorkerState(
        name="worker-1@host", host="host", pid=1, lanes=("live", "bulk"), children=2, warm=(child,), seen_at=now
    )
    ledger.beat(state, ttl_seconds=60)
    yield state
    ledger.leave(state.name)


def test_what_waits_is_told_to_prometheus_and_to_autoscaling(client: httpx.Client, worker: WorkerState) -> None:
    # Given what there was
    before = samples_of(client.get("/metrics"))
    work = client.get("/v1/backlog").json()["work"]
    # When a batch of three waits in a lane that nobody takes from
    answer = client.post(
        "/v1/batches", json={"bucket": "calls", "keys": ["a.wav", "b.wav", "c.wav"], "lane": "live"}
    )
    assert answer.status_code == 202
    # Then both are told, in the same words
    after = fresh(client, "warmline_queue_jobs lane=live", before["warmline_queue_jobs lane=live"] + 3)
    assert after["warmline_queue_oldest_seconds lane=live"] >= 0
    assert after["warmline_worker_children state=planned"] == 2
    assert after["warmline_worker_children state=warm"] == 1
    assert after["warmline_redis_up"] == 1
    assert after["warmline_redis_memory_bytes"] > 100_000
    backlog = client.get("/v1/backlog").json()
    assert backlog["work"] == work + 3
    assert (backlog["workers"], backlog["children"], backlog["warm_children"]) == (1, 2, 1)
    # And when they are cancelled, that is counted
    cancelled = after["warmline_jobs_ended_total status=cancelled"]
    client.post(f"/v1/batches/{answer.json()['id']}/cancel")
    fresh(client, "warmline_jobs_ended_total status=cancelled", cancelled + 3)
    assert client.get("/v1/backlog").json()["work"] == work


def test_requests_are_counted_by_route_and_not_by_address(client: httpx.Client) -> None:
    one = "warmline_http_requests_total method=GET route=/v1/jobs/{job_id} status=404"
    lost = "warmline_http_requests_total method=GET route=other status=404"
    before = samples_of(client.get("/metrics"))
    job_id = "0123456789abcdef0123456789abcdef"
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}", "/no/such/place"):
        client.get(path)
    answer = client.get("/metrics")
    after = samples_of(answer)
    assert after[one] == before.get(one, 0) + 2
    assert after[lost] == before.get(lost, 0) + 1
    assert after["warmline_http_request_seconds_count route=/v1/jobs/{job_id}"] >= 2
    assert job_id not in answer.text
    assert "/no/such/place" not in answer.text


def test_the_store_s_answers_are_counted(client: httpx.Client) -> None:
    before = samples_of(client.get("/metrics"))
    client.post("/v1/batches", json={"bucket": "no-such-bucket", "prefix": "a/"})
    name = "warmline_s3_requests_total operation=ListObjectsV2 outcome=not_found"
    assert samples_of(client.get("/metrics"))[name] == before.get(name, 0) + 1


def test_a_key_or_the_metrics_token_opens_the_metrics_and_the_token_nothing_else(stranger: httpx.Client) -> None:
    def status(path: str, secret: str | None) -> int:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return stranger.get(path, headers=headers).status_code

    assert [status("/metrics", secret) for secret in (*KEYS, METRICS_TOKEN)] == [200, 200, 200]
    assert [status("/metrics", secret) for secret in (None, TOKENS[0], "another")] == [401, 401, 401]
    assert [status("/v1/backlog", secret) for secret in (KEYS[0], METRICS_TOKEN, None)] == [200, 401, 401]


def test_without_redis_it_says_so_and_nothing_of_the_fleet(tmp_path: Path) -> None:
    # Given an API whose Redis is not there
    with running_api(tmp_path, "redis://127.0.0.1:1/0", S3Settings(endpoint_url="http://127.0.0.1:1")) as alone:
        answer = httpx.get(f"{alone.url}/metrics", trust_env=False, timeout=60)
    # Then an empty queue is not what it tells
    samples = samples_of(answer)
    assert samples["warmline_redis_up"] == 0
    assert not [
        name for name in samples if name.startswith(("warmline_queue", "warmline_workers", "warmline_dead"))
    ]
