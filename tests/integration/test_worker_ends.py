"""How a worker ends: told to, or because its children cannot get warm; without a fork loop or a lost job."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from config.settings import CategoriesSettings, S3Settings, Settings
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess, kill
from tests.servers import is_over, wait_until
from warmline.jobs import keys
from warmline.jobs.queue import QUEUES, UNACKED, job_id_of_message
from warmline.jobs.records import JobStatus, Source
from warmline.jobs.submission import submit_job

SECONDS_TO_EXIT = 180.0  # with other tests beside


@pytest.fixture
def start(tmp_path: Path) -> Callable[[Settings], WorkerProcess]:
    return lambda settings: WorkerProcess(settings, tmp_path / "worker.log")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model directory that the test may break."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def forks_until_exit(worker: WorkerProcess) -> tuple[int, set[int]]:
    """The exit code, and every child that was there meanwhile."""
    seen: set[int] = set()
    deadline = time.monotonic() + SECONDS_TO_EXIT
    while worker.process.poll() is None:
        assert time.monotonic() < deadline, worker.log_text()
        seen |= worker.children()
        time.sleep(0.002)
    return worker.process.returncode, seen


def test_sigterm_finishes_the_running_job_and_takes_no_other(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str, call: Source
) -> None:
    raw: Any = redis.Redis.from_url(redis_url, decode_responses=True)
    with start(worker_settings(redis_url)) as worker, raw, raw.pubsub(ignore_subscribe_messages=True) as flower:
        # Given a worker in the middle of a job, and somebody who listens to its events
        flower.psubscribe(f"*/{raw.connection_pool.connection_kwargs['db']}.celeryev/task*")
        worker.wait_warm()
        running = submit_job(worker.ledger, call)
        held = worker.hold(running.job.id)
        assert raw.hlen(UNACKED) == 0  # the ledger knows of it
        # When it is told to end, and another job comes
        worker.signal(signal.SIGTERM)
        wait_until(lambda: not worker.ledger.workers()[0].warm, "nobody counts on it any more")
        waiting = submit_job(worker.ledger, call)
        # Then it waits for the job
        with pytest.raises(psutil.TimeoutExpired):
            psutil.Process(worker.process.pid).wait(1)
        held.resume()
        assert worker.wait_exit() == 0
        # And leaves the other one, and nothing else behind
        done = worker.ledger.get(running.job.id)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
        assert worker.ledger.get(waiting.job.id).status is JobStatus.QUEUED
        assert worker.ledger.workers() == ()
        assert list(worker.settings.worker.scratch_dir.iterdir()) == []
        wait_until(lambda: is_over(held), "its child has ended")
        messages = raw.lrange(f"{keys.BROKER}{QUEUES['live']}", 0, -1)
        assert [job_id_of_message(message) for message in messages] in ([], [waiting.job.id])
        # And has told how the job went
        told: list[dict[str, Any]] = []

        def hears_the_end() -> bool:
            message = flower.get_message(timeout=1)
            if message is not None:
                told.extend(json.loads(base64.b64decode(json.loads(message["data"])["body"])))
            return bool(told) and told[-1]["type"] == "task-succeeded"

        wait_until(hears_the_end, "its end is told")
        assert {event["uuid"] for event in told} == {running.job.id}


def test_a_worker_takes_nothing_while_its_model_loads_and_sigterm_does_not_wait_for_it(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str, call: Source
) -> None:
    with start(worker_settings(redis_url)) as worker:
        # Given a job that waits, and a worker whose child is still loading
        state = submit_job(worker.ledger, call)
        worker.hold_new_child()
        wait_until(lambda: bool(worker.ledger.workers()), "it says that it is there")
        time.sleep(1.0)
        # Then nobody is warm, the job waits, and Celery listens to nothing yet
        assert worker.ledger.workers()[0].warm == ()
        assert worker.ledger.get(state.job.id).status is JobStatus.QUEUED
        raw: Any = redis.Redis.from_url(redis_url)
        assert raw.pubsub_numpat() == 0
        raw.close()
        # When it is told to end, then it does so at once
        worker.signal(signal.SIGTERM)
        assert worker.wait_exit(SECONDS_TO_EXIT) == 0
        assert worker.ledger.workers() == ()


def test_a_broken_model_ends_the_worker_with_one_clear_line(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str, model: Path
) -> None:
    # Given a model file that was cut short
    weights = (model / "model.pt").read_bytes()
    (model / "model.pt").write_bytes(weights[: len(weights) // 2])
    with start(worker_settings(redis_url, model=model, children=2)) as worker:
        # Then the worker ends, says why, and has made no more children than it should have
        code, forked = forks_until_exit(worker)
        assert code == 1
        (line,) = worker.lines("worker_stopped")
        assert "model.pt is broken or cut short" in line["reason"]
        assert len(forked) <= 2
        assert "Traceback" not in worker.log_text()
        assert worker.ledger.workers() == ()


def test_a_child_that_dies_while_it_loads_ends_a_new_worker(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str
) -> None:
    with start(worker_settings(redis_url)) as worker:
        worker.hold_new_child().kill()
        assert worker.wait_exit(SECONDS_TO_EXIT) == 1
        (line,) = worker.lines("worker_stopped")
        assert "SIGKILL" in line["reason"]


def test_a_replacement_that_cannot_load_ends_the_worker_after_its_neighbours_job(
    start: Callable[[Settings], WorkerProcess],
    worker_settings: NewSettings,
    redis_url: str,
    call: Source,
    model: Path,
) -> None:
    settings = worker_settings(redis_url, model=model, children=2)
    with start(settings) as worker:
        # Given two warm children, of which one runs a job
        worker.wait_warm(children=2)
        running = submit_job(worker.ledger, call)
        held = worker.hold(running.job.id)
        first = worker.children()
        # When the model goes, and the idle child with it
        shutil.rmtree(model)
        shutil.rmtree(settings.emotion.models_dir / "converted")
        (idle,) = first - {held.pid}
        kill(idle)
        # Then one more child is made, and not a second one; the job is waited for
        wait_until(lambda: bool(worker.lines("worker_stopped")), "the worker gives up")
        replacements = worker.children() - first
        held.resume()
        code, forked = forks_until_exit(worker)
        assert code == 1
        assert len((replacements | forked) - first) <= 1
        assert len(worker.lines("worker_stopped")) == 1
        assert str(model) in worker.lines("worker_stopped")[0]["reason"]
        done = worker.ledger.get(running.job.id)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
        assert worker.ledger.workers() == ()


def test_replacements_that_are_killed_while_they_load_end_the_worker(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str
) -> None:
    with start(worker_settings(redis_url)) as worker:
        # Given a warm worker that has lost its child
        worker.wait_warm()
        known = worker.children()
        kill(next(iter(known)))
        # When what replaces it is killed before it is warm, and so on
        for _ in range(3):
            child = worker.hold_new_child(known)
            known.add(child.pid)
            child.kill()
        # Then the worker gives up
        code, forked = forks_until_exit(worker)
        assert code == 1
        assert forked <= known
        (line,) = worker.lines("worker_stopped")
        assert "3 children in a row" in line["reason"]


def test_a_replacement_that_has_no_memory_ends_the_worker(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str
) -> None:
    with start(worker_settings(redis_url)) as worker:
        # Given a warm worker whose processes may have no more memory than its parent has now
        worker.wait_warm()
        parent = psutil.Process(worker.process.pid)
        limit = parent.memory_info().vms + 2**20
        parent.rlimit(psutil.RLIMIT_AS, (limit, limit))
        # When its child dies
        known = worker.children()
        kill(next(iter(known)))
        # Then it ends soon, without a loop of forks
        code, forked = forks_until_exit(worker)
        assert code == 1
        assert len(forked - known) <= 3


def test_a_replacement_that_hangs_while_it_loads_ends_the_worker(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str
) -> None:
    settings = worker_settings(redis_url)
    settings = settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"replacement_timeout_seconds": 2.0})}
    )
    with start(settings) as worker:
        # Given a warm worker that has lost its child
        worker.wait_warm()
        known = worker.children()
        kill(next(iter(known)))
        # When what replaces it hangs
        hung = worker.hold_new_child(known)
        # Then the worker gives up after its time, and leaves nothing behind
        assert worker.wait_exit() == 1
        (line,) = worker.lines("worker_stopped")
        assert "is not warm after" in line["reason"]
        wait_until(lambda: is_over(hung), "it has ended")


def test_a_store_that_does_not_answer_keeps_no_worker_from_getting_warm(
    start: Callable[[Settings], WorkerProcess],
    worker_settings: NewSettings,
    redis_url: str,
    s3_settings: S3Settings,
    call: Source,
) -> None:
    # Given a store that does not answer
    nowhere = s3_settings.model_copy(update={"endpoint_url": "http://127.0.0.1:1"})
    with start(worker_settings(redis_url, s3=nowhere)) as worker:
        # Then the worker gets warm all the same
        worker.wait_warm()
        # When a job needs it, then that is to be tried again, for a reason with a code
        job_id = submit_job(worker.ledger, call).job.id
        wait_until(lambda: bool(worker.ledger.get(job_id).attempts), "an attempt is over")
        (attempt,) = worker.ledger.get(job_id).attempts
        assert attempt.outcome == "retried"
        assert attempt.failure is not None
        assert attempt.failure.code == "store_unavailable"


def test_bad_settings_end_it_with_one_line_that_names_the_variable(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = worker_settings(redis_url)
    settings = settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"scratch_dir": tmp_path / "file"})}
    )
    with start(settings) as worker:
        assert worker.wait_exit() == 2
        (line,) = worker.log_text().splitlines()
        assert line.startswith("warmline-worker: WARMLINE_WORKER_SCRATCH_DIR")


def test_categories_that_cannot_be_used_end_it_with_one_line(
    start: Callable[[Settings], WorkerProcess], worker_settings: NewSettings, redis_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "categories.toml"
    file.write_text('[[category]]\nname = "a"\n[[category.all]]\nkind = "emotoin"')
    settings = worker_settings(redis_url).model_copy(update={"categories": CategoriesSettings(file=str(file))})
    with start(settings) as worker:
        assert worker.wait_exit() == 2
        (line,) = worker.log_text().splitlines()
        assert line.startswith(
            f"warmline-worker: WARMLINE_CATEGORIES_FILE {file}: category 1 ('a'): all 1: 'emotoin'"
        )
