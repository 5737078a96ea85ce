"""Calls without a report get a job, once, whatever the ledger remembers: real S3, real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, S3Settings, Settings
from tests.api_process import running_api
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from tests.integration.conftest import CALL, NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.servers import wait_until
from warmline.jobs import keys
from warmline.jobs.errors import ReconciliationNotFound, ReconciliationRunning
from warmline.jobs.reconcile_ledger import ReconcileLedger
from warmline.jobs.reconciliation import Counts, ReconcileStatus, Reconciliation, Wanted, job_id_for
from warmline.jobs.records import (
    ChildState,
    Failure,
    Job,
    JobState,
    JobStatus,
    Options,
    ReportLocation,
    Source,
    WorkerState,
)
from warmline.jobs.submission import submit_batch, submit_job
from warmline.objects.comparison import compare, present
from warmline.objects.reconcile import Reconciler
from warmline.objects.reconcile_schedule import ReconcileSchedule
from warmline.objects.report_keys import report_key
from warmline.objects.store import ObjectStore

MODEL = "ab" * 32
MANY = 2500
ODD = (
    "a b/c d.wav", "a=b.wav", "a=20b.wav", "x@y.wav", "é客+%2F&#?.wav", "客/客.wav", "dots/.../a.wav", "q" * 200,
    "deep/" * 40 + "a.wav", "tab\tand\nnewline.wav", "UPPER.wav", "upper.wav", "a/b.wav", "a-b.wav", "a.b.wav",
)  # fmt: skip

Put = Callable[[Sequence[str]], list[Source]]
Report = Callable[..., str]


@pytest.fixture
def settings(s3_settings: S3Settings, redis_url: str) -> Settings:
    return Settings(s3=s3_settings, redis=RedisSettings(url=SecretStr(redis_url)), jobs=JobsSettings())


@pytest.fixture
def ledger(settings: Settings) -> Iterator[ReconcileLedger]:
    with closing(ReconcileLedger.connect(settings.redis, settings.jobs)) as made:
        yield made


@pytest.fixture(scope="module")
def store(s3_settings: S3Settings) -> Iterator[ObjectStore]:
    with closing(ObjectStore(s3_settings)) as made:
        yield made


@pytest.fixture(scope="module")
def put(s3_client: S3Client) -> Put:
    """Puts calls of a few bytes, each with bytes of its own, under these keys."""

    def many(names: Sequence[str]) -> list[Source]:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: s3_client.put_object(Bucket="calls", Key=key, Body=key.encode()), names))
        return [Source(bucket="calls", key=key) for key in names]

    return many


@pytest.fixture(scope="module")
def report(store: ObjectStore) -> Report:
    """Puts the report of a call, as a worker would; returns its key."""

    def one(source: Source, *, job_id: str = "0" * 32, options: Options | None = None, model: str = MODEL) -> str:
        key = report_key(source, options or Options(), etag=store.head(source).etag, model_hash=model)
        store.put_report(key, f'{{"job_id": "{job_id}"}}'.encode())
        return key

    return one


def reconcile(settings: Settings, prefix: str, **wanted: object) -> Reconciliation:
    asked = Wanted.model_validate({"bucket": "calls", "prefix": prefix} | wanted)
    with closing(Reconciler(settings)) as reconciler:
        return reconciler.carry_out(reconciler.begin(asked, MODEL))


def queued(ledger: ReconcileLedger) -> list[JobState]:
    return list(ledger.list(status=JobStatus.QUEUED, limit=5000))


# Many


@pytest.fixture(scope="module")
def many(put: Put, report: Report) -> tuple[str, list[Source]]:
    """A prefix with more calls than fit into two pages; every fifth has its report."""
    prefix = f"{uuid.uuid4().hex}/"
    sources = put([f"{prefix}{n % 2}/call {n:05d}.wav" for n in range(MANY)])
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(report, sources[::5]))
    return prefix, sources


def test_every_call_without_a_report_gets_one_job_and_no_second_one(
    settings: Settings, ledger: ReconcileLedger, many: tuple[str, list[Source]]
) -> None:
    # Given a few calls that wait already: in a batch, alone, or running
    prefix, sources = many
    submit_batch(ledger, sources[1:101])
    alone = [submit_job(ledger, source).job for source in (sources[102], sources[103])]
    ledger.claim(alone[0], "w/1")
    in_flight = {source.key for source in [*sources[1:101], sources[102], sources[103]]} - {
        source.key for source in sources[::5]
    }
    reported = MANY // 5
    # When the prefix is reconciled
    with FaultyProxy(settings.s3.endpoint_url) as proxy:
        proxied = settings.model_copy(
            update={"s3": settings.s3.model_copy(update={"endpoint_url": proxy.address})}
        )
        run = reconcile(proxied, prefix)
        asked = [(method, path.partition("?")[0]) for method, path, _ in proxy.answered]
    # Then each of the others has a job
    assert run.status is ReconcileStatus.FINISHED, run.failure
    assert run.counts == Counts(
        found=MANY, reported=reported, in_ledger=len(in_flight), enqueued=MANY - reported - len(in_flight)
    )
    jobs = [state.job for state in ledger.list(limit=5000)]
    assert sorted(job.source.key for job in jobs if job.batch_id is None and job not in alone) == sorted(
        {source.key for source in sources} - {source.key for source in sources[::5]} - in_flight
    )
    # by listings alone, and not many
    assert set(asked) <= {("GET", "/calls"), ("GET", "/reports")}
    assert len(asked) < 40
    # And a second time, there is nothing to do
    again = reconcile(settings, prefix)
    assert again.counts == Counts(found=MANY, reported=reported, in_ledger=MANY - reported)
    assert len(ledger.list(limit=5000)) == len(jobs)


def test_memory_does_not_grow_with_what_is_compared(settings: Settings, many: tuple[str, list[Source]]) -> None:
    prefix, _ = many
    sizes, asked, peaks = [], [], []
    with FaultyProxy(settings.s3.endpoint_url) as proxy:
        s3 = settings.s3.model_copy(update={"endpoint_url": proxy.address})
        with closing(ObjectStore(s3)) as store:
            list(store.list_keys("calls", f"{prefix}nothing"))  # builds the client
            proxy.answered.clear()
            tracemalloc.start()
            for page in compare(store, s3, "calls", prefix, lambda _: Options(), MODEL):
                sizes.append(len(page))
                asked.append(sum(path.startswith("/calls?") for _, path, _ in proxy.answered))
                peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # A page is listed when the one before is done with
    assert (sizes, asked) == ([1000, 1000, 500], [1, 2, 3])
    # The second one is read while the first is at hand; the third needs no more than that
    assert peaks[2] < 1.1 * peaks[1]


def test_only_what_is_below_the_prefix_is_looked_at(settings: Settings, many: tuple[str, list[Source]]) -> None:
    prefix, sources = many
    expected = [source for source in sources if source.key.startswith(f"{prefix}1/call 000")]
    assert reconcile(settings, f"{prefix}1/call 000").counts.found == len(expected) > 10


# Keys


def test_odd_keys_are_compared_as_they_are(
    settings: Settings, ledger: ReconcileLedger, store: ObjectStore, s3_client: S3Client, s3_prefix: str, put: Put,
    report: Report,
) -> None:  # fmt: skip
    # Given calls with names of every kind, and their reports
    sources = put([f"{s3_prefix}{name}" for name in ODD])
    reports = [report(source) for source in sources]
    assert reconcile(settings, s3_prefix).counts == Counts(found=len(ODD), reported=len(ODD))
    # When one report after the other is taken away, then its call gets a job, and only that one
    for place in (0, 4, 7, 8, 9):
        s3_client.delete_object(Bucket="reports", Key=reports[place])
        assert reconcile(settings, s3_prefix).counts.enqueued == 1
    assert {state.job.source for state in queued(ledger)} == {sources[place] for place in (0, 4, 7, 8, 9)}


def test_another_version_other_options_and_another_model_are_other_questions(
    settings: Settings, s3_prefix: str, put: Put, report: Report, s3_client: S3Client
) -> None:
    (source,) = put([f"{s3_prefix}a.wav"])
    report(source)
    assert reconcile(settings, s3_prefix).counts.reported == 1
    assert reconcile(settings, s3_prefix, options={"granularity": "utterance"}).counts.enqueued == 1
    with closing(Reconciler(settings)) as reconciler:
        other = reconciler.carry_out(reconciler.begin(Wanted(bucket="calls", prefix=s3_prefix), "cd" * 32))
    assert other.counts.enqueued == 1
    s3_client.put_object(Bucket="calls", Key=source.key, Body=b"replaced")
    # It waits already, for the other model: whoever takes it scores what is there then.
    assert reconcile(settings, s3_prefix).counts == Counts(found=1, in_ledger=1)


@pytest.mark.parametrize("page", [1, 5, 1000])
def test_reports_are_found_among_any_number_of_others(
    store: ObjectStore, s3_prefix: str, s3_client: S3Client, page: int
) -> None:
    # Given reports of which some are asked for, among others with names that are near, and a small page
    there = [f"{s3_prefix}{group}/{n:03d}.json" for group in ("a", "a b", "é") for n in range(0, 120, 2)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3_client.put_object(Bucket="reports", Key=key, Body=b"{}"), there))
    wanted = sorted(f"{s3_prefix}{group}/{n:03d}.json" for group in ("a", "é", "z") for n in range(0, 120, 3))
    # When they are asked for, then exactly those that are there are found
    assert present(store, wanted, page=page) == set(there) & set(wanted)
    assert present(store, [], page=page) == set()


# Jobs that ended, and jobs whose message was lost


def test_what_failed_stays_until_it_is_asked_for_and_what_lost_its_report_runs_again(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str, put: Put, report: Report, s3_client: S3Client
) -> None:
    # Given reconciled jobs of which one failed, one is dead, one was cancelled, and one succeeded
    sources = put([f"{s3_prefix}{name}.wav" for name in ("cancelled", "dead", "failed", "succeeded")])
    assert reconcile(settings, s3_prefix).counts.enqueued == 4
    jobs = {state.job.source.key.rpartition("/")[2]: state.job for state in queued(ledger)}
    broken = Failure(code="store_unavailable", message="It was gone.")
    ledger.cancel(jobs["cancelled.wav"].id)
    for attempt in range(1, settings.jobs.max_attempts + 1):
        ledger.claim(jobs["dead.wav"], "w/1")
        ledger.retry(jobs["dead.wav"].id, attempt, broken, delay_seconds=0)
    ledger.claim(jobs["failed.wav"], "w/1")
    ledger.fail(jobs["failed.wav"].id, 1, Failure(code="not_audio", message="It is text."))
    ledger.claim(jobs["succeeded.wav"], "w/1")
    key = report(sources[3], job_id=jobs["succeeded.wav"].id)
    ledger.succeed(jobs["succeeded.wav"].id, 1, ReportLocation(bucket="reports", key=key), "")
    assert reconcile(settings, s3_prefix).counts == Counts(found=4, reported=1, in_ledger=3)
    # When the report is taken away, then its call is asked for again, and the others are not
    s3_client.delete_object(Bucket="reports", Key=key)
    assert reconcile(settings, s3_prefix).counts == Counts(found=4, enqueued=1, in_ledger=3)
    assert ledger.get(jobs["succeeded.wav"].id).status is JobStatus.QUEUED
    # until somebody wants the failed ones; what was cancelled, somebody did not want
    again = reconcile(settings, s3_prefix, retry_failed=True)
    assert again.counts == Counts(found=4, in_ledger=2, replayed=2)
    states = {name: ledger.get(job.id).status.value for name, job in jobs.items()}
    assert states == {
        "cancelled.wav": "cancelled", "dead.wav": "queued", "failed.wav": "queued", "succeeded.wav": "queued"
    }  # fmt: skip


def test_a_job_whose_own_report_is_there_is_settled(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str, put: Put, report: Report
) -> None:
    # Given a ledger that came back from an old copy: jobs wait or run whose reports were published
    names = ("waits", "ran", "runs", "of another job", "in a batch")
    sources = put([f"{s3_prefix}{name}.wav" for name in names])
    jobs = [submit_job(ledger, source).job for source in sources[:4]]
    batch = submit_batch(ledger, sources[4:])
    ledger.claim(jobs[1], "w/1")
    ledger._redis.zadd(keys.LEASES, {jobs[1].id: 1})  # its lease is over, long ago
    ledger.claim(jobs[2], "w/2")
    keys_ = [report(source, job_id=job.id) for source, job in zip(sources[:3], jobs, strict=False)]
    report(sources[3])
    report(sources[4])
    # When the prefix is reconciled
    assert reconcile(settings, s3_prefix).counts == Counts(found=5, reported=5, settled=2)
    # Then those whose report names them have succeeded, and can be read
    for job, key in zip(jobs[:2], keys_[:2], strict=True):
        state = ledger.get(job.id)
        assert (state.status, state.report) == (JobStatus.SUCCEEDED, ReportLocation(bucket="reports", key=key))
    assert ledger.get(jobs[1].id).attempts[-1].outcome == "succeeded"
    # and those that a worker has, or whose report another job wrote, go their own way
    assert ledger.get(jobs[2].id).status is JobStatus.RUNNING
    assert ledger.get(jobs[3].id).status is JobStatus.QUEUED
    assert ledger.batch(batch.id).queued == 1
    # And a worker that comes with the old message finds the job ended
    assert getattr(ledger.claim(jobs[0], "w/3"), "reason", None) == "ended"


# In trouble


def test_a_full_backlog_stops_it_and_it_goes_on_from_there(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str, put: Put
) -> None:
    put([f"{s3_prefix}{n}.wav" for n in range(8)])
    small = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"max_backlog": 5})})
    run = reconcile(small, s3_prefix)
    assert run.status is ReconcileStatus.FAILED
    assert run.failure is not None
    assert run.failure.code == "backlog_full"
    assert (run.counts.enqueued, len(queued(ledger))) == (5, 5)
    assert reconcile(settings, s3_prefix).counts == Counts(found=8, in_ledger=5, enqueued=3)


def test_a_store_that_goes_away_ends_it_with_a_code(settings: Settings, s3_prefix: str) -> None:
    with FaultyProxy(settings.s3.endpoint_url) as proxy, proxy.failing(Fault(mode=Mode.THROTTLE)):
        s3 = settings.s3.model_copy(update={"endpoint_url": proxy.address})
        run = reconcile(settings.model_copy(update={"s3": s3}), s3_prefix)
    assert run.status is ReconcileStatus.FAILED
    assert run.failure is not None
    assert run.failure.code == "store_unavailable"


def test_one_runs_at_a_time_and_one_whose_process_died_is_interrupted(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str
) -> None:
    wanted = Wanted(bucket="calls", prefix=s3_prefix)
    with closing(Reconciler(settings)) as reconciler, closing(Reconciler(settings)) as other:
        run = reconciler.begin(wanted, MODEL)
        with pytest.raises(ReconciliationRunning):
            other.begin(wanted, MODEL)
        assert other.find(run.id).status is ReconcileStatus.RUNNING
        # When its process dies, its lease ends with time, and others may
        ledger._redis.delete(keys.RECONCILER)
        assert other.find(run.id).status is ReconcileStatus.INTERRUPTED
        later = other.begin(wanted, MODEL)
        # And should it live after all, it steps back
        assert reconciler.carry_out(run).status is ReconcileStatus.INTERRUPTED
        assert other.carry_out(later).status is ReconcileStatus.FINISHED
        assert other.find(later.id).status is ReconcileStatus.FINISHED
        with pytest.raises(ReconciliationNotFound):
            other.find("0" * 32)


def test_a_process_that_ends_lets_others_begin_at_once(settings: Settings, many: tuple[str, list[Source]]) -> None:
    # Given a reconciliation that takes its time
    prefix, _ = many
    wanted = Wanted(bucket="calls", prefix=prefix)
    with FaultyProxy(settings.s3.endpoint_url) as proxy, closing(Reconciler(settings)) as other:
        proxy.fail(Fault(mode=Mode.SLOW, bytes_per_second=200_000))
        s3 = settings.s3.model_copy(update={"endpoint_url": proxy.address})
        reconciler = Reconciler(settings.model_copy(update={"s3": s3}))
        run = reconciler.start(wanted, MODEL)
        wait_until(lambda: other.find(run.id).counts.found > 0, "it has begun")
        # When its process ends in order
        reconciler.close()
        proxy.fail(None)
        assert other.find(run.id).status is ReconcileStatus.INTERRUPTED
        # Then another one begins and goes on from there
        counts = other.carry_out(other.begin(wanted, MODEL)).counts
    assert counts.found == MANY
    assert counts.in_ledger > 0


def test_the_schedule_reconciles_once_among_all_when_a_model_is_warm(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str, put: Put
) -> None:
    put([f"{s3_prefix}a.wav"])
    jobs = settings.jobs.model_copy(
        update={"reconcile_prefixes": (f"s3://calls/{s3_prefix}",), "reconcile_seconds": 60}
    )
    scheduled = settings.model_copy(update={"jobs": jobs})
    with closing(Reconciler(settings)) as reconciler:
        one, two = ReconcileSchedule(scheduled, reconciler), ReconcileSchedule(scheduled, reconciler)
        # Given no warm model, nothing is done; once there is one, one of the two does it
        assert one.step() is False
        ledger._redis.delete(keys.RECONCILE_DUE)  # a minute later
        announce(ledger)
        assert [one.step(), two.step()] == [True, False]
        for schedule in (one, two):
            schedule.stop()
    assert [state.job.source.key for state in queued(ledger)] == [f"{s3_prefix}a.wav"]


# Through the API and the command line


def announce(ledger: ReconcileLedger, model_hash: str = MODEL) -> None:
    """As a warm worker does."""
    now = datetime.now(UTC)
    child = ChildState(
        pid=1, model="mini", model_hash=model_hash, mini=True, engine="torch", device="cpu", precision="fp32",
        threads=1, load_seconds=1, warm_since=now,
    )  # fmt: skip
    worker = WorkerState(
        name=f"w-{model_hash[:2]}", host="h", pid=1, lanes=("live", "bulk"), children=1, warm=(child,), seen_at=now
    )
    ledger.beat(worker, ttl_seconds=60)


def test_the_command_line_reconciles_through_the_api(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str, put: Put, report: Report, tmp_path: Path
) -> None:
    sources = put([f"{s3_prefix}{n}.wav" for n in range(6)])
    report(sources[0])
    with running_api(tmp_path, settings.redis.url.get_secret_value(), settings.s3) as api:

        def warmline(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "warmline.cli.main", "reconcile", *arguments]
            environment = {**os.environ, "WARMLINE_API_URL": api.url}
            return subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path,
                timeout=60,
            )  # fmt: skip

        asked = {"bucket": "calls", "prefix": s3_prefix}

        def refusal(body: dict[str, object]) -> tuple[int, str]:
            answer = httpx.post(f"{api.url}/v1/reconciliations", json=body, trust_env=False, timeout=60)
            return answer.status_code, answer.json()["code"]

        # Given no warm worker, or two models, it cannot be known which report a call should have
        done = warmline(f"s3://calls/{s3_prefix}")
        assert (done.returncode, "[not_ready]" in done.stderr) == (1, True)
        announce(ledger, "cd" * 32)
        announce(ledger)
        assert refusal(asked) == (503, "not_ready")
        ledger.leave("w-cd")
        # When one is warm, then it says what it found and did
        done = warmline(f"s3://calls/{s3_prefix}")
        assert done.stdout == "6 calls: 1 have their report, 0 are in the ledger already, 5 enqueued\n"
        assert done.returncode == 0, done.stderr
        # And other options are another question
        done = warmline(f"s3://calls/{s3_prefix}", "--granularity", "frame", "--hop", "2", "--exclude", "0:05-9")
        assert done.stdout.startswith("6 calls: 0 have their report, "), done.stderr
        (newest,) = httpx.get(f"{api.url}/v1/jobs?limit=1", trust_env=False, timeout=60).json()["jobs"]
        assert newest["job"]["options"] == {
            "granularity": "frame", "hop_seconds": 2.0, "roles": [],
            "exclude": [{"start_seconds": 5.0, "end_seconds": 9.0}],
        }  # fmt: skip
        # And what cannot be asked is refused
        assert refusal(asked | {"bucket": "payroll"}) == (403, "bucket_not_allowed")
        assert refusal(asked | {"options": {"granularity": "word"}}) == (422, "invalid_request")
        answer = httpx.get(f"{api.url}/v1/reconciliations/{'0' * 32}", trust_env=False, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (404, "reconciliation_not_found")


def test_what_a_worker_publishes_is_what_is_looked_for(
    worker_settings: NewSettings, redis_url: str, put: Put, store: ObjectStore, s3_prefix: str, tmp_path: Path
) -> None:
    # Given a real worker, and calls that nobody submitted
    for n in range(3):
        store.put_call("calls", f"{s3_prefix}call {n}.wav", CALL)
    settings = worker_settings(redis_url, results="s3")
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_warm()
        ((child,),) = (state.warm for state in worker.ledger.workers())
        asked = Wanted(bucket="calls", prefix=s3_prefix)
        with closing(Reconciler(settings)) as reconciler:
            # When they are reconciled and scored
            first = reconciler.carry_out(reconciler.begin(asked, child.model_hash))
            assert first.counts == Counts(found=3, enqueued=3)
            jobs = worker.ledger.list(limit=10)
            for state in jobs:
                ended = worker.wait_finished(state.job.id)
                assert ended.status is JobStatus.SUCCEEDED
                assert ended.report is not None
                assert state.job.id == job_id_for(ended.report.key or "")
            # Then they have the reports that were looked for
            assert reconciler.carry_out(reconciler.begin(asked, child.model_hash)).counts == Counts(
                found=3, reported=3
            )


def test_a_job_that_a_plain_client_sends_is_not_doubled(
    settings: Settings, ledger: ReconcileLedger, s3_prefix: str, put: Put
) -> None:
    # Given a job that entered the ledger when it was claimed
    (source,) = put([f"{s3_prefix}a.wav"])
    ledger.claim(Job(id=uuid.uuid4().hex, source=source, created_at=datetime.now(UTC)), "w/1")
    assert reconcile(settings, s3_prefix).counts == Counts(found=1, in_ledger=1)
