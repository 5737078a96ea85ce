"""The doctor finds what is wrong, says how to mend it, and calls nothing ill that is well."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from config.settings import (
    ApiSettings,
    EmotionSettings,
    RedisSettings,
    S3Settings,
    Settings,
    StackSettings,
    WorkerSettings,
)
from tests.ports import choose_port
from tests.servers import RedisServer, running_redis
from warmline.jobs import keys
from warmline.jobs.layout import LAYOUT
from warmline.local.checks import machine, services, software
from warmline.local.checks.findings import Check, Finding
from warmline.local.ports import is_free


def findings(check: Check, settings: Settings) -> dict[str, tuple[str, str, str]]:
    """By name: verdict, message, mending sentence. What is not well always has one."""
    found: list[Finding] = list(check(settings))
    assert all(bool(each.mend) == (each.verdict != "ok") for each in found)
    return {each.check: (each.verdict, each.message, each.mend) for each in found}


def test_a_redis_that_is_safe_is_well(redis_server: RedisServer) -> None:
    settings = Settings(redis=RedisSettings(url=SecretStr(redis_server.url())))
    found = findings(services.redis, settings)
    assert {name: verdict for name, (verdict, _, _) in found.items()} == {
        "redis": "ok",
        "ledger": "ok",
        "redis persistence": "ok",
        "redis eviction": "ok",
    }
    assert "Valkey 9" in found["redis"][1]


def test_a_ledger_says_who_wrote_it_and_one_that_is_too_new_is_a_failure(redis_url: str) -> None:
    settings = Settings(redis=RedisSettings(url=SecretStr(redis_url)))
    with closing(redis.Redis.from_url(redis_url)) as client:
        assert "not used yet" in findings(services.redis, settings)["ledger"][1]
        assert client.get(keys.VERSION) is None  # the doctor only looks
        said = {"layout": LAYOUT, "oldest_reader": 1, "written_by": "0.2.0", "written_at": "2026-11-23T09:00:00Z"}
        client.set(keys.VERSION, json.dumps(said))
        assert findings(services.redis, settings)["ledger"][:2] == (
            "ok",
            f"layout {LAYOUT}, written by Warmline 0.2.0 on 2026-11-23",
        )
        client.set(keys.VERSION, json.dumps(said | {"layout": 9, "oldest_reader": LAYOUT + 1}))
        assert findings(services.redis, settings)["ledger"][0] == "fail"


def test_a_redis_that_forgets_is_not(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        client = redis.Redis.from_url(server.url())
        settings = Settings(redis=RedisSettings(url=SecretStr(server.url())))
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        found = findings(services.redis, settings)
        assert (found["redis persistence"][0], found["redis eviction"][0]) == ("warn", "warn")
        client.config_set("maxmemory", "100mb")
        assert findings(services.redis, settings)["redis eviction"][0] == "fail"
        client.close()


def test_a_redis_that_is_named_and_not_there_is_a_failure() -> None:
    nowhere = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{choose_port()}/0"), timeout_seconds=1)
    assert findings(services.redis, Settings(redis=nowhere))["redis"][0] == "fail"


@pytest.mark.skipif(not is_free(6379), reason="this machine has a Redis of its own")
def test_no_redis_at_all_is_well_when_the_stack_brings_one() -> None:
    assert findings(services.redis, Settings())["redis"][0] == "ok"


def test_buckets_that_can_be_used_are_well(s3_settings: S3Settings) -> None:
    found = findings(services.s3, Settings(s3=s3_settings))
    assert {name: verdict for name, (verdict, _, _) in found.items()} == {
        "s3": "ok",
        "bucket calls": "ok",
        "bucket reports": "ok",
    }


def test_buckets_that_are_not_there_and_keys_that_are_wrong_are_not(s3_settings: S3Settings) -> None:
    other = s3_settings.model_copy(update={"source_buckets": ("no-such-bucket",), "results_bucket": "nor-this"})
    found = findings(services.s3, Settings(s3=other))
    assert found["bucket no-such-bucket"][0] == "fail"
    assert found["bucket nor-this"][0] == "fail"
    wrong = s3_settings.model_copy(update={"secret_key": SecretStr("wrong")})
    assert findings(services.s3, Settings(s3=wrong))["s3"][0] == "fail"


def test_no_s3_at_all_is_well_when_the_stack_brings_one() -> None:
    assert findings(services.s3, Settings(s3=S3Settings(endpoint_url="")))["s3"][0] == "ok"


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings(api=ApiSettings(port=port), stack=StackSettings(data_dir=tmp_path))
        verdict, message, _ = findings(services.ports, settings)["ports"]
    assert verdict == "warn"
    assert f"{port} (WARMLINE_API_PORT)" in message


def test_an_api_and_a_worker_that_are_not_there(redis_url: str) -> None:
    settings = Settings(api=ApiSettings(port=choose_port()), redis=RedisSettings(url=SecretStr(redis_url)))
    assert findings(services.api, settings)["api"][0] == "warn"
    assert findings(services.worker, settings)["worker"][0] == "warn"


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(
        worker=WorkerSettings(scratch_dir=tmp_path / "file" / "scratch"), stack=StackSettings(data_dir=tmp_path)
    )
    found = findings(machine.disk, settings)
    assert found["scratch directory"][0] == "fail"
    assert "WARMLINE_WORKER_SCRATCH_DIR" in found["scratch directory"][2]
    assert found["data directory"][0] == "ok"


def test_more_threads_than_cores() -> None:
    settings = Settings(emotion=EmotionSettings(threads=500), worker=WorkerSettings(children=2))
    assert findings(machine.device, settings)["threads"][0] == "warn"


def test_more_children_than_memory() -> None:
    settings = Settings(emotion=EmotionSettings(model="large"), worker=WorkerSettings(children=10_000))
    assert findings(machine.memory, settings)["memory"][0] == "fail"


def test_a_proxy_in_front_of_the_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    remote = Settings(s3=S3Settings(endpoint_url="http://minio.internal:9000"))
    assert findings(machine.proxies, remote)["proxy"][0] == "warn"
    monkeypatch.setenv("no_proxy", "minio.internal")
    assert findings(machine.proxies, remote)["proxy"][0] == "ok"
    assert (
        findings(machine.proxies, Settings(s3=S3Settings(endpoint_url="http://127.0.0.1:8333")))["proxy"][0]
        == "ok"
    )


def test_a_torchaudio_that_was_built_for_another_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a torchaudio that ends as the CUDA build does beside a CPU build of torch
    (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    verdict, message, mend = findings(software.torchaudio, Settings())["torchaudio"]
    assert verdict == "fail"
    assert "libcudart.so.12" in message
    assert "pip uninstall torchaudio" in mend


def test_the_servers_run() -> None:
    found = findings(software.servers, Settings())
    assert found["valkey"][:1] == ("ok",)
    assert found["seaweedfs"][:1] == ("ok",)
    assert findings(software.servers, Settings(stack=StackSettings(embed_redis=False, embed_s3=False))) == {}


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    settings = Settings(emotion=EmotionSettings(model=str(tmp_path / "none"), models_dir=tmp_path))
    assert findings(software.model, settings)["model"][0] == "fail"


@pytest.mark.parametrize("redis_runs", [True, False])
def test_the_command_ends_with_0_only_when_nothing_fails(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_runs: bool
) -> None:
    monkeypatch.setenv("WARMLINE_REDIS_URL", redis_url if redis_runs else f"redis://127.0.0.1:{choose_port()}")
    monkeypatch.setenv("WARMLINE_REDIS_TIMEOUT_SECONDS", "1")
    command = [sys.executable, "-m", "warmline.cli.main", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    verdicts = {each["check"]: each["verdict"] for each in json.loads(done.stdout)}
    assert {"python", "memory", "device", "model", "s3", "api"} <= verdicts.keys()
    assert [check for check, verdict in verdicts.items() if verdict == "fail"] == ([] if redis_runs else ["redis"])
    assert done.returncode == (0 if redis_runs else 1)
