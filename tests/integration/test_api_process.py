"""The API as a process: what it refuses to start with, what it loads, how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from config.settings import S3Settings
from tests.api_process import running_api, s3_variables

HEAVY = ("torch", "numpy", "onnxruntime", "av", "soundfile", "funasr", "transformers", "warmline.emotion")


def start_api(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Starts the API where it is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "api.app"],
        cwd=directory,
        env={**os.environ, "WARMLINE_REDIS_URL": "redis://127.0.0.1:1/0", **variables},  # and not this machine's
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "some.name"])  # noqa: S104 - to be refused
def test_without_a_key_it_does_not_serve_other_machines(tmp_path: Path, host: str) -> None:
    done = start_api(tmp_path, WARMLINE_API_HOST=host)
    assert done.returncode == 2
    assert done.stderr.startswith("warmline-api: WARMLINE_API_HOST is ")
    assert "WARMLINE_API_KEYS" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [("WARMLINE_API_PROT", "8000"), ("WARMLINE_API_PORT", "eight"), ("WARMLINE_API_PORT", "")],
)
def test_a_bad_setting_is_one_line_that_names_it(tmp_path: Path, variable: str, value: str) -> None:
    done = start_api(tmp_path, **{variable: value})
    assert done.returncode == 2
    assert variable in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_ends_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start_api(tmp_path, WARMLINE_API_PORT=str(taken.getsockname()[1]))
    assert done.returncode != 0
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_a_key_it_may_bind_anywhere(tmp_path: Path, redis_url: str, s3_settings: S3Settings) -> None:
    with running_api(
        tmp_path,
        redis_url,
        s3_settings,
        WARMLINE_API_HOST="0.0.0.0",  # noqa: S104 - closed by the key, and gone in a moment
        WARMLINE_API_KEYS="a-key",
    ) as api:
        assert httpx.get(f"{api.url}/v1/jobs", trust_env=False, timeout=60).status_code == 401


def test_it_never_loads_what_only_workers_need(tmp_path: Path, redis_url: str, s3_settings: S3Settings) -> None:
    # Given an API in a fresh interpreter, when it has served a job, a batch by prefix and a missing report
    script = """
import json, sys, threading, time
import httpx, uvicorn
from api.app import create_app
from config.settings import load_settings
server = uvicorn.Server(uvicorn.Config(create_app(load_settings()), port=0, log_config=None))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
    job = client.post("/v1/jobs", json={"source": {"bucket": "calls", "key": "a.wav"}})
    statuses = [
        job.status_code,
        client.post("/v1/batches", json={"bucket": "calls", "prefix": "nothing here"}).status_code,
        client.get(job.json()["links"]["report"]).status_code,
        client.get("/health").status_code,
        client.get("/openapi.json").status_code,
    ]
server.should_exit = True
thread.join()
print(json.dumps({"statuses": statuses, "modules": sorted(sys.modules)}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "WARMLINE_REDIS_URL": redis_url, **s3_variables(s3_settings)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    # Then it did so without them
    assert found["statuses"] == [202, 404, 409, 503, 200]
    assert sorted(set(HEAVY) & set(found["modules"])) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_and_without_a_traceback(
    tmp_path: Path, redis_url: str, s3_settings: S3Settings, number: signal.Signals
) -> None:
    with running_api(tmp_path, redis_url, s3_settings) as api:
        with httpx.Client(
            base_url=api.url, trust_env=False, timeout=60
        ) as client:  # an idle connection does not hold it
            client.get("/v1/jobs")
            started = time.perf_counter()
            api.process.send_signal(number)
            api.process.wait(60)
        assert time.perf_counter() - started < 9.0  # less than uvicorn would wait for a connection
        assert "Traceback" not in api.log.read_text()


def test_a_request_in_the_making_is_answered_before_it_stops(
    tmp_path: Path, redis_url: str, s3_settings: S3Settings
) -> None:
    # Given a request whose body is still on its way
    with running_api(tmp_path, redis_url, s3_settings) as api:
        answers: list[int] = []
        half, rest = b'{"source": {"bucket": "calls",', b' "key": "a.wav"}}'
        begun = threading.Event()

        def body() -> object:
            yield half
            begun.set()
            time.sleep(0.5)
            yield rest

        def ask() -> None:
            answer = httpx.post(
                f"{api.url}/v1/jobs",
                content=body(),
                headers={"content-type": "application/json"},
                trust_env=False,
                timeout=60,
            )
            answers.append(answer.status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        begun.wait(60)
        # When it is told to stop
        time.sleep(0.1)
        api.process.send_signal(signal.SIGTERM)
        thread.join(60)
        # Then the request is served first
        assert answers == [202]
        api.process.wait(60)
