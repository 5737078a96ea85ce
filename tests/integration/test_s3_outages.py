"""S3 gone, silent, slow, throttling, cutting: jobs wait in the retry lane and end well, and the API says 503."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from config.settings import S3Settings
from tests.api_process import running_api
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from tests.integration.conftest import CALL, NewSettings
from tests.integration.desks import NewDesk, job_for
from tests.integration.worker_process import WorkerProcess
from tests.servers import wait_until
from warmline.calls.report import Report
from warmline.jobs.errors import StoreUnavailable
from warmline.jobs.records import JobState, JobStatus, Options, ReportLocation, Source
from warmline.jobs.submission import submit_job
from warmline.objects.store import ObjectStore

TIMEOUT_SECONDS = 1.0  # of a request; a minute's outage is some seconds here


@pytest.fixture(scope="module")
def proxy(s3_settings: S3Settings) -> Iterator[FaultyProxy]:
    """What stands between S3 and whoever is tested."""
    with FaultyProxy(s3_settings.endpoint_url) as made:
        yield made


@pytest.fixture(autouse=True)
def _well_again(proxy: FaultyProxy) -> Iterator[None]:
    yield
    proxy.fail(None)


@pytest.fixture(scope="module")
def proxied(proxy: FaultyProxy, s3_settings: S3Settings) -> S3Settings:
    """The store behind the proxy, for the impatient."""
    return s3_settings.model_copy(update={"endpoint_url": proxy.address, "timeout_seconds": TIMEOUT_SECONDS})


@pytest.fixture
def store(proxied: S3Settings) -> Iterator[ObjectStore]:
    """A client behind the proxy that tries everything once."""
    with closing(ObjectStore(proxied, attempts=1)) as made:
        yield made


# The store's client


def test_a_body_that_trickles_is_given_up(
    proxy: FaultyProxy, store: ObjectStore, call: Source, tmp_path: Path
) -> None:
    # Given a line that brings a byte now and then, so that no read ever times out
    with proxy.failing(Fault(mode=Mode.SLOW, methods={"GET"}, bytes_per_second=100)):
        started = time.monotonic()
        # When a call is fetched, then that ends
        with pytest.raises(StoreUnavailable, match="WARMLINE_S3_MIN_BYTES_PER_SECOND"):
            store.fetch(call, tmp_path / "call")
        assert time.monotonic() - started < 20 * TIMEOUT_SECONDS
    assert not (tmp_path / "call").exists()


def test_a_slow_line_is_borne_while_it_is_fast_enough(
    proxy: FaultyProxy, store: ObjectStore, s3_prefix: str, tmp_path: Path
) -> None:
    # Given a body that takes longer than a request may wait for an answer
    (tmp_path / "body").write_bytes(b"x" * 60_000)
    source = store.put_call("calls", f"{s3_prefix}slow.wav", tmp_path / "body")
    arrived: list[int] = []
    with proxy.failing(Fault(mode=Mode.SLOW, methods={"GET"}, bytes_per_second=30_000)):
        started = time.monotonic()
        store.fetch(source, tmp_path / "call", on_chunk=arrived.append)
    # Then it comes whole, and its taker has heard of it all along
    assert time.monotonic() - started > 1.5 * TIMEOUT_SECONDS
    assert (tmp_path / "call").stat().st_size == 60_000
    assert arrived == sorted(arrived)
    assert len(arrived) >= 10
    assert arrived[-1] == 60_000


def test_whoever_is_told_of_the_pieces_can_end_the_fetch(store: ObjectStore, call: Source, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        store.fetch(call, tmp_path / "call", on_chunk=stop)
    assert not (tmp_path / "call").exists()


def fetched_bytes(store: ObjectStore, call: Source, path: Path) -> int:
    """0 while the store takes longer than the impatient wait, as it may on a busy machine."""
    try:
        return store.fetch(call, path).size_bytes
    except StoreUnavailable:
        return 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(mode=Mode.REFUSE),
        Fault(mode=Mode.SILENT),
        Fault(mode=Mode.THROTTLE),
        Fault(mode=Mode.LOSE_REQUEST),
        Fault(mode=Mode.LOSE_ANSWER),
        Fault(mode=Mode.CUT, methods={"GET"}, answer_bytes=100_000),
        Fault(mode=Mode.CUT, methods={"GET"}, answer_bytes=20),
    ],
    ids=lambda fault: f"{fault.mode.name.lower()}-{fault.answer_bytes}",
)
def test_every_fault_of_the_store_may_pass_and_nothing_hangs(
    proxy: FaultyProxy, store: ObjectStore, call: Source, tmp_path: Path, fault: Fault
) -> None:
    with proxy.failing(fault):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            store.fetch(call, tmp_path / "call")
        assert time.monotonic() - started < 20 * TIMEOUT_SECONDS
        assert proxy.failed >= 1
    assert caught.value.code == "store_unavailable"
    assert not (tmp_path / "call").exists()
    # And when it has passed, all is well
    wait_until(lambda: fetched_bytes(store, call, tmp_path / "call") == CALL.stat().st_size, "it is fetched")


def test_a_report_whose_answer_was_lost_is_there_and_is_not_written_over(
    proxy: FaultyProxy, proxied: S3Settings, s3_prefix: str
) -> None:
    # Given a store that writes the report, and whose answer is lost on its way
    with closing(ObjectStore(proxied)) as store:
        with proxy.failing(Fault(mode=Mode.LOSE_ANSWER, methods={"PUT"}, times=1)):
            # When the client asks again, then it finds one, and that is all it wants to know
            assert store.put_report(f"{s3_prefix}r.json", b"{}") is False
            assert proxy.failed == 1
        assert store.get_report(ReportLocation(bucket="reports", key=f"{s3_prefix}r.json")) == b"{}"


# Jobs


@pytest.fixture(scope="module")
def worker(
    worker_settings: NewSettings,
    module_redis_url: str,
    proxied: S3Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[WorkerProcess]:
    """A worker behind the proxy, which tries often and soon."""
    settings = worker_settings(
        module_redis_url,
        s3=proxied,
        results="s3",
        children=2,
        max_attempts=10,
        retry_seconds=0.5,
        max_retry_seconds=1,
    )
    with WorkerProcess(settings, tmp_path_factory.mktemp("worker") / "log") as running:
        running.wait_warm(2)
        yield running


def submit(worker: WorkerProcess, call: Source, name: str, count: int) -> list[str]:
    """So many jobs whose reports have keys of their own; their ids."""
    questions = [Options(roles=(f"{name}_{n}",)) for n in range(count)]
    return [submit_job(worker.ledger, call, options=asked).job.id for asked in questions]


def assert_published_once(proxy: FaultyProxy, store: ObjectStore, states: Sequence[JobState]) -> None:
    """Every job has succeeded, and the one report under its key is its own and was put once."""
    assert {state.status for state in states} == {JobStatus.SUCCEEDED}
    locations = [state.report for state in states if state.report]
    assert len({location.key for location in locations}) == len(states)
    for state, location in zip(states, locations, strict=True):
        assert Report.model_validate_json(store.get_report(location)).job_id == state.job.id
        puts = [
            status
            for method, path, status in proxy.answered
            if method == "PUT" and unquote(path) == f"/{location.bucket}/{location.key}"
        ]
        assert puts.count(200) == 1


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.THROTTLE])
def test_jobs_outlast_a_store_that_is_gone_or_throttles(
    worker: WorkerProcess, proxy: FaultyProxy, s3_settings: S3Settings, call: Source, mode: Mode
) -> None:
    # Given a store in trouble, and jobs that come meanwhile
    with proxy.failing(Fault(mode=mode)):
        job_ids = submit(worker, call, mode.name.lower(), 4)
        time.sleep(2.5)
        wait_until(lambda: any(worker.ledger.get(job_id).attempts for job_id in job_ids), "an attempt is over")
        troubled = [worker.ledger.get(job_id) for job_id in job_ids]
        assert proxy.failed > 0
    # When it is well again, then all of them succeed, after attempts that the store has failed
    states = [worker.wait_finished(job_id) for job_id in job_ids]
    with closing(ObjectStore(s3_settings)) as store:
        assert_published_once(proxy, store, states)
    failures = [past.failure.code for state in troubled for past in state.attempts if past.failure]
    assert set(failures) == {"store_unavailable"}
    assert {past.outcome for state in states for past in state.attempts} == {"retried", "succeeded"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(mode=Mode.CUT, methods={"GET"}, answer_bytes=200_000),
        Fault(mode=Mode.SLOW, methods={"GET"}, bytes_per_second=500),
        Fault(mode=Mode.LOSE_REQUEST, methods={"PUT"}),
        Fault(mode=Mode.LOSE_ANSWER, methods={"PUT"}),
    ],
    ids=lambda fault: f"{fault.mode.name.lower()}-{next(iter(fault.methods)).lower()}",
)
def test_what_the_store_cut_short_the_next_attempt_makes_good(
    proxy: FaultyProxy, proxied: S3Settings, s3_settings: S3Settings, new_desk: NewDesk, call: Source, fault: Fault
) -> None:
    # Given a body that breaks off or trickles, or a report of which nobody knows whether it was written
    patience = TIMEOUT_SECONDS if fault.mode is Mode.SLOW else 10 * TIMEOUT_SECONDS
    desk = new_desk(s3=proxied.model_copy(update={"timeout_seconds": patience}), results="s3")
    job = job_for(call, options=Options(roles=(f"next_{fault.mode.name.lower()}",)))
    with proxy.failing(fault):
        desk.attempt(job)
        assert proxy.failed > 0
    assert desk.ledger.get(job.id).status is JobStatus.QUEUED
    # When the job is tried again, then there is one report, and it was put once
    desk.attempt(job)
    state = desk.ledger.get(job.id)
    with closing(ObjectStore(s3_settings)) as store:
        assert_published_once(proxy, store, [state])
    assert [past.outcome for past in state.attempts] == ["retried", "succeeded"]
    assert [past.failure.code for past in state.attempts if past.failure] == ["store_unavailable"]


def test_a_child_waits_out_an_outage_at_the_price_of_one_attempt(
    proxy: FaultyProxy, proxied: S3Settings, new_desk: NewDesk, call: Source
) -> None:
    # Given a store that is gone until a job has failed for it and a second more, and patience that is tried soon
    desk = new_desk(s3=proxied.model_copy(update={"timeout_seconds": 10 * TIMEOUT_SECONDS}), retry_seconds=0.1)
    job = job_for(call)
    proxy.fail(Fault(mode=Mode.REFUSE))
    back = threading.Event()

    def come_back() -> None:
        wait_until(lambda: any(state.attempts for state in desk.ledger.list()), "it has failed")
        time.sleep(1)
        back.set()
        proxy.fail(None)

    outage = threading.Thread(target=come_back)
    outage.start()
    # When a job fails for it, then its child takes no other before the store answers
    desk.attempt(job)
    assert back.is_set()
    outage.join()
    assert desk.ledger.get(job.id).status is JobStatus.QUEUED
    desk.attempt(job)
    state = desk.ledger.get(job.id)
    assert [past.outcome for past in state.attempts] == ["retried", "succeeded"]
    # And a worker that ends does not wait
    proxy.fail(Fault(mode=Mode.REFUSE))
    threading.Timer(1.0, desk.drain.set).start()
    desk.attempt(job_for(call))
    with closing(ObjectStore(proxied, attempts=1)) as store, pytest.raises(StoreUnavailable):
        store.ping()


# The API


def test_the_api_says_503_within_seconds_while_s3_is_gone_or_silent(
    worker: WorkerProcess, proxy: FaultyProxy, proxied: S3Settings, call: Source, tmp_path: Path
) -> None:
    # Given a job whose report is in S3 alone
    (job_id,) = submit(worker, call, "api", 1)
    assert worker.wait_finished(job_id).report == ReportLocation(
        bucket="reports", key=(worker.ledger.get(job_id).report or ReportLocation()).key
    )
    redis_url = worker.settings.redis.url.get_secret_value()
    patient = proxied.model_copy(update={"timeout_seconds": 30.0})
    with (
        running_api(tmp_path, redis_url, patient) as api,
        httpx.Client(base_url=api.url, timeout=60, trust_env=False) as client,
    ):
        before = len(client.get("/v1/batches").json()["batches"])
        report = ("GET", f"/v1/jobs/{job_id}/report", None)
        batch = ("POST", "/v1/batches", {"bucket": "calls", "prefix": "workers/"})
        for mode, (method, path, body) in (
            (Mode.REFUSE, report),
            (Mode.SILENT, batch),
            (Mode.THROTTLE, report),
            (Mode.LOSE_ANSWER, batch),
        ):
            with proxy.failing(Fault(mode=mode)):
                started = time.monotonic()
                answer = client.request(method, path, json=body)
                # Then the answer is a problem, in time
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
                assert answer.headers["content-type"] == "application/problem+json"
                assert int(answer.headers["retry-after"]) > 0
                assert time.monotonic() - started < 25
                # and what needs no store is as quick as ever
                assert client.get(f"/v1/jobs/{job_id}").elapsed.total_seconds() < 10
        # Nothing was half accepted, and all is well again
        assert len(client.get("/v1/batches").json()["batches"]) == before
        assert client.get(f"/v1/jobs/{job_id}/report").status_code == 200
