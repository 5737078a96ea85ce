"""A worker whose model lives in a host process: jobs go through it, and deaths on either side end no job badly.

The engine is torch on the CPU, which needs no host, but does the same in one.
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from mypy_boto3_s3.client import S3Client
from psutil import Process

from config.settings import Settings
from tests.analysts import analyst_with
from tests.integration.conftest import CALL, NewSettings
from tests.integration.worker_process import WorkerProcess, kill
from tests.servers import is_over, skip_or_fail, wait_until
from warmline.calls.analyze import analyze_call
from warmline.calls.embeddings import EmbeddingWriter
from warmline.calls.report import Report, SourceFacts
from warmline.emotion.loading import load_engine
from warmline.jobs.records import JobStatus, Options, Source
from warmline.jobs.submission import submit_batch, submit_job

CHILDREN = 2


def with_host(settings: Settings) -> Settings:
    """The same worker with one host."""
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"engine_hosts": "1"})})


def hosts_of(worker: WorkerProcess) -> list[Process]:
    """The processes that hold the model."""
    return [process for process in Process(worker.process.pid).children() if is_host(process)]


def is_host(process: Process) -> bool:
    """Whether it holds the model, and lives."""
    try:
        return "workers.engine_host" in process.cmdline()  # a dead one has none
    except psutil.Error:
        return False


def nobody_is_warm(worker: WorkerProcess) -> bool:
    """Whether it says so; a worker that had no time for its heartbeat says nothing."""
    return [state.warm for state in worker.ledger.workers()] == [()]


def children_of(worker: WorkerProcess) -> set[int]:
    """The pids of those that take jobs."""
    return worker.children() - {host.pid for host in hosts_of(worker)}


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, worker_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A warm worker with a host and two children."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    settings = with_host(worker_settings(module_redis_url, model="mini", children=CHILDREN))
    with WorkerProcess(settings, log) as worker:
        worker.wait_warm(CHILDREN)
        yield worker


def test_a_job_has_the_scores_of_an_engine_without_host(worker: WorkerProcess, call: Source) -> None:
    # When a job is done through the host
    done = worker.wait_finished(submit_job(worker.ledger, call).job.id)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
    text = worker.ledger.report(done.job.id)
    assert text is not None
    report = Report.model_validate_json(text)
    # Then its scores and its provenance are those of the same engine in one process
    engine = load_engine(worker.settings.emotion, threads=1)
    facts = SourceFacts(uri="x", size_bytes=0)
    alone = analyze_call(CALL, analyst_with(engine), source=facts, options=Options())
    assert report.provenance.model == alone.provenance.model
    for ours, expected in zip(report.channels, alone.channels, strict=True):
        assert len(ours.windows) == len(expected.windows) > 0
        for window, other in zip(ours.windows, expected.windows, strict=True):
            assert (window.start_ms, window.end_ms) == (other.start_ms, other.end_ms)
            assert window.scores == pytest.approx(other.scores, abs=1e-6)
    # And the children have never loaded torch
    for child in worker.ledger.workers()[0].warm:
        assert child.engine == "torch"
        assert "libtorch" not in Path(f"/proc/{child.pid}/maps").read_text()


def test_embeddings_come_through_the_host(
    worker: WorkerProcess, call: Source, s3_client: S3Client, tmp_path: Path
) -> None:
    # When a job asks for embeddings
    job = submit_job(worker.ledger, call, options=Options(embedding="npy")).job
    assert worker.wait_finished(job.id).status is JobStatus.SUCCEEDED
    report = Report.model_validate_json(worker.ledger.report(job.id) or "")
    assert report.embeddings is not None
    key = report.embeddings.uri.removeprefix("s3://reports/")
    s3_client.download_file("reports", key, str(tmp_path / "hosted.npy"))
    # Then they are those of the same engine in one process
    engine = load_engine(worker.settings.emotion, threads=1)
    dimensions = engine.embedding_dimensions
    with EmbeddingWriter(tmp_path / "own.npy", file_format="npy", dimensions=dimensions, uri="x") as writer:
        analyze_call(
            CALL,
            analyst_with(engine),
            source=SourceFacts(uri="x", size_bytes=0),
            options=Options(),
            embeddings=writer,
        )
    own, hosted = np.load(tmp_path / "own.npy"), np.load(tmp_path / "hosted.npy")
    np.testing.assert_allclose(hosted, own, rtol=0, atol=1e-5)


def test_a_child_that_is_killed_in_the_middle_costs_its_neighbours_nothing(
    worker: WorkerProcess, call: Source
) -> None:
    # Given two jobs that run
    (host,) = hosts_of(worker)
    _, jobs = submit_batch_of(worker, call, CHILDREN)
    held = [worker.hold(job_id) for job_id in jobs]
    # When the child of one is killed
    held[0].kill()
    held[1].resume()
    # Then both jobs succeed, the other at its first attempt, with the same host
    done = [worker.wait_finished(job_id) for job_id in jobs]
    assert [(state.status, state.attempt) for state in done] == [
        (JobStatus.SUCCEEDED, 2),
        (JobStatus.SUCCEEDED, 1),
    ]
    worker.wait_warm(CHILDREN)
    assert [process.pid for process in hosts_of(worker)] == [host.pid]


def test_a_host_that_is_killed_costs_no_job(worker: WorkerProcess, call: Source) -> None:
    # Given more jobs than children, two of which run
    children = children_of(worker)
    (old,) = hosts_of(worker)
    batch_id, jobs = submit_batch_of(worker, call, 6)
    wait_until(lambda: len(running(worker, batch_id)) == CHILDREN, "two jobs run", interval_seconds=0.001)
    # When the host is killed
    old.kill()
    # Then nobody is warm until there is another one
    wait_until(lambda: nobody_is_warm(worker), "nobody is warm", interval_seconds=0.005)
    worker.wait_warm(CHILDREN)
    (new,) = hosts_of(worker)
    assert new.pid != old.pid
    # And every job succeeds, in the children that were there before
    done = [worker.wait_finished(job_id) for job_id in jobs]
    assert [state.status for state in done] == [JobStatus.SUCCEEDED] * len(jobs)
    assert max(state.attempt for state in done) == 2
    assert {line["code"] for line in worker.lines("job_retried")} == {"engine_lost"}
    assert children_of(worker) == children


def test_no_job_is_started_while_the_host_is_gone(worker: WorkerProcess, call: Source) -> None:
    # Given a host that is killed, and a new one that is stopped while it loads
    (old,) = hosts_of(worker)
    old.kill()
    wait_until(lambda: hosts_of(worker) not in ([], [old]), "there is a new one", interval_seconds=0.001)
    (new,) = hosts_of(worker)
    new.suspend()
    wait_until(lambda: nobody_is_warm(worker), "nobody is warm", interval_seconds=0.005)
    # When jobs come, then none is started, and none has lost an attempt
    _, jobs = submit_batch_of(worker, call, 3)
    time.sleep(1.5)
    assert {worker.ledger.get(job_id).status for job_id in jobs} == {JobStatus.QUEUED}
    # When the host gets warm, then they run
    new.resume()
    done = [worker.wait_finished(job_id) for job_id in jobs]
    assert [(state.status, state.attempt) for state in done] == [(JobStatus.SUCCEEDED, 1)] * 3


def test_a_host_that_hangs_is_replaced(
    worker_settings: NewSettings, redis_url: str, call: Source, tmp_path: Path
) -> None:
    # Given a worker whose host says four times a second that it serves
    settings = with_host(worker_settings(redis_url))
    settings = settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"heartbeat_seconds": 0.25})}
    )
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        worker.wait_warm()
        (old,) = hosts_of(worker)
        # When it hangs, and a job comes
        old.suspend()
        state = submit_job(worker.ledger, call)
        # Then it is ended and replaced, and the job is done
        assert worker.wait_finished(state.job.id).status is JobStatus.SUCCEEDED
        assert [host.pid for host in hosts_of(worker)] != [old.pid]
        assert {line["pid"] for line in worker.lines("engine_host_killed")} == {old.pid}


def test_an_engine_that_cannot_share_its_weights_gets_a_host_by_itself(
    worker_settings: NewSettings, redis_url: str, call: Source, tmp_path: Path
) -> None:
    if importlib.util.find_spec("openvino") is None:
        skip_or_fail("openvino is not installed")
    # Given settings that ask for OpenVINO and leave the rest to the plan
    settings = worker_settings(redis_url, model="mini")
    emotion = settings.emotion.model_copy(update={"engine": "openvino"})
    with WorkerProcess(settings.model_copy(update={"emotion": emotion}), tmp_path / "worker.log") as worker:
        worker.wait_warm()
        # Then one host holds the model, and jobs are done by it
        assert len(hosts_of(worker)) == 1
        done = worker.wait_finished(submit_job(worker.ledger, call).job.id)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
        assert [child.engine for child in worker.ledger.workers()[0].warm] == ["openvino"]


def test_nothing_is_left_of_a_worker_that_was_told_to_end(
    worker_settings: NewSettings, redis_url: str, call: Source, tmp_path: Path
) -> None:
    # Given a worker with a host, in the middle of a job
    settings = with_host(worker_settings(redis_url))
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        worker.wait_warm()
        (host,) = hosts_of(worker)
        state = submit_job(worker.ledger, call)
        held = worker.hold(state.job.id)
        # When all of its processes are told to end, as a service manager does
        worker.signal(signal.SIGTERM)
        host.terminate()
        held.resume()
        # Then the job is finished first
        assert worker.wait_exit() == 0
        done = worker.ledger.get(state.job.id)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 1)
        # And no process and no socket is left
        wait_until(lambda: is_over(host), "the host has ended")
        assert list(settings.worker.scratch_dir.iterdir()) == []
        assert len(worker.lines("engine_host_counts")) == 1


def test_a_host_does_not_outlive_a_parent_that_was_killed(
    worker_settings: NewSettings, redis_url: str, tmp_path: Path
) -> None:
    with WorkerProcess(with_host(worker_settings(redis_url)), tmp_path / "worker.log") as worker:
        worker.wait_warm()
        processes = Process(worker.process.pid).children()
        assert len(processes) == 2
        kill(worker.process.pid)
        wait_until(lambda: all(is_over(process) for process in processes), "they end")


def test_a_model_that_cannot_be_loaded_again_ends_the_worker_with_its_reason(
    worker_settings: NewSettings, redis_url: str, tiny_model: Path, tmp_path: Path
) -> None:
    # Given a warm worker, whose model is broken afterwards
    model = shutil.copytree(tiny_model, tmp_path / "model")
    with WorkerProcess(with_host(worker_settings(redis_url, model=model)), tmp_path / "worker.log") as worker:
        worker.wait_warm()
        (model / "config.yaml").unlink()
        # When its host dies
        (host,) = hosts_of(worker)
        host.kill()
        # Then it ends with one line that says why
        assert worker.wait_exit() == 1
        (line,) = worker.lines("worker_stopped")
        assert line["reason"].startswith("engine host ")
        assert "config.yaml" in line["reason"]
        assert "Traceback" not in worker.log_text()
        assert worker.ledger.workers() == ()


def test_a_host_that_dies_while_it_loads_ends_a_new_worker(
    worker_settings: NewSettings, redis_url: str, tmp_path: Path
) -> None:
    with WorkerProcess(with_host(worker_settings(redis_url)), tmp_path / "worker.log") as worker:
        wait_until(lambda: bool(hosts_of(worker)), "there is a host", interval_seconds=0.001)
        hosts_of(worker)[0].kill()
        assert worker.wait_exit() == 1
        (line,) = worker.lines("worker_stopped")
        assert "SIGKILL" in line["reason"]


def submit_batch_of(worker: WorkerProcess, call: Source, count: int) -> tuple[str, list[str]]:
    """The batch's id and its jobs' ids, in order."""
    batch = submit_batch(worker.ledger, [call] * count)
    return batch.id, [state.job.id for state in reversed(worker.ledger.list(batch_id=batch.id))]


def running(worker: WorkerProcess, batch_id: str) -> list[str]:
    """The ids of the batch's jobs that run now."""
    return [state.job.id for state in worker.ledger.list(batch_id=batch_id) if state.status is JobStatus.RUNNING]
