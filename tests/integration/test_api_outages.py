"""The API while Redis or S3 is gone, frozen or back again: it answers, quickly, in form, and mends itself."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from config.settings import S3Settings
from tests.api_process import running_api
from tests.servers import require_server, running, wait_until
from warmline.local.ports import choose_port
from warmline.local.valkey import ValkeyServer, valkey_binary

JOB = {"source": {"bucket": "calls", "key": "a.wav"}}
BATCH = {"bucket": "calls", "keys": ["a.wav", "b.wav"]}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> ValkeyServer:
    """A Redis of these tests' own; each starts and stops it."""
    require_server(valkey_binary)
    directory = tmp_path_factory.mktemp("redis")
    server = ValkeyServer(directory=directory, port=choose_port(), password=secrets.token_urlsafe(16))
    server.write_configuration()
    return server


def start(server: ValkeyServer) -> ExitStack:
    """Runs the server until the stack is closed."""
    stack = ExitStack()
    stack.enter_context(running(server.command, server.directory / "log", server.answers))
    return stack


@pytest.fixture(scope="module")
def client(
    redis: ValkeyServer, s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """The client of an API on that Redis."""
    with (
        running_api(tmp_path_factory.mktemp("api"), redis.url(), s3_settings) as api,
        httpx.Client(base_url=api.url, timeout=30, trust_env=False) as made,
    ):
        yield made


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.perf_counter()
    yield
    assert time.perf_counter() - started < seconds


def assert_unavailable(answer: httpx.Response, code: str = "ledger_unavailable") -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0


def test_without_redis_every_answer_is_503_at_once_and_with_it_all_is_well_again(
    redis: ValkeyServer, client: httpx.Client
) -> None:
    # Given an API whose Redis answers, and a job in it
    with start(redis):
        job = client.post("/v1/jobs", json=JOB).json()["links"]["self"]

    # When Redis is gone, then everything that needs it says so, quickly
    for method, path, body in (
        ("POST", "/v1/jobs", JOB),
        ("POST", "/v1/batches", BATCH),
        ("GET", "/v1/jobs", None),
        ("GET", job, None),
        ("GET", f"{job}/report", None),
        ("GET", "/v1/batches", None),
        ("GET", "/ready", None),
    ):
        with within(5.0):
            assert_unavailable(client.request(method, path, json=body))
    with within(5.0):
        health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert (health.json()["redis"], health.json()["model_loaded"]) == ("unavailable", False)
    assert client.get("/live").status_code == 200
    # and no password is in what it says
    assert redis.password not in client.get(job).text

    # When Redis is back, then so is the API, and the job that was accepted
    with start(redis):
        wait_until(lambda: client.get("/v1/jobs").status_code == 200, "the API finds Redis again", seconds=5)
        assert client.get(job).json()["status"] == "queued"
        assert client.post("/v1/jobs", json=JOB).status_code == 202


def test_a_frozen_redis_is_503_within_seconds_and_never_a_hang(redis: ValkeyServer, client: httpx.Client) -> None:
    with running(redis.command, redis.directory / "log", redis.answers) as process:
        assert client.post("/v1/jobs", json=JOB).status_code == 202
        process.send_signal(signal.SIGSTOP)
        try:
            # Given more requests at once than the API has threads
            answers: list[httpx.Response] = []

            def ask(method: str) -> None:
                answers.append(client.request(method, "/v1/jobs", json=JOB if method == "POST" else None))

            threads = [threading.Thread(target=ask, args=[method]) for method in ["POST", *["GET"] * 44]]
            for thread in threads:
                thread.start()
            # Then the process still shows that it is alive
            for _ in range(5):
                with within(1.0):
                    assert client.get("/live").status_code == 200
            # And every request is answered
            for thread in threads:
                thread.join(25)
            assert len(answers) == 45
            for answer in answers:
                assert_unavailable(answer)
                assert answer.elapsed.total_seconds() < 15
        finally:
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: client.get("/v1/jobs").status_code == 200, "the API finds Redis again", seconds=10)


def test_redis_with_another_password_is_503_and_the_log_says_why(
    redis: ValkeyServer, s3_settings: S3Settings, tmp_path: Path
) -> None:
    url = redis.url().replace(redis.password, "not-the-password")
    with start(redis), running_api(tmp_path, url, s3_settings) as api:
        answer = httpx.get(f"{api.url}/v1/jobs", trust_env=False)
        assert_unavailable(answer)
        wait_until(lambda: "ledger_unavailable" in api.log.read_text(), "a line in the log")
        assert "not-the-password" not in api.log.read_text() + answer.text


@pytest.mark.parametrize("store", ["gone", "wrong credentials"])
def test_a_prefix_while_s3_cannot_be_listed(
    redis: ValkeyServer, s3_settings: S3Settings, tmp_path: Path, store: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused
        changes: dict[str, object] = (
            {"endpoint_url": f"http://127.0.0.1:{unused.getsockname()[1]}"}
            if store == "gone"
            else {"secret_key": SecretStr("wrong")}
        )
        with start(redis), running_api(tmp_path, redis.url(), s3_settings.model_copy(update=changes)) as api:
            with within(10.0):
                answer = httpx.post(
                    f"{api.url}/v1/batches", json={"bucket": "calls", "prefix": ""}, timeout=30, trust_env=False
                )
            if store == "gone":
                assert_unavailable(answer, "store_unavailable")
            else:
                assert (answer.status_code, answer.json()["code"]) == (502, "object_forbidden")
            # Nothing of it was accepted
            batches = httpx.get(f"{api.url}/v1/batches", trust_env=False).json()["batches"]
            assert batches == []


def test_a_client_that_goes_away_in_the_middle_of_its_body_leaves_the_api_well(
    redis: ValkeyServer, client: httpx.Client
) -> None:
    with start(redis):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as line:
            line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n")
            line.sendall(b"Content-Type: application/json\r\n\r\n{")
        assert client.post("/v1/jobs", json=JOB).status_code == 202
