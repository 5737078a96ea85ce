"""How long until the stack is ready, and whether the first job is as quick as the next ones.

    python benchmarks/warm_start.py [--model mini] [--jobs 11] [--json FILE]

Starts the one-machine stack in a fresh directory and submits a sample call `--jobs` times, one after another, each
time played a little faster: no two calls have windows of the same lengths, as in life, where nobody's second call
finds the kernels that the first one built. A job's time is the ledger's: accepted by the API until its report was
published. Prints the first job's latency beside the median of the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import soundfile
import soxr

from config.settings import load_settings
from warmline.cli.api_client import ApiClient
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobStatus
from warmline.local.stack import running_stack
from warmline.objects.store import ObjectStore

CALL = Path(__file__).parents[1] / "samples" / "calls" / "call-001-billing.wav"


def main() -> None:
    """Runs the measurement and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="as WARMLINE_MODEL")
    parser.add_argument("--jobs", type=int, default=11, help="jobs in all, the first included")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        figures = measure(arguments.model, arguments.jobs, data)
    print(f"machine                    {figures['machine']}, {figures['date']}")
    print(f"model                      {figures['model']}")
    print(f"start to ready             {figures['ready_seconds']:.1f} s (Valkey, S3, API, warm worker, Flower)")
    print(f"  of it loading the model  {figures['load_seconds']:.2f} s in each child")
    print(f"first job                  {figures['first_seconds'] * 1000:.0f} ms")
    print(f"median of the next {arguments.jobs - 1:<2}      {figures['median_seconds'] * 1000:.0f} ms")
    print(f"first / median             {figures['first_seconds'] / figures['median_seconds']:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(model: str, jobs: int, data: str) -> dict[str, Any]:
    """Seconds until ready, of loading, of the first job, and the median of the others."""
    settings = load_settings(
        with_stack=False,
        WARMLINE_STACK_DATA_DIR=data,
        WARMLINE_STACK_EMBED_REDIS="true",
        WARMLINE_STACK_EMBED_S3="true",
        WARMLINE_STACK_TRIGGERS="false",  # calls are submitted by hand, each as often as it takes
        WARMLINE_MODEL=model,
    )
    started = time.perf_counter()
    with running_stack(settings) as stack:
        ready_seconds = time.perf_counter() - started
        store = ObjectStore(stack.settings.s3)
        bucket = stack.settings.s3.source_buckets[0]
        with ApiClient(stack.settings.api) as api:
            latencies, report_model = [], ""
            for number in range(jobs):
                key = f"warm-start/{number}.wav"
                store.put_call(bucket, key, _faster(CALL, 1 + 0.002 * number, Path(data) / "call.wav"))
                job_id = api.submit_job({"source": {"bucket": bucket, "key": key}})
                latencies.append(_latency_seconds(api, job_id))
                report_model = api.report(job_id).provenance.model.name
        ledger = Ledger.connect(stack.settings.redis, stack.settings.jobs)
        load = max(child.load_seconds for worker in ledger.workers() for child in worker.warm)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "model": report_model,
        "ready_seconds": ready_seconds,
        "load_seconds": load,
        "first_seconds": latencies[0],
        "median_seconds": statistics.median(latencies[1:]),
    }


def _faster(call: Path, factor: float, to: Path) -> Path:
    """The call in `to`, played `factor` times as fast."""
    samples, rate = soundfile.read(call, dtype="float32")
    soundfile.write(to, soxr.resample(samples, rate * factor, rate), rate, subtype="PCM_16")
    return to


def _latency_seconds(api: ApiClient, job_id: str) -> float:
    while not (state := api.job(job_id)).status.finished:
        time.sleep(0.02)
    if state.status is not JobStatus.SUCCEEDED or state.finished_at is None:
        raise SystemExit(f"the job did not succeed: {state.failure}")
    return (state.finished_at - state.job.created_at).total_seconds()


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
