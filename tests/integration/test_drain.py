"""A worker that is told to end while it works: jobs are finished or handed back, and none is done twice."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from config.settings import S3Settings, Settings
from tests.integration.conftest import CALL, NewSettings
from tests.integration.worker_process import START_SECONDS, WorkerProcess
from tests.servers import wait_until
from warmline.jobs.records import JobState, JobStatus, Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.objects.store import ObjectStore

REPEATED = 120  # times the sample call's 24 s: it takes the tiny model more than a quarter of a minute


@pytest.fixture
def start(tmp_path: Path) -> Callable[[Settings, str], WorkerProcess]:
    return lambda settings, name: WorkerProcess(settings, tmp_path / f"{name}.log")


@pytest.fixture(scope="module")
def long_call(s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A call of 48 minutes."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    samples, rate = soundfile.read(CALL, dtype="int16")
    soundfile.write(path, np.tile(samples, (REPEATED, 1)), rate)
    return ObjectStore(s3_settings).put_call("calls", "workers/long.wav", path)


def with_grace(settings: Settings, seconds: float) -> Settings:
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"grace_seconds": seconds})})


def test_a_job_that_is_too_long_for_the_grace_period_is_handed_back(
    start: Callable[[Settings, str], WorkerProcess],
    worker_settings: NewSettings,
    redis_url: str,
    long_call: Source,
) -> None:
    with start(with_grace(worker_settings(redis_url), 0.3), "worker") as worker:
        # Given a worker in the middle of a long job
        worker.wait_warm()
        job_id = submit_job(worker.ledger, long_call).job.id
        worker.wait_running(job_id)
        wait_until(lambda: windows_done(worker.ledger.get(job_id)) > 0, "it is being scored")
        # When it is told to end
        worker.signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
        # Then the job waits for another worker, and nothing is held against it
        state = worker.ledger.get(job_id)
        assert state.status is JobStatus.QUEUED
        assert [attempt.outcome for attempt in state.attempts] == ["handed_back"]
        assert worker.lines("children_killed") == []


def test_sigquit_ends_it_at_once_and_leaves_nothing(
    start: Callable[[Settings, str], WorkerProcess],
    worker_settings: NewSettings,
    redis_url: str,
    long_call: Source,
) -> None:
    with start(worker_settings(redis_url), "worker") as worker:
        # Given a worker in the middle of a long job
        worker.wait_warm()
        job_id = submit_job(worker.ledger, long_call).job.id
        worker.wait_running(job_id)
        # When it is to end at once
        worker.signal(signal.SIGQUIT)
        worker.wait_exit()
        # Then the job waits for another worker already, and no heartbeat and no file is left
        state = worker.ledger.get(job_id)
        assert state.status is JobStatus.QUEUED
        assert [attempt.outcome for attempt in state.attempts] == ["lost"]
        assert worker.ledger.workers() == ()
        assert list(worker.settings.worker.scratch_dir.iterdir()) == []


def test_a_rolling_restart_under_load_loses_nothing_and_repeats_nothing(
    start: Callable[[Settings, str], WorkerProcess],
    worker_settings: NewSettings,
    redis_url: str,
    call: Source,
) -> None:
    settings = with_grace(worker_settings(redis_url, results="redis"), 20.0)
    with start(settings, "first") as first, start(settings, "second") as second:
        # Given two workers in the middle of many jobs
        second_is_warm = lambda: sorted(len(w.warm) for w in first.ledger.workers()) == [1, 1]  # noqa: E731
        wait_until(second_is_warm, "both are warm", seconds=START_SECONDS)
        batch = submit_batch(first.ledger, [call] * 20)
        wait_until(lambda: first.ledger.batch(batch.id).succeeded > 3, "they are at it")
        # When each is replaced in its turn
        first.signal(signal.SIGTERM)
        assert first.wait_exit() == 0
        with start(settings, "third") as third:
            wait_until(lambda: len(first.ledger.workers()) == 2, "the third is there", seconds=START_SECONDS)
            second.signal(signal.SIGTERM)
            assert second.wait_exit() == 0
            wait_until(lambda: first.ledger.batch(batch.id).finished, "all have ended", seconds=90)
            # Then every job was done once, and none was started again but those that were handed back
            states = third.ledger.list(batch_id=batch.id, limit=100)
            assert Counter(state.status for state in states) == {JobStatus.SUCCEEDED: 20}
            outcomes = Counter(attempt.outcome for state in states for attempt in state.attempts)
            assert outcomes["succeeded"] == 20
            assert set(outcomes) <= {"succeeded", "handed_back"}

            def done() -> list[str]:
                return [line["job_id"] for each in (first, second, third) for line in each.lines("job_finished")]

            wait_until(lambda: len(done()) >= 20, "the last one is in a log, too")  # after the ledger has it
            assert len(done()) == len(set(done())) == 20


def windows_done(state: JobState) -> int:
    return state.progress.windows_done if state.progress else 0
