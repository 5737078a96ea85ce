"""What a real worker tells Prometheus, of jobs that it really did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from config.settings import MetricsSettings
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess, kill
from tests.servers import wait_until
from warmline.jobs.records import JobStatus, Source
from warmline.jobs.submission import submit_job
from warmline.objects.store import ObjectStore

TOKEN = "a-token-of-the-test's"
Samples = Mapping[str, float]


@pytest.fixture(scope="module")
def worker(
    module_redis_url: str, worker_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A warm worker whose metrics need a token."""
    settings = worker_settings(module_redis_url, model="mini")
    metrics = settings.metrics.model_copy(update={"token": SecretStr(TOKEN)})
    settings = settings.model_copy(update={"metrics": metrics})
    with WorkerProcess(settings, tmp_path_factory.mktemp("worker") / "worker.log") as worker:
        worker.wait_warm()
        wait_until(lambda: bool(scrape(worker)), "its metrics are served")
        yield worker


def get(worker: WorkerProcess, path: str, token: str | None = TOKEN) -> httpx.Response:
    metrics: MetricsSettings = worker.settings.metrics
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.get(f"http://127.0.0.1:{metrics.port}{path}", headers=headers, timeout=60)


def scrape(worker: WorkerProcess) -> Samples:
    """name{label="value",…} -> value; nothing while nobody answers."""
    try:
        text = get(worker, "/metrics").raise_for_status().text
    except httpx.ConnectError:
        return {}
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def grew(worker: WorkerProcess, before: Samples, name: str, by: float = 1) -> Callable[[], bool]:
    return lambda: scrape(worker).get(name, 0) == before.get(name, 0) + by


def test_a_job_is_counted_with_all_its_stages(worker: WorkerProcess, call: Source) -> None:
    # Given what was counted before
    before = scrape(worker)
    # When a job is done
    state = worker.wait_finished(submit_job(worker.ledger, call).job.id)
    assert state.status is JobStatus.SUCCEEDED
    lane = state.job.lane
    wait_until(grew(worker, before, f"warmline_jobs_total code= lane={lane} outcome=succeeded"), "it is counted")
    # Then so is what it took
    after = scrape(worker)
    for name in (
        *(
            f"warmline_stage_seconds_count stage={stage}"
            for stage in ("fetch", "decode", "speech", "score", "store")
        ),
        f"warmline_job_seconds_count lane={lane}",
        f"warmline_job_wait_seconds_count lane={lane}",
        "warmline_rtfx_count",
        "warmline_s3_requests_total operation=HeadObject outcome=ok",
        "warmline_s3_requests_total operation=GetObject outcome=ok",
    ):
        assert after[name] == before.get(name, 0) + 1, name
    # The report may be there already, of another test's job: then S3 says so, and that is no error.
    puts = [
        f"warmline_s3_requests_total operation=PutObject outcome={outcome}" for outcome in ("ok", "precondition")
    ]
    assert sum(after[name] - before[name] for name in puts) == 1
    grown = {name: after[name] - before[name] for name in ("warmline_audio_seconds_total", "warmline_rtfx_sum")}
    assert grown["warmline_audio_seconds_total"] == pytest.approx(24, abs=1)
    assert grown["warmline_rtfx_sum"] > 1
    assert after["warmline_speech_seconds_total"] > before["warmline_speech_seconds_total"] + 5
    assert after["warmline_observations_dropped_total"] == 0


def test_failures_have_their_codes_and_nothing_of_the_call(worker: WorkerProcess, tmp_path: Path) -> None:
    # Given a call that is none, with a number in its key
    (tmp_path / "call.wav").write_bytes(b"no audio")
    source = ObjectStore(worker.settings.s3).put_call("calls", "workers/+4915112345678.wav", tmp_path / "call.wav")
    before = scrape(worker)
    # When its job fails, and one for a key that is not there
    codes = []
    for one in (source, source.model_copy(update={"key": "workers/gone.wav"})):
        state = worker.wait_finished(submit_job(worker.ledger, one).job.id)
        assert state.failure is not None
        codes.append(state.failure.code)
        name = f"warmline_jobs_total code={state.failure.code} lane={state.job.lane} outcome=failed"
        wait_until(grew(worker, before, name), "it is counted by its code")
    # Then the store's answer is known as well, and no label says which call it was
    assert len(set(codes)) == 2
    assert grew(worker, before, "warmline_s3_requests_total operation=HeadObject outcome=not_found")()
    text = get(worker, "/metrics").text
    assert "4915112345678" not in text
    assert "gone.wav" not in text


def test_a_dead_child_is_counted_and_so_is_its_replacement(worker: WorkerProcess, long_call: Source) -> None:
    before = scrape(worker)
    assert before["warmline_warm_children"] == before["warmline_planned_children"] == 1
    job_id = submit_job(worker.ledger, long_call).job.id
    # When a child is killed with a job
    kill(worker.wait_running(job_id))
    # Then that is a job lost, a child respawned, and a model loaded once more
    wait_until(grew(worker, before, "warmline_jobs_lost_total"), "the loss is counted")
    assert worker.wait_finished(job_id).status is JobStatus.SUCCEEDED
    wait_until(grew(worker, before, "warmline_child_respawns_total"), "the respawn is counted")
    wait_until(grew(worker, before, "warmline_model_load_seconds_count"), "the load is counted")
    assert scrape(worker)["warmline_warm_children"] == 1


def test_only_who_has_the_token_reads_the_metrics(worker: WorkerProcess) -> None:
    assert get(worker, "/metrics").headers["content-type"].startswith("text/plain; version=")
    for token in (None, "another"):
        assert get(worker, "/metrics", token).status_code == 401
    assert get(worker, "/elsewhere").status_code == 404
    assert httpx.post(f"http://127.0.0.1:{worker.settings.metrics.port}/metrics", timeout=60).status_code == 501


def test_a_port_that_is_taken_ends_no_worker(
    worker: WorkerProcess, worker_settings: NewSettings, redis_url: str, tmp_path: Path, call: Source
) -> None:
    # Given a second worker that is told to use the first one's port
    settings = worker_settings(redis_url).model_copy(update={"metrics": worker.settings.metrics})
    with WorkerProcess(settings, tmp_path / "worker.log") as second:
        second.wait_warm()
        # Then it says so, and works
        wait_until(lambda: bool(second.lines("metrics_port_taken")), "it says so")
        assert second.wait_finished(submit_job(second.ledger, call).job.id).status is JobStatus.SUCCEEDED
