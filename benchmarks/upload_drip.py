"""What a bulk upload does to live jobs: thousands of recordings are put into the bucket, and drip into their lane.

    python -m benchmarks.upload_drip [--uploads 2000] [--per-minute 600] [--jobs 60] [--model mini] [--json FILE]

Starts the one-machine stack in a fresh directory with a pace for uploads' jobs. Puts the sample call into the
bucket a few times, one after another: how long from S3's answer to the job, to its child, to its report. Then
measures how long live jobs wait: before the upload, while objects are put where no rule sees them, while the
upload goes on, and while its jobs drip into the bulk lane. Uploaders, S3 and workers share this machine's cores,
so the second and the third say what that costs. Goals: every upload has one job; its jobs keep to the pace; the
live p95 beside them is below twice that of the idle stack plus the time of one window.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.live_waiting import CALL, measure_idle, p95, stack_settings, wait_for_jobs
from benchmarks.machine import look_at_facts
from config.settings import Settings, process_environment
from warmline.cli.api_client import ApiClient, ApiProblem
from warmline.jobs import keys
from warmline.jobs.records import JobState, JobStatus
from warmline.jobs.upload_ledger import upload_job_id
from warmline.local.stack import running_stack
from warmline.objects.store import ObjectStore

LIVE_KEY = "submitted/live.wav"  # no upload's job: it is submitted
UNSEEN_PREFIX, MAX_UNSEEN = "submitted/night/", 4000
CALL_SECONDS = 0.5
ALONE, ALONE_SECONDS = 20, 60.0
ENTERED_SECONDS = 600.0  # longest wait for all uploads to be in the ledger


def main() -> int:
    """Runs the measurement and prints it; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="as WARMLINE_MODEL")
    parser.add_argument("--uploads", type=int, default=2000, help="recordings that are uploaded")
    parser.add_argument("--per-minute", type=int, default=600, help="as WARMLINE_TRIGGERS_JOBS_PER_MINUTE")
    parser.add_argument("--jobs", type=int, default=60, help="live jobs before the upload, and while it drips")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        figures = measure(arguments.model, arguments.uploads, arguments.per_minute, arguments.jobs, data)
    reached = _print(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if reached else 1


def measure(model: str, uploads: int, per_minute: int, jobs: int, data: str) -> dict[str, Any]:
    """Waiting seconds of live jobs in the three states, and what became of the uploads."""
    facts = look_at_facts()
    settings = stack_settings(model, data, WARMLINE_TRIGGERS_JOBS_PER_MINUTE=str(per_minute))
    with running_stack(settings) as stack, ApiClient(stack.settings.api) as api:
        bucket = stack.settings.s3.source_buckets[0]
        live = {"bucket": bucket, "key": LIVE_KEY}
        idle, window_seconds, name = measure_idle(stack.settings, api, live, jobs)
        alone = _upload_alone(stack.settings, api, Path(data))
        ledger = _Books(stack.settings)
        recording = Path(data) / "short.wav"
        _write_short(recording)
        beside, _ = _upload(stack.settings, api, live, recording, min(uploads, MAX_UNSEEN), UNSEEN_PREFIX)
        before = ledger.count()
        started = time.monotonic()
        during, upload_seconds = _upload(stack.settings, api, live, recording, uploads, "night/")
        while (found := ledger.count() - before - len(during)) < uploads:
            if time.monotonic() - started > upload_seconds + ENTERED_SECONDS:
                break
            time.sleep(0.05)
        entered_seconds = time.monotonic() - started
        held, since = ledger.held, time.monotonic()
        dripping, _ = wait_for_jobs(api, live, jobs)
        released, drip_seconds = held - ledger.held, time.monotonic() - since
        redis_bytes = ledger.used_bytes
    return {
        "machine": facts.to_json(),
        "model": name,
        "window_seconds": window_seconds,
        "idle_seconds": idle,
        "alone": alone,
        "upload_unseen_seconds": beside,
        "during_upload_seconds": during,
        "dripping_seconds": dripping,
        "uploads": uploads,
        "upload_seconds": upload_seconds,
        "entered": found,
        "entered_seconds": entered_seconds,
        "per_minute_asked": per_minute,
        "per_minute": 60 * released / drip_seconds,
        "redis_bytes": redis_bytes,
    }


def _print(figures: dict[str, Any]) -> bool:
    machine = figures["machine"]
    print(f"machine         {machine['cpu']}, {machine['cores']} cores, load {machine['load_average']}")
    print(f"started         {machine['started_at']}")
    print(f"model           {figures['model']}, one window {figures['window_seconds'] * 1000:.0f} ms")
    for name, seconds in figures["alone"].items():
        milliseconds = [each * 1000 for each in seconds]
        print(
            f"{name:<15} median {statistics.median(milliseconds):.1f} ms, most {max(milliseconds):.1f} ms after"
            f" S3's answer, of {len(seconds)} uploads, one after another"
        )
    goal = 2 * p95(figures["idle_seconds"]) + figures["window_seconds"]
    reached = p95(figures["dripping_seconds"]) < goal
    for name in ("idle", "upload_unseen", "during_upload", "dripping"):
        seconds = figures[f"{name}_seconds"]
        print(
            f"{name:<15} median {statistics.median(seconds) * 1000:.0f} ms, p95 {p95(seconds) * 1000:.0f} ms,"
            f" most {max(seconds) * 1000:.0f} ms of {len(seconds)} live jobs"
        )
    print(f"goal            dripping's p95 below {goal * 1000:.0f} ms: {'reached' if reached else 'MISSED'}")
    lost = figures["uploads"] - figures["entered"]
    later = figures["entered_seconds"] - figures["upload_seconds"]
    print(
        f"uploads         {figures['uploads']} in {figures['upload_seconds']:.1f} s, all but {lost} in the ledger"
        f" {later:.1f} s later; Redis {figures['redis_bytes'] / 1e6:.0f} MB"
    )
    print(f"pace            {figures['per_minute']:.0f} a minute of {figures['per_minute_asked']} asked for")
    return bool(reached and lost == 0)


def _write_short(path: Path) -> None:
    import soundfile

    samples, rate_hz = soundfile.read(CALL)
    soundfile.write(path, samples[: int(CALL_SECONDS * rate_hz)], rate_hz, subtype="ULAW")


def _upload_alone(settings: Settings, api: ApiClient, directory: Path) -> dict[str, list[float]]:
    """Seconds from S3's answer until the job is in the ledger, is claimed, and has its report."""
    import numpy
    import soundfile

    samples, rate_hz = soundfile.read(CALL)
    seconds: dict[str, list[float]] = {"entered": [], "claimed": [], "reported": []}
    with closing(ObjectStore(settings.s3)) as store:
        for number in range(ALONE):
            file = directory / f"alone-{number}.wav"
            soundfile.write(file, numpy.roll(samples, number, axis=0), rate_hz, subtype="ULAW")
            source = store.put_call(settings.s3.source_buckets[0], f"alone/{number}.wav", file)
            answered = datetime.now(UTC)
            job_id = upload_job_id(source.bucket, source.key, store.head(source).etag)
            state = _ended(api, job_id)
            moments = {
                "entered": state.job.created_at,
                "claimed": state.started_at,
                "reported": state.finished_at,
            }
            for name, moment in moments.items():
                if moment is None:
                    raise SystemExit(f"the job did not succeed: {state.failure}")
                seconds[name].append((moment - answered).total_seconds())
    return seconds


def _ended(api: ApiClient, job_id: str) -> JobState:
    deadline = time.monotonic() + ALONE_SECONDS
    while time.monotonic() < deadline:
        with suppress(ApiProblem):  # it is not there yet
            state = api.job(job_id)
            if state.status.finished:
                return state
        time.sleep(0.01)
    raise SystemExit("an upload had no report in time")


def _upload(
    settings: Settings, api: ApiClient, live: dict[str, str], recording: Path, uploads: int, prefix: str
) -> tuple[list[float], float]:
    """Puts the recording under as many keys, live jobs meanwhile: their waiting, and how long the upload took."""
    command = [sys.executable, "-m", "benchmarks.upload_many", str(recording), prefix, str(uploads)]
    started, waits = time.monotonic(), list[float]()
    with subprocess.Popen(command, env=process_environment(settings)) as uploader:
        while uploader.poll() is None:
            waits += wait_for_jobs(api, live, 1)[0]
        if uploader.returncode:
            raise SystemExit("the upload failed")
    return waits, time.monotonic() - started


class _Books:
    """Counts jobs where the ledger has them."""

    def __init__(self, settings: Settings) -> None:
        import redis

        self._redis: Any = redis.Redis.from_url(settings.redis.url.get_secret_value())

    def count(self) -> int:
        """Jobs that are known."""
        return sum(int(self._redis.zcard(keys.jobs(status))) for status in JobStatus)

    @property
    def held(self) -> int:
        """Jobs that wait for their turn in the pace."""
        return int(self._redis.zcard(keys.HELD))

    @property
    def used_bytes(self) -> int:
        """Redis's memory."""
        return int(self._redis.info("memory")["used_memory"])


if __name__ == "__main__":
    sys.exit(main())
