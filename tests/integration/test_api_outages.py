"""The API while Redis or S3 is gone, frozen or back again: it answers, quickly, in form, and mends itself."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from config.settings import S3Settings
from tests.api_process import running_api
from tests.ports import choose_port
from tests.servers import require_server, running, wait_until
from warmline.jobs import keys
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
        httpx.Client(base_url=api.url, timeout=60, trust_env=False) as made,
    ):
        yield made


@contextmanager
def connection(server: ValkeyServer) -> Iterator[Redis]:
    """A client of one's own."""
    with Redis.from_url(server.url(), decode_responses=True) as made:
        yield made


def staged(server: Redis) -> list[str]:
    """The parts of batches that were never opened."""
    calls = [str(key) for key in server.scan_iter(f"{keys.CALLS}*", count=1000)]
    return [key for key in calls if not server.exists(keys.batch(key.removeprefix(keys.CALLS)))]


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
        ("POST", f"{job}/cancel", None),
        ("POST", f"{job}/replay", None),
        ("GET", "/v1/batches", None),
        ("GET", "/v1/dead-letters", None),
        ("DELETE", "/v1/dead-letters", None),
        ("GET", "/ready", None),
    ):
        with within(15.0):
            assert_unavailable(client.request(method, path, json=body))
    with within(15.0):
        health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert (health.json()["redis"], health.json()["model_loaded"]) == ("unavailable", False)
    assert client.get("/live").status_code == 200
    # and no password is in what it says
    assert redis.password not in client.get(job).text

    # When Redis is back, then so is the API, and the job that was accepted
    with start(redis):
        wait_until(lambda: client.get("/v1/jobs").status_code == 200, "the API finds Redis again")
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
            # Then the process still shows that it is alive, while they wait
            for _ in range(5):
                assert client.get("/live").status_code == 200
            assert len(answers) < 45
            # And every request is answered
            for thread in threads:
                thread.join(60)
            assert len(answers) == 45
            for answer in answers:
                assert_unavailable(answer)
                assert answer.elapsed.total_seconds() < 25
        finally:
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: client.get("/v1/jobs").status_code == 200, "the API finds Redis again")


def test_a_redis_without_memory_takes_nothing_and_everything_once_it_has_some(
    redis: ValkeyServer, client: httpx.Client
) -> None:
    with start(redis), connection(redis) as server:
        job = client.post("/v1/jobs", json=JOB).json()["links"]["self"]
        before = client.get("/v1/batches").json()
        # Given a Redis whose memory is used up
        server.config_set("maxmemory", "1mb")
        # Then nothing is accepted, neither whole nor half, and what there is can be read
        for path, body in (("/v1/jobs", JOB), ("/v1/batches", BATCH)):
            with within(15.0):
                assert_unavailable(client.post(path, json=body))
        assert client.get(job).json()["status"] == "queued"
        assert client.get("/v1/batches").json() == before
        assert staged(server) == []
        # When it has memory again
        server.config_set("maxmemory", "0")
        # Then all is well again
        assert client.post("/v1/batches", json=BATCH).status_code == 202
        assert client.post(f"{job}/cancel").json()["status"] == "cancelled"


def test_a_redis_that_loads_its_data_is_503_until_it_has_loaded_it(
    redis: ValkeyServer, client: httpx.Client
) -> None:
    # Given a Redis that takes some seconds to load what it holds
    with start(redis), connection(redis) as server:
        job = client.post("/v1/jobs", json=JOB).json()["links"]["self"]
        with server.pipeline(transaction=False) as pipe:
            for number in range(25_000):
                pipe.set(f"ballast:{number}", "x")
            pipe.execute()

    def loads() -> bool:
        with connection(redis) as server:
            try:
                return bool(server.ping())
            except BusyLoadingError:
                return True
            except RedisError:
                return False

    # It listens to its clients after every 1,024 commands.
    slowly = [*redis.command, "--key-load-delay", "100"]  # microseconds
    with running(slowly, redis.directory / "log", loads):
        # Then it is said to be unavailable, quickly
        with within(15.0):
            assert_unavailable(client.get(job))
        with within(15.0):
            assert_unavailable(client.post("/v1/jobs", json=JOB))
        # and when it is done, the job is there
        wait_until(lambda: client.get(job).status_code == 200, "Redis has loaded its data")
        assert client.post("/v1/jobs", json=JOB).status_code == 202


def test_a_redis_that_is_killed_in_the_middle_of_a_batch_has_nothing_of_it(
    redis: ValkeyServer, client: httpx.Client
) -> None:
    batch = {"bucket": "calls", "keys": [f"{number}.wav" for number in range(50_000)]}
    with running(redis.command, redis.directory / "log", redis.answers) as process, connection(redis) as server:
        before = client.get("/v1/batches").json()
        left = staged(server)
        # When it is killed while it takes a batch
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.post, "/v1/batches", json=batch)
            wait_until(lambda: staged(server) != left, "a part of it is there", interval_seconds=0.001)
            process.kill()
            with within(25.0):
                assert_unavailable(asked.result(60))
    with start(redis), connection(redis) as server:
        # Then no part of it is to be seen when it is back, and what it holds of it will go
        wait_until(lambda: client.get("/v1/jobs").status_code == 200, "the API finds Redis again")
        assert client.get("/v1/batches").json() == before
        assert all(server.ttl(key) > 0 for key in staged(server))
        # and submitted again it is there once, whole
        again = client.post("/v1/batches", json=batch)
        assert (again.status_code, again.json()["total"]) == (202, 50_000)
        (made,) = (row for row in client.get("/v1/batches").json()["batches"] if row not in before["batches"])
        assert (made["id"], made["total"], made["queued"]) == (again.json()["id"], 50_000, 50_000)


def test_it_ends_in_time_while_redis_hangs(redis: ValkeyServer, s3_settings: S3Settings, tmp_path: Path) -> None:
    with (
        running(redis.command, redis.directory / "log", redis.answers) as process,
        running_api(tmp_path, redis.url(), s3_settings) as api,
    ):
        httpx.get(f"{api.url}/v1/jobs", trust_env=False, timeout=60).raise_for_status()
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.2)
            api.process.terminate()
            with within(9.0):  # less than uvicorn would wait for what hangs
                api.process.wait(60)
        finally:
            process.send_signal(signal.SIGCONT)


def test_redis_with_another_password_is_503_and_the_log_says_why(
    redis: ValkeyServer, s3_settings: S3Settings, tmp_path: Path
) -> None:
    url = redis.url().replace(redis.password, "not-the-password")
    with start(redis), running_api(tmp_path, url, s3_settings) as api:
        answer = httpx.get(f"{api.url}/v1/jobs", trust_env=False, timeout=60)
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
            before = httpx.get(f"{api.url}/v1/batches", trust_env=False, timeout=60).json()
            with within(25.0):
                answer = httpx.post(
                    f"{api.url}/v1/batches", json={"bucket": "calls", "prefix": ""}, timeout=60, trust_env=False
                )
            if store == "gone":
                assert_unavailable(answer, "store_unavailable")
            else:
                assert (answer.status_code, answer.json()["code"]) == (502, "object_forbidden")
            # Nothing of it was accepted
            assert httpx.get(f"{api.url}/v1/batches", trust_env=False, timeout=60).json() == before


def test_a_client_that_goes_away_in_the_middle_of_its_body_leaves_the_api_well(
    redis: ValkeyServer, client: httpx.Client
) -> None:
    with start(redis):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as line:
            line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n")
            line.sendall(b"Content-Type: application/json\r\n\r\n{")
        assert client.post("/v1/jobs", json=JOB).status_code == 202
