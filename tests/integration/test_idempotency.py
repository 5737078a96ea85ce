"""Requests that are sent twice while Redis or the API dies in between: done once, whole, and not lost."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from config.settings import S3Settings
from tests.api_process import running_api
from tests.ports import choose_port
from tests.servers import require_server, running, wait_until
from warmline.jobs import keys
from warmline.local.valkey import ValkeyServer, valkey_binary

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
MANY = 100_000


@pytest.fixture
def redis(tmp_path: Path) -> ValkeyServer:
    """A Redis of the test's own, to be killed."""
    require_server(valkey_binary)
    server = ValkeyServer(directory=tmp_path / "redis", port=choose_port(), password=secrets.token_urlsafe(16))
    server.write_configuration()
    return server


@contextmanager
def client_of(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        yield client


def submit(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, bool]:
    """Its id, and whether it was made before."""
    answer = client.post(path, json=body, headers=KEY)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"], answer.headers.get("idempotent-replayed") == "true"


def test_a_redis_that_is_killed_remembers_what_was_done(
    redis: ValkeyServer, tmp_path: Path, s3_settings: S3Settings
) -> None:
    job = {"source": {"bucket": "calls", "key": "a.wav"}}
    with running_api(tmp_path, redis.url(), s3_settings) as api, client_of(api.url) as client:
        # Given a job that was accepted before Redis is killed
        with running(redis.command, tmp_path / "redis.log", redis.answers) as server:
            job_id, _ = submit(client, "/v1/jobs", job)
            server.kill()
            server.wait()
        # When Redis is gone, then the same request is to be sent again later
        assert client.post("/v1/jobs", json=job, headers=KEY).status_code == 503
        # and when it is back, its answer is there
        with running(redis.command, tmp_path / "redis.log", redis.answers):
            wait_until(lambda: client.get("/v1/jobs").is_success, "the API finds Redis again")
            assert submit(client, "/v1/jobs", job) == (job_id, True)
            assert [found["id"] for found in client.get("/v1/jobs").json()["jobs"]] == [job_id]


def test_a_hundred_thousand_keys_that_are_sent_again_after_the_api_was_killed_are_one_batch(
    redis_url: str, tmp_path: Path, s3_settings: S3Settings
) -> None:
    body = {"bucket": "calls", "keys": [f"2026/05/call-{n:08d}.wav" for n in range(MANY)]}
    sent = json.dumps(body)
    with Redis.from_url(redis_url, decode_responses=True) as connection:
        # Given an API that dies while it writes such a batch down
        with running_api(tmp_path, redis_url, s3_settings) as api, ThreadPoolExecutor(1) as pool:
            asked = pool.submit(
                httpx.post,
                f"{api.url}/v1/batches",
                content=sent,
                headers=KEY | {"content-type": "application/json"},
                trust_env=False,
                timeout=120,
            )
            wait_until(lambda: bool(connection.keys(f"{keys.CALLS}*")), "a part of it", interval_seconds=0.001)
            api.process.kill()
            # Where this process was starved, the API was quicker, and has made it.
            answered = None if asked.exception(120) else asked.result().json()["id"]
        # When it is sent again, once the first request is given up
        for name in connection.keys(f"{keys.REQUEST}*"):
            if str(connection.get(name)).endswith(" 0"):
                connection.pexpire(name, 1)
                wait_until(lambda name=name: not connection.exists(name), "it is given up")  # type: ignore[misc]
        with running_api(tmp_path, redis_url, s3_settings) as api, client_of(api.url) as client:
            made, _ = submit(client, "/v1/batches", body)
            assert submit(client, "/v1/batches", body) == (made, True)
            (batch,) = client.get("/v1/batches").json()["batches"]
        # Then there is one batch, whole
        assert answered in {None, made}
        assert (batch["id"], batch["total"]) == (made, MANY)
        # and of the first one at most a part is left, which goes by itself
        assert connection.ttl(keys.calls(made)) == -1
        parts = set(connection.keys(f"{keys.CALLS}*")) - {keys.calls(made)}
        assert all(connection.ttl(part) > 0 for part in parts)
