"""Processes of this version at a ledger that a newer one has changed: they say so, and leave it alone."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.api_process import running_api
from tests.servers import RedisServer, wait_until
from warmline.jobs import keys
from warmline.jobs.layout import LAYOUT, TOO_NEW_EXIT

TOO_NEW = json.dumps(
    {
        "layout": LAYOUT + 1,
        "oldest_reader": LAYOUT + 1,
        "written_by": "9.0.0",
        "written_at": "2030-01-01T00:00:00Z",
    }
)
PROCESSES = {
    "api": ("-m", "api.app"),
    "worker": ("-c", "import sys; from workers.app import main; sys.exit(main())"),
    "sqs": ("-m", "pollers.app"),
    "uploads": ("-m", "pollers.filer_log", "--filer", "127.0.0.1:1", "--home", "."),
}


@pytest.fixture
def newer_url(redis_server: RedisServer) -> str:
    url = redis_server.new_database_url()
    with closing(redis.Redis.from_url(url)) as client:
        client.set(keys.VERSION, TOO_NEW)
    return url


def environment(url: str, directory: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "WARMLINE_REDIS_URL": url,
        "WARMLINE_SQS_QUEUE_URL": "http://127.0.0.1:1/1/queue",
        "WARMLINE_METRICS_PORT": "0",
        "HOME": str(directory),
    }


def test_each_process_ends_with_a_sentence_and_a_code_of_its_own(newer_url: str, tmp_path: Path) -> None:
    started = {
        name: subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment(newer_url, tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, arguments in PROCESSES.items()
    }
    for name, process in started.items():
        said, _ = process.communicate(timeout=90)
        assert process.returncode == TOO_NEW_EXIT, f"{name}: {said}"
        assert "written by a newer Warmline (9.0.0, layout 2)" in said
        assert "Traceback" not in said
    with closing(redis.Redis.from_url(newer_url)) as client:
        assert client.keys() == [keys.VERSION.encode()]


def test_an_api_that_runs_meanwhile_answers_503_until_it_is_upgraded(
    redis_server: RedisServer, s3_settings: Any, tmp_path: Path
) -> None:
    url = redis_server.new_database_url()
    with (
        running_api(tmp_path, url, s3_settings) as api,
        closing(redis.Redis.from_url(url)) as client,
        httpx.Client(base_url=api.url, trust_env=False, timeout=60) as http,
    ):
        assert http.get("/v1/jobs").status_code == 200
        client.set(keys.VERSION, TOO_NEW)
        # A migration begins with the end of older connections
        client.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda: http.get("/v1/jobs").status_code == 503, "the API has connected again")
        problem = http.get("/v1/jobs").json()
        assert problem["code"] == "ledger_too_new"
        assert "upgrade Warmline on this machine first" in problem["detail"]
        assert http.get("/live").status_code == 200
