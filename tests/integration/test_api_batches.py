"""Large batches and a full backlog: accepted whole or not at all, quickly, with nobody else kept waiting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from config.settings import S3Settings
from tests.api_process import ApiProcess, running_api
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from tests.servers import wait_until
from warmline.jobs import keys
from warmline.objects.store import ObjectStore

JSON = {"content-type": "application/json"}
SOURCE = {"bucket": "calls", "key": "a.wav"}
MANY = 100_000


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, module_redis_url: str, s3_settings: S3Settings
) -> Iterator[ApiProcess]:
    """An API with the usual limits."""
    with running_api(tmp_path_factory.mktemp("api"), module_redis_url, s3_settings) as running:
        httpx.post(
            f"{running.url}/v1/jobs", json={"source": SOURCE}, trust_env=False, timeout=60
        ).raise_for_status()
        yield running


@contextmanager
def probing(api: ApiProcess) -> Iterator[list[float]]:
    """Asks `/live` again and again while the block lasts; the list gets the seconds that each answer took."""
    seconds: list[float] = []
    over = threading.Event()

    def probe() -> None:
        with httpx.Client(base_url=api.url, trust_env=False, timeout=60) as client:
            while not over.wait(0.005):
                started = time.perf_counter()
                client.get("/live").raise_for_status()
                seconds.append(time.perf_counter() - started)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(probe)
        yield seconds
        over.set()
        asked.result(60)


def resident_bytes(api: ApiProcess) -> int:
    return int(Path(f"/proc/{api.process.pid}/statm").read_text().split()[1]) * 4096


def nothing_of(redis_url: str) -> bool:
    """Whether Redis holds no batch, nor a part of one."""
    with redis.Redis.from_url(redis_url) as connection:
        return not connection.keys(f"{keys.BATCH}*") and not connection.keys(f"{keys.CALLS}*")


def test_a_hundred_thousand_keys_are_accepted_while_probes_are_answered(api: ApiProcess) -> None:
    body = json.dumps({"bucket": "calls", "keys": [f"2026/05/call-{n:08d}.wav" for n in range(MANY)]})
    resident_before = resident_bytes(api)

    started = time.perf_counter()
    with probing(api) as probes:
        answer = httpx.post(f"{api.url}/v1/batches", content=body, headers=JSON, trust_env=False, timeout=60)
    seconds = time.perf_counter() - started

    assert (answer.status_code, answer.json()["total"]) == (202, MANY)
    assert resident_bytes(api) - resident_before < 64 * 1024**2
    assert len(probes) > 10
    assert max(probes) < seconds / 2, "the batch is read in one go"
    last = httpx.get(api.url + answer.json()["links"]["jobs"] + "?limit=1", trust_env=False, timeout=60).json()[
        "jobs"
    ][0]
    assert last["job"]["source"]["key"] == f"2026/05/call-{MANY - 1:08d}.wav"


def test_a_body_is_not_parsed_where_probes_are_answered(api: ApiProcess) -> None:
    # Given a body that takes most of a second to parse, and more to list its faults
    body = b'{"bucket": "calls", "keys": [' + b'"a",' * 3_500_000 + b'""]}'
    started = time.perf_counter()
    with probing(api) as probes:
        answer = httpx.post(f"{api.url}/v1/batches", content=body, headers=JSON, trust_env=False, timeout=60)
    seconds = time.perf_counter() - started
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert max(probes) < max(0.5, seconds / 2), (seconds, sorted(probes)[-5:])


def test_past_the_backlog_nothing_is_accepted_and_nothing_is_left(
    tmp_path: Path, redis_url: str, s3_settings: S3Settings
) -> None:
    with (
        running_api(tmp_path, redis_url, s3_settings, WARMLINE_JOBS_MAX_BACKLOG="10") as api,
        httpx.Client(base_url=api.url, trust_env=False, timeout=60) as client,
    ):
        # Given a batch that is larger than what may wait
        refused = client.post("/v1/batches", json={"bucket": "calls", "keys": [f"{n}" for n in range(11)]})
        # Then it is refused as a whole, and told when to come again
        assert (refused.status_code, refused.json()["code"]) == (429, "backlog_full")
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/v1/batches").json()["batches"] == []
        assert client.get("/v1/jobs").json()["jobs"] == []
        assert nothing_of(redis_url)

        # Given as many as may wait, and those that the feeder has sent
        assert client.post("/v1/batches", json={"bucket": "calls", "keys": ["a"] * 10}).status_code == 202
        with redis.Redis.from_url(redis_url) as connection:
            wait_until(lambda: connection.hget(keys.WAITING, "bulk") == b"6", "four are sent")
        assert client.post("/v1/batches", json={"bucket": "calls", "keys": ["a"] * 5}).status_code == 429
        batch = client.post("/v1/batches", json={"bucket": "calls", "keys": ["a"] * 4}).json()["links"]["self"]
        # Then a job alone is refused too
        job = client.post("/v1/jobs", json={"source": SOURCE})
        assert (job.status_code, job.json()["code"]) == (429, "backlog_full")
        assert "retry-after" in job.headers
        # and accepted once there is room again
        assert client.post(f"{batch}/cancel").json()["cancelled"] == 4
        assert client.post("/v1/jobs", json={"source": SOURCE}).status_code == 202


def test_an_api_that_is_killed_in_the_middle_of_a_batch_leaves_nothing_to_be_seen(
    tmp_path: Path, redis_url: str, s3_settings: S3Settings
) -> None:
    # Given an API that dies while it takes a batch
    body = json.dumps({"bucket": "calls", "keys": [f"2026/05/call-{n:08d}.wav" for n in range(MANY)]})
    with (
        running_api(tmp_path, redis_url, s3_settings) as api,
        redis.Redis.from_url(redis_url) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(
            httpx.post, f"{api.url}/v1/batches", content=body, headers=JSON, trust_env=False, timeout=60
        )
        wait_until(lambda: bool(connection.keys(f"{keys.CALLS}*")), "a part of it", interval_seconds=0.001)
        api.process.kill()
        assert isinstance(asked.exception(60), httpx.TransportError)
        # Then the next one knows of no batch and of no job, and what lies there will go
        assert all(int(connection.ttl(key)) > 0 for key in connection.keys(f"{keys.CALLS}*"))  # type: ignore[arg-type]
    with running_api(tmp_path, redis_url, s3_settings) as api, httpx.Client(trust_env=False, timeout=60) as client:
        assert client.get(f"{api.url}/v1/batches").json() == {"batches": []}
        assert client.get(f"{api.url}/v1/jobs").json()["jobs"] == []


def test_a_listing_that_breaks_off_in_the_middle_leaves_nothing(
    tmp_path: Path, redis_url: str, s3_settings: S3Settings, s3_prefix: str
) -> None:
    # Given a prefix with two pages of keys, behind a store that fails after the first
    store = ObjectStore(s3_settings)
    call = tmp_path / "x"
    call.write_bytes(b"x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put_call("calls", f"{s3_prefix}{n}", call), range(1001)))
    with (
        FaultyProxy(s3_settings.endpoint_url) as proxy,
        running_api(tmp_path, redis_url, s3_settings.model_copy(update={"endpoint_url": proxy.address})) as api,
        httpx.Client(base_url=api.url, trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        proxy.fail(Fault(mode=Mode.SLOW, bytes_per_second=500_000))
        asked = pool.submit(client.post, "/v1/batches", json={"bucket": "calls", "prefix": s3_prefix})
        wait_until(lambda: bool(proxy.answered), "the first page", interval_seconds=0.001)
        proxy.fail(Fault(mode=Mode.LOSE_REQUEST))
        # Then nothing of it is accepted
        answer = asked.result(60)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert proxy.failed > 0
        assert nothing_of(redis_url)
        # and once the store is back, all of it
        proxy.fail(None)
        answer = client.post("/v1/batches", json={"bucket": "calls", "prefix": s3_prefix})
        assert (answer.status_code, answer.json()["total"]) == (202, 1001)
