"""What a bulk upload does to live jobs: thousands of recordings are put into the bucket, and drip into their lane.

    python -m benchmarks.upload_drip [--uploads 2000] [--per-minute 600] [--jobs 60] [--model mini] [--json FILE]

Starts the one-machine stack in a fresh directory with a pace for uploads' jobs, and measures how long live jobs
wait: before the upload, while it goes on, and while its jobs drip into the bulk lane. Then it waits until every
upload has its job in the ledger, and says how many jobs the lane got in how long. Goals: a live p95 below twice
that of the idle stack plus the time of one window; every upload has one job; the lane's pace is the one asked for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.live_waiting import CALL, measure_idle, p95, stack_settings, wait_for_jobs
from benchmarks.machine import look_at_facts
from config.settings import Settings
from warmline.cli.api_client import ApiClient
from warmline.jobs import keys
from warmline.jobs.records import JobStatus
from warmline.local.stack import running_stack
from warmline.objects.store import ObjectStore

LIVE_KEY = "submitted/live.wav"  # no upload's job: it is submitted
UPLOADERS = 8
CALL_SECONDS = 0.5
ENTERED_SECONDS = 600.0  # longest wait for all uploads to be in the ledger


def main() -> int:
    """Runs the measurement and prints it; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="as WARMLINE_MODEL")
    parser.add_argument("--uploads", type=int, default=2000, help="recordings that are uploaded")
    parser.add_argument("--per-minute", type=int, default=600, help="as WARMLINE_TRIGGERS_JOBS_PER_MINUTE")
    parser.add_argument("--jobs", type=int, default=60, help="live jobs in each of the three runs")
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
        ledger = _Books(stack.settings)
        before = ledger.count()
        recording = Path(data) / "short.wav"
        _write_short(recording)
        started = time.monotonic()
        with _uploading(stack.settings, recording, uploads) as progress:
            during: list[float] = []
            while progress.running and len(during) < jobs:
                during += wait_for_jobs(api, live, 1)[0]
        upload_seconds = time.monotonic() - started
        while (found := ledger.count()["all"] - before["all"] - len(during)) < uploads:
            if time.monotonic() - started > upload_seconds + ENTERED_SECONDS:
                break
            time.sleep(0.05)
        entered_seconds = time.monotonic() - started
        ended, since = ledger.count()["ended"], time.monotonic()
        dripping, _ = wait_for_jobs(api, live, jobs)
        bulk_ended = ledger.count()["ended"] - ended - len(dripping)
        drip_seconds = time.monotonic() - since
        redis_bytes = ledger.used_bytes
    return {
        "machine": facts.to_json(),
        "model": name,
        "window_seconds": window_seconds,
        "idle_seconds": idle,
        "during_upload_seconds": during,
        "dripping_seconds": dripping,
        "uploads": uploads,
        "upload_seconds": upload_seconds,
        "entered": found,
        "entered_seconds": entered_seconds,
        "per_minute_asked": per_minute,
        "per_minute_ended": 60 * bulk_ended / drip_seconds,
        "redis_bytes": redis_bytes,
    }


def _print(figures: dict[str, Any]) -> bool:
    machine = figures["machine"]
    print(f"machine         {machine['cpu']}, {machine['cores']} cores, load {machine['load_average']}")
    print(f"started         {machine['started_at']}")
    print(f"model           {figures['model']}, one window {figures['window_seconds'] * 1000:.0f} ms")
    goal = 2 * p95(figures["idle_seconds"]) + figures["window_seconds"]
    reached = True
    for name in ("idle", "during_upload", "dripping"):
        seconds = figures[f"{name}_seconds"]
        reached &= name == "idle" or p95(seconds) < goal
        print(
            f"{name:<15} median {statistics.median(seconds) * 1000:.0f} ms, p95 {p95(seconds) * 1000:.0f} ms,"
            f" most {max(seconds) * 1000:.0f} ms of {len(seconds)} live jobs"
        )
    print(f"goal            p95 below {goal * 1000:.0f} ms: {'reached' if reached else 'MISSED'}")
    lost = figures["uploads"] - figures["entered"]
    later = figures["entered_seconds"] - figures["upload_seconds"]
    print(
        f"uploads         {figures['uploads']} in {figures['upload_seconds']:.1f} s, all but {lost} in the ledger"
        f" {later:.1f} s later; Redis {figures['redis_bytes'] / 1e6:.0f} MB"
    )
    print(f"pace            {figures['per_minute_ended']:.0f} a minute of {figures['per_minute_asked']} asked for")
    return reached and lost == 0


def _write_short(path: Path) -> None:
    import soundfile

    samples, rate_hz = soundfile.read(CALL)
    soundfile.write(path, samples[: int(CALL_SECONDS * rate_hz)], rate_hz, subtype="ULAW")


class _Progress:
    """Of an upload that goes on in other threads."""

    def __init__(self) -> None:
        self.running = True


@contextmanager
def _uploading(settings: Settings, recording: Path, uploads: int) -> Iterator[_Progress]:
    """Puts the recording under as many keys; the block's end waits for it."""
    store, bucket, progress = ObjectStore(settings.s3), settings.s3.source_buckets[0], _Progress()

    def upload() -> None:
        places = (f"night/{n // 1000:03}/call-{n:06}.wav" for n in range(uploads))
        with ThreadPoolExecutor(UPLOADERS) as pool:
            while some := list(itertools.islice(places, 1000)):
                list(pool.map(lambda key: store.put_call(bucket, key, recording), some))
        progress.running = False

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        yield progress
    finally:
        thread.join()
        store.close()


class _Books:
    """Counts jobs where the ledger has them."""

    def __init__(self, settings: Settings) -> None:
        import redis

        self._redis: Any = redis.Redis.from_url(settings.redis.url.get_secret_value())

    def count(self) -> dict[str, int]:
        """Jobs that are known, and of those the ones that have ended."""
        counts = {status: int(self._redis.zcard(keys.jobs(status))) for status in JobStatus}
        return {"all": sum(counts.values()), "ended": sum(n for status, n in counts.items() if status.finished)}

    @property
    def used_bytes(self) -> int:
        """Redis's memory."""
        return int(self._redis.info("memory")["used_memory"])


if __name__ == "__main__":
    sys.exit(main())
