"""What the price of the queue is measured with: the sums, and that each contender does its jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from benchmarks.queue_contenders import Figure, Warmline, measure, some_calls, working
from benchmarks.queue_desk import some_report
from benchmarks.queue_memory import Memory
from benchmarks.queue_price import PEER, Servers, contenders, ratios
from config.settings import S3Settings
from tests.servers import RedisServer
from warmline.local.valkey import ValkeyServer


def figure(jobs_per_second: float) -> Figure:
    return Figure(jobs_per_second=jobs_per_second, sender_ms=1, workers_ms=2, redis_ms=3)


def test_a_ratio_is_to_bare_celery_of_the_same_round() -> None:
    rounds = {PEER: [figure(400), figure(100)], "ours": [figure(360), figure(95)]}
    assert ratios(rounds) == {"ours": [0.9, 0.95]}
    assert ratios({"ours": [figure(1)]}) == {}


def test_memory_is_for_each_job() -> None:
    memory = Memory(how="in batches", jobs=1000, used_bytes=120_000, seconds=1.0)
    assert memory.bytes_each == 120
    assert "reached" in str(memory)
    assert "missed" in str(Memory(how="one by one", jobs=10, used_bytes=9_000, seconds=1.0))


def test_the_report_made_of_nothing_is_as_large_as_a_real_one() -> None:
    call = some_calls(1)[0]
    # Of the sample calls, the one of a channel has 5.8 kB
    assert 5000 < len(some_report("0" * 32, call.uri).model_dump_json()) < 7000


@pytest.mark.slow
def test_the_real_worker_does_its_jobs_at_an_idle_desk(redis_server: RedisServer, tmp_path: Path) -> None:
    # Given the server of the tests as the benchmark's
    server = ValkeyServer(directory=tmp_path, port=redis_server.port, password=redis_server.password)
    servers = Servers(redis=server, s3=None)
    contender, settings = contenders(servers, tmp_path)["warmline"]
    url = redis_server.new_database_url()
    settings = settings.model_copy(
        update={"redis": settings.redis.model_copy(update={"url": SecretStr(url)}), "s3": S3Settings()}
    )
    contender = Warmline(settings, contender.name)
    # When some jobs go through its worker, then it has done them, and it says who worked for how long
    with working(contender, settings, tmp_path / "worker.log") as workers:
        measured = measure(contender, 30, workers)
    assert measured.jobs_per_second > 1
    assert measured.processor_ms > measured.workers_ms > 0
