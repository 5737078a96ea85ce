"""Workers that are broken on purpose, each in its way, and what probes, metrics and lists say of it meanwhile.

Two workers with quick hearts, and an API: what takes a minute in service takes a few seconds here.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from config.settings import S3Settings, Settings, process_environment
from tests.api_process import running_api
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess, kill
from tests.servers import wait_until
from warmline.jobs.queue import QUEUES, RETRY_QUEUE, make_celery
from warmline.jobs.records import Failure, Job, JobState, JobStatus, Source
from warmline.jobs.submission import submit_job

BEAT_SECONDS = 0.5  # missing after three, stuck after twelve
STALLED_SECONDS = 2.0
REPORTED_SECONDS = 90.0  # on a busy machine; alone it is six at most


def with_quick_heart(settings: Settings) -> Settings:
    worker = settings.worker.model_copy(
        update={"heartbeat_seconds": BEAT_SECONDS, "stalled_seconds": STALLED_SECONDS}
    )
    return settings.model_copy(update={"worker": worker})


class Watcher:
    """Whoever asks: a supervisor, Prometheus, people."""

    def __init__(self, api_url: str) -> None:
        self._client = httpx.Client(base_url=api_url, trust_env=False, timeout=60)

    def close(self) -> None:
        self._client.close()

    def health(self) -> dict[str, Any]:
        answer = self._client.get("/health")
        return {**answer.json(), "code": answer.status_code}

    def wait(self, what: str, *, status: str, **conditions: int) -> dict[str, Any]:
        """/health, once it says so."""

        def says_so() -> bool:
            found = self.health()
            seen.update(found)
            return bool(found["status"] == status and conditions.items() <= found["conditions"].items())

        seen: dict[str, Any] = {}
        wait_until(says_so, f"{what}: {status} {conditions}, not {self.health()}", seconds=REPORTED_SECONDS)
        return seen

    def reason(self) -> str:
        """What the list says of the only worker that is not well."""
        (worker,) = [each for each in self._client.get("/v1/workers").json()["workers"] if each["reason"]]
        return str(worker["reason"])

    def counted(self, condition: str) -> bool:
        """Whether Prometheus sees a worker in this condition."""
        return f'warmline_workers{{condition="{condition}"}} 1.0' in self._client.get("/metrics").text

    def is_ready(self) -> bool:
        return self._client.get("/ready").is_success


def warm_children(worker: WorkerProcess) -> list[int]:
    """Their pids."""
    return [child.pid for state in worker.ledger.workers() for child in state.warm]


def probe(worker: WorkerProcess, path: str) -> int:
    """What the worker's own page answers; 0 when it does not."""
    try:
        return httpx.get(
            f"http://127.0.0.1:{worker.settings.metrics.port}{path}", trust_env=False, timeout=1
        ).status_code
    except httpx.TransportError:
        return 0


def container_check(worker: WorkerProcess, *arguments: str) -> int:
    """The exit code of a container's health check."""
    command = [sys.executable, "-m", "workers.alive", *arguments]
    return subprocess.run(
        command, env=process_environment(worker.settings), check=False, capture_output=True, timeout=60
    ).returncode


@pytest.fixture(scope="module")
def settings(module_redis_url: str, worker_settings: NewSettings) -> Settings:
    return with_quick_heart(worker_settings(module_redis_url))


@pytest.fixture(scope="module")
def worker(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A warm worker of one child, whom a debugger's signal can stop where it is."""
    debugging = {"CELERY_RDBSIG": "1", "PYTHONUNBUFFERED": "1"}
    os.environ.update(debugging)
    try:
        with WorkerProcess(settings, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
            worker.wait_warm()
            yield worker
    finally:
        for name in debugging:
            del os.environ[name]


@pytest.fixture(scope="module")
def watcher(
    module_redis_url: str, s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watcher]:
    variables = {"WARMLINE_WORKER_STALLED_SECONDS": str(STALLED_SECONDS)}
    with (
        running_api(tmp_path_factory.mktemp("api"), module_redis_url, s3_settings, **variables) as api,
        closing(Watcher(api.url)) as watcher,
    ):
        yield watcher


def test_a_worker_that_loads_and_is_killed(settings: Settings, watcher: Watcher, tmp_path: Path) -> None:
    with WorkerProcess(settings, tmp_path / "first.log") as first:
        held = first.hold_new_child()
        watcher.wait("it loads", status="unhealthy", loading=1)
        wait_until(lambda: probe(first, "/live") == 200, "it answers", seconds=REPORTED_SECONDS)
        assert probe(first, "/ready") == 503
        first.signal(signal.SIGKILL)
        held.kill()  # it cannot see that its parent is gone
        watcher.wait("it is dead", status="unhealthy", loading=0, missing=1)


def test_a_worker_that_is_well_is_ok(worker: WorkerProcess, watcher: Watcher) -> None:
    # It has taken the place of the one before it, which is missing no more
    found = watcher.wait("it is warm", status="healthy", ok=1, missing=0)
    assert (found["code"], found["reasons"]) == (200, [])
    assert (probe(worker, "/live"), probe(worker, "/ready")) == (200, 200)
    assert (container_check(worker), container_check(worker, "--ready")) == (0, 0)
    assert watcher.counted("ok")
    # However long it has had nothing to do
    time.sleep(STALLED_SECONDS)
    watcher.wait("it is warm still", status="healthy", ok=1)


def test_a_parent_that_is_frozen_is_missing_until_it_goes_on(worker: WorkerProcess, watcher: Watcher) -> None:
    worker.signal(signal.SIGSTOP)
    try:
        found = watcher.wait("it fell silent", status="unhealthy", ok=0, missing=1)
        assert (found["code"], watcher.is_ready()) == (503, False)
        assert "No heartbeat" in watcher.reason()
        assert (probe(worker, "/live"), container_check(worker)) == (0, 1)
        wait_until(lambda: watcher.counted("missing"), "Prometheus sees it")
    finally:
        worker.signal(signal.SIGCONT)
    watcher.wait("it beats again", status="healthy", ok=1, missing=0)
    assert (watcher.is_ready(), probe(worker, "/live")) == (True, 200)


def test_a_worker_that_takes_nothing_is_stalled_until_it_does(
    worker: WorkerProcess, watcher: Watcher, call: Source
) -> None:
    # Given a worker that was told to consume no more, as anybody with access to the broker can tell it
    control = make_celery(worker.settings).control
    name = f"worker-{worker.process.pid}@{socket.gethostname()}"
    queues = [*QUEUES.values(), RETRY_QUEUE]
    for queue in queues:
        control.cancel_consumer(queue, destination=[name], reply=True, timeout=60)
    watcher.wait("nothing waits", status="healthy")
    try:
        # When a job comes, then somebody is told when it has waited for too long
        job_id = submit_job(worker.ledger, call).job.id
        found = watcher.wait("it takes nothing", status="degraded", ok=0, stalled=1)
        assert found["code"] == 200
        assert found["oldest_seconds"] >= STALLED_SECONDS
        assert "Jobs wait in live" in watcher.reason()
        wait_until(lambda: watcher.counted("stalled"), "Prometheus sees it")
        assert worker.ledger.get(job_id).status is JobStatus.QUEUED
    finally:
        for queue in queues:
            control.add_consumer(queue, destination=[name], reply=True, timeout=60)
    # And it is well as soon as it works
    worker.wait_finished(job_id)
    watcher.wait("it works again", status="healthy", ok=1, stalled=0)


def test_a_worker_that_leaves_jobs_to_be_tried_again_is_stalled_until_it_takes_them(
    worker: WorkerProcess, watcher: Watcher, call: Source
) -> None:
    # Given a worker that was told to take no such jobs any more, and one that waits for its second attempt
    control = make_celery(worker.settings).control
    name = f"worker-{worker.process.pid}@{socket.gethostname()}"
    control.cancel_consumer(RETRY_QUEUE, destination=[name], reply=True, timeout=60)
    job = Job(id=uuid4().hex, source=call, created_at=datetime.now(UTC), lane="bulk")
    try:
        first = worker.ledger.claim(job, "worker-1@elsewhere/1")
        assert isinstance(first, JobState)
        failure = Failure(code="store_unavailable", message="S3 did not answer.")
        assert worker.ledger.retry(job.id, first.attempt, failure, delay_seconds=0.0) is JobStatus.QUEUED
        # Then somebody is told, though no lane has a job that waits
        found = watcher.wait("it leaves it there", status="degraded", ok=0, stalled=1)
        assert found["oldest_seconds"] >= STALLED_SECONDS
        assert "Jobs wait in retry" in watcher.reason()
    finally:
        control.add_consumer(RETRY_QUEUE, destination=[name], reply=True, timeout=60)
    # And it is well as soon as it works
    worker.wait_finished(job.id)
    watcher.wait("it works again", status="healthy", ok=1, stalled=0)


def test_a_child_that_hangs_with_a_job_is_stalled(
    worker: WorkerProcess, watcher: Watcher, long_call: Source
) -> None:
    # Given a child that was stopped in the middle of a job
    job_id = submit_job(worker.ledger, long_call).job.id
    child = worker.hold(job_id)
    try:
        watcher.wait("it hangs", status="degraded", stalled=1)
        assert "1 of its children have not come on" in watcher.reason()
        assert probe(worker, "/live") == 200  # a restart would do no more than its time limit
    finally:
        worker.ledger.cancel(job_id)
        child.resume()
    assert worker.wait_finished(job_id).status is JobStatus.CANCELLED
    watcher.wait("it goes on", status="healthy", ok=1, stalled=0)


def test_a_child_that_was_stopped_before_it_got_a_job_is_stalled(
    worker: WorkerProcess, watcher: Watcher, call: Source
) -> None:
    (pid,) = worker.children()
    os.kill(pid, signal.SIGSTOP)
    try:
        job_id = submit_job(worker.ledger, call).job.id
        watcher.wait("it never begins", status="degraded", stalled=1)
    finally:
        os.kill(pid, signal.SIGCONT)
    worker.wait_finished(job_id)
    watcher.wait("it goes on", status="healthy", ok=1, stalled=0)


def test_an_event_loop_that_hangs_is_told_by_the_workers_own_page(worker: WorkerProcess, watcher: Watcher) -> None:
    # Given a parent that stands in a debugger, while its threads go on
    worker.signal(signal.SIGUSR2)
    # Then nobody counts on it, and its supervisor is told to start it again
    watcher.wait("it fell silent", status="unhealthy", missing=1, ok=0)
    wait_until(lambda: probe(worker, "/live") == 503, "it is not alive", seconds=REPORTED_SECONDS)
    assert container_check(worker) == 1
    # When the debugger lets it go on, then all is well
    (port,) = re.findall(r"telnet 127\.0\.0\.1 (\d+)", worker.log_text())
    with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as debugger:
        debugger.sendall(b"c\n")
        watcher.wait("it beats again", status="healthy", ok=1, missing=0)
    assert probe(worker, "/live") == 200


def test_children_that_die_again_and_again_are_told_of(worker: WorkerProcess, watcher: Watcher) -> None:
    # Given the end of the worker before it, which counts, and two children that die
    for _ in range(2):
        assert watcher.health()["conditions"]["looping"] == 0
        (pid,) = warm_children(worker)
        kill(pid)
        wait_until(lambda dead=pid: warm_children(worker) not in ([dead], []), "another is warm")  # type: ignore[misc]
    watcher.wait("three have died in all", status="degraded", looping=1)
    assert "3 of its processes died" in watcher.reason()
    wait_until(lambda: watcher.counted("looping"), "Prometheus sees it")
    wait_until(lambda: bool(warm_children(worker)), "it is warm")
    (state,) = worker.ledger.workers()
    assert (state.respawns, state.recent_deaths) == (2, 3)
    # It still works, so that starting it again would mend nothing
    assert (probe(worker, "/live"), probe(worker, "/ready")) == (200, 200)


def test_a_worker_that_is_told_to_end_drains_and_is_not_missed(
    worker: WorkerProcess, watcher: Watcher, call: Source
) -> None:
    # Given a worker that is told to end in the middle of a job
    held = worker.hold(submit_job(worker.ledger, call).job.id)
    worker.signal(signal.SIGTERM)
    watcher.wait("it drains", status="unhealthy", draining=1)
    assert (probe(worker, "/live"), probe(worker, "/ready")) == (200, 503)
    time.sleep(4 * BEAT_SECONDS)
    assert watcher.health()["conditions"]["draining"] == 1  # and not missing
    held.resume()
    assert worker.wait_exit() == 0
    # Then it has ended as it should, and nobody misses it
    found = watcher.wait("it is gone", status="unhealthy", draining=0, missing=0)
    assert found["workers"] == 0
