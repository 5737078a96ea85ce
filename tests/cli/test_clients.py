"""The commands that speak to a running stack, and the whole road behind them."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cli.conftest import SAMPLES, Warmline, finished
from tests.pictures_read import words
from tests.servers import is_over, wait_until
from warmline.calls.report import Report
from warmline.cli.api_client import ApiClient
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import ExcludedRange, Options, WorkerState
from warmline.local.processes import find_processes
from warmline.local.stack import Stack
from warmline.local.status import read_status
from warmline.objects.store import ObjectStore


def test_submit_uploads_files_and_waits_for_their_reports(client: Warmline, stack: Stack) -> None:
    # When two local recordings are submitted and watched
    options = ["--roles", "agent,customer", "--granularity", "frame", "--hop", "2.5", "--exclude", "0:04-5.5,0-1"]
    done = client("submit", SAMPLES[0], SAMPLES[3], *options, "--metadata", "campaign=x", "--watch")
    # Then both succeed, the id is all of stdout, and the batch is listed
    assert done.returncode == 0, done.stderr
    batch_id = done.stdout.strip()
    assert len(batch_id) == 32
    assert "2 of 2 succeeded" in done.stderr
    assert batch_id in client("batches").stdout
    # And the logs tell of it
    assert client("logs", "worker", "--batch", batch_id).stdout.count(" job_finished ") == 2
    # And each job's report carries what was submitted with it
    listing = client("jobs", "--batch", batch_id).stdout
    ids = [line.split()[0] for line in listing.splitlines()[1:] if line[:1].strip()]
    reports = [Report.model_validate_json(client("report", job_id, "--json").stdout) for job_id in ids[:2]]
    assert {report.source.key for report in reports} == {f"submitted/{SAMPLES[i].name}" for i in (0, 3)}
    assert all(report.metadata == {"campaign": "x"} for report in reports)
    assert all(report.channels[0].role == "agent" for report in reports)
    asked = Options(
        granularity="frame",
        hop_seconds=2.5,
        roles=("agent", "customer"),
        exclude=(
            ExcludedRange(start_seconds=0, end_seconds=1),
            ExcludedRange(start_seconds=4, end_seconds=5.5),
        ),
    )
    assert all(report.provenance.options == asked for report in reports)
    # And their uploads had no jobs of their own
    with ApiClient(stack.settings.api) as api:
        submitted = [job for job in api.jobs(limit=1000) if job.job.source.key.startswith("submitted/")]
    assert {job.job.id for job in submitted} == set(ids[:2])


def test_reports_are_drawn_by_their_job_their_batch_and_their_call(
    client: Warmline, stack: Stack, tmp_path: Path
) -> None:
    # Given a call that was scored
    batch_id = client("submit", SAMPLES[1], "--roles", "agent,customer", "--watch").stdout.strip()
    job_id = client("jobs", "--batch", batch_id).stdout.splitlines()[1].split()[0]
    call = f"s3://calls/submitted/{SAMPLES[1].name}"
    # When it is drawn by its job, by its batch, by where it lies and by where its report lies
    drawn = {}
    with ApiClient(stack.settings.api) as api:
        location = api.job(job_id).report
    assert location is not None
    keys = {
        "job": job_id,
        "batch": batch_id,
        "call": call,
        "report": location.uri,
        "prefix": "s3://reports/calls/",
    }
    for name, key in keys.items():
        done = client("report", key, "--plot", tmp_path / f"{name}.svg")
        assert done.returncode == 0, done.stderr
        drawn[name] = words((tmp_path / f"{name}.svg").read_text())
    # Then the job and the call are one picture, and the batch has its overview
    assert drawn["job"] == drawn["call"] == drawn["report"]
    assert drawn["job"][0] == SAMPLES[1].name
    assert drawn["batch"][:3] == [f"Batch {batch_id}", "1 call, 31 s of audio", "1 job: 1 succeeded."]
    assert any(word.endswith(SAMPLES[1].name) for word in drawn["prefix"])
    # And a batch without --plot is told of
    done = client("report", batch_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is a batch" in done.stderr


def test_a_prefix_is_a_batch_and_a_bad_object_in_it_fails_alone(
    client: Warmline, stack: Stack, tmp_path: Path
) -> None:
    # Given two objects below a prefix, one of them text
    store = ObjectStore(stack.settings.s3)
    text = tmp_path / "notes.wav"
    text.write_text("not a recording\n")
    store.put_call("calls", "night/good.wav", SAMPLES[4])
    store.put_call("calls", "night/bad.wav", text)
    # When the prefix is submitted and watched
    done = client("submit", "s3://calls/night/", "--watch")
    # Then one succeeds, the other is named with its code, and the exit code is 1
    assert done.returncode == 1
    assert "1 of 2 succeeded, 1 failed" in done.stderr
    assert "s3://calls/night/bad.wav" in done.stderr
    assert "[not_audio]" in done.stderr


def test_an_upload_is_scored_without_a_word_to_us(client: Warmline, stack: Stack) -> None:
    store = ObjectStore(stack.settings.s3)
    with ApiClient(stack.settings.api) as api:

        def job_of(key: str) -> str:
            found: list[str] = []

            def has_job() -> bool:
                found[:] = [state.job.id for state in api.jobs(limit=1000) if state.job.source.key == key]
                return bool(found)

            wait_until(has_job, f"{key} has a job")
            assert len(found) == 1
            return found[0]

        # When a recording is put into the bucket, then it is scored
        store.put_call("calls", "dropped/one.wav", SAMPLES[4])
        one = finished(api, job_of("dropped/one.wav"))
        assert one.report is not None
        assert json.loads(store.get_report(one.report))["source"]["key"] == "dropped/one.wav"
        # And so is one that is put there while the part that looks for them is dead
        part, tail = _uploads_processes(stack)
        part.kill()
        store.put_call("calls", "dropped/two.wav", SAMPLES[4])
        finished(api, job_of("dropped/two.wav"))
        # By another one, and of the first nothing is left
        other_part, other_tail = _uploads_processes(stack)
        assert not {part.pid, tail.pid} & {other_part.pid, other_tail.pid}
        wait_until(lambda: is_over(tail), "it has ended")
    assert "s3://calls" in client("status").stdout


def test_status_fails_for_a_worker_that_is_not_well(client: Warmline, stack: Stack) -> None:
    # Given a stack that is well
    wait_until(lambda: read_status(stack.directory).well, "all is well")
    well = client("status")
    assert well.returncode == 0, well.stdout
    assert re.search(r"^ *lane +waiting +oldest +running", well.stdout, re.MULTILINE), well.stdout
    assert "dead letters:" in well.stdout
    assert re.search(r"^worker-\d+@\S+: ok, (\d+) of \1 children warm", well.stdout, re.MULTILINE), well.stdout
    pages = re.search(r"http://127\.0\.0\.1:\d+/live", well.stdout)
    assert pages, well.stdout
    assert httpx.get(pages[0], trust_env=False, timeout=60).json() == {"status": "alive"}
    # When its worker is frozen
    (worker,) = [psutil.Process(state.pid) for state in _alive(stack)]
    worker.suspend()
    try:
        wait_until(lambda: _alive(stack) == (), "its heart stands still")
        status = client("status")
    finally:
        worker.resume()
    # Then that is told, and what to look at
    assert status.returncode == 1
    assert "missing, see below" in status.stdout
    assert re.search(r"^worker-\d+@\S+: missing", status.stdout, re.MULTILINE)
    assert "No heartbeat for" in status.stdout
    # When it is killed, then another one takes its place, and nobody is missing
    worker.kill()
    successor = lambda: [state.pid for state in _alive(stack) if state.warm] not in ([], [worker.pid])  # noqa: E731
    wait_until(successor, "another worker is warm", seconds=90)
    wait_until(lambda: read_status(stack.directory).well, "and well")


def _alive(stack: Stack) -> tuple[WorkerState, ...]:
    with closing(Ledger.connect(stack.settings.redis, stack.settings.jobs)) as ledger:
        return ledger.workers()


def _uploads_processes(stack: Stack) -> list[psutil.Process]:
    """The part that makes jobs of uploads, and what it started, once both are there."""
    found: list[psutil.Process] = []

    def both() -> bool:
        members = [each.process for each in find_processes(stack.directory) if each.part == "uploads"]
        found[:] = sorted(members, key=lambda process: process.name() == "weed")
        return [process.name() == "weed" for process in found] == [False, True]

    wait_until(both, "one part, and one process that prints S3's log")
    return found


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["submit", "s3://elsewhere/call.wav"], "bucket_not_allowed"),
        (["submit", "s3://calls/a/", "s3://calls/b/"], "invalid_request"),
        (["watch", "0" * 32], "batch_not_found"),
        (["report", "0" * 32], "job_not_found"),
        (["submit", "/nowhere/call.wav"], "invalid_request"),
    ],
)
def test_a_refusal_is_one_line_with_its_code(client: Warmline, arguments: list[str], code: str) -> None:
    done = client(*arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"[{code}]" in done.stderr


def test_with_another_key_it_says_where_the_right_one_is(client: Warmline) -> None:
    done = client("jobs", WARMLINE_API_KEYS="another")
    assert (done.returncode, done.stdout) == (1, "")
    assert "set WARMLINE_API_KEYS" in done.stderr
    assert "[unauthorized]" in done.stderr


def test_without_an_api_it_says_how_to_get_one(warmline: Warmline, tmp_path: Path) -> None:
    done = warmline("jobs", WARMLINE_API_URL="http://127.0.0.1:9", WARMLINE_STACK_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "warmline up" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_report_lies_in_s3_under_a_key_that_the_call_decides(stack: Stack) -> None:
    # Given one call, submitted twice
    store = ObjectStore(stack.settings.s3)
    store.put_call("calls", "twice.wav", SAMPLES[4])
    with ApiClient(stack.settings.api) as api:
        first, second = (
            finished(api, api.submit_job({"source": {"bucket": "calls", "key": "twice.wav"}})) for _ in range(2)
        )
        other = finished(
            api,
            api.submit_job(
                {"source": {"bucket": "calls", "key": "twice.wav"}, "options": {"granularity": "utterance"}}
            ),
        )
    # Then both point at the same report, other options at another, and each is there
    assert first.report is not None
    assert second.report is not None
    assert other.report is not None
    assert first.report.key == second.report.key
    assert first.report.key != other.report.key
    assert json.loads(store.get_report(first.report))["source"]["key"] == "twice.wav"
    assert json.loads(store.get_report(other.report))["provenance"]["options"]["granularity"] == "utterance"
