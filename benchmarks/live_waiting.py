"""How long a live job waits for a child, with nothing else to do and with thousands of bulk jobs queued.

    python -m benchmarks.live_waiting [--model mini] [--jobs 60] [--bulk 5000] [--children 0] [--json FILE]

Starts the one-machine stack in a fresh directory and submits a sample call to the live lane `--jobs` times, one
after another; then again with `--bulk` jobs of the same call in the bulk lane, which are cancelled at the end. A
job's waiting is the ledger's: from its acceptance until a child has claimed it. Goal: a p95 below twice that of
the idle stack plus the time of one window, which the child that is kept for live jobs makes possible.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.machine import look_at_facts
from config.settings import Settings, load_settings
from warmline.cli.api_client import ApiClient
from warmline.jobs.records import JobStatus
from warmline.local.stack import running_stack
from warmline.objects.store import ObjectStore

CALL = Path(__file__).parents[1] / "samples" / "calls" / "call-001-billing.wav"
KEY = "live-waiting/call.wav"
UNMEASURED_JOBS = 3


def main() -> int:
    """Runs the measurement and prints it; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="as WARMLINE_MODEL")
    parser.add_argument("--jobs", type=int, default=60, help="live jobs in each of the two runs")
    parser.add_argument("--bulk", type=int, default=5000, help="bulk jobs that wait meanwhile")
    parser.add_argument("--children", type=int, default=0, help="as WARMLINE_WORKER_CHILDREN")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        figures = measure(arguments.model, arguments.jobs, arguments.bulk, arguments.children, data)
    idle, busy = figures["idle_seconds"], figures["busy_seconds"]
    machine = figures["machine"]
    print(f"machine            {machine['cpu']}, {machine['cores']} cores, load {machine['load_average']}")
    print(f"started            {machine['started_at']}")
    print(f"model              {figures['model']}, one window {figures['window_seconds'] * 1000:.0f} ms")
    for name, seconds in (("idle", idle), (f"{arguments.bulk} bulk jobs", busy)):
        median, tail = (statistics.median(seconds) * 1000, p95(seconds) * 1000)
        print(f"{name:<18} median {median:.0f} ms, p95 {tail:.0f} ms, most {max(seconds) * 1000:.0f} ms")
    print(f"bulk jobs ended    {figures['bulk_ended']} meanwhile")
    goal = 2 * p95(idle) + figures["window_seconds"]
    reached = p95(busy) < goal
    print(f"goal               p95 below {goal * 1000:.0f} ms: {'reached' if reached else 'MISSED'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if reached else 1


def measure(model: str, jobs: int, bulk: int, children: int, data: str) -> dict[str, Any]:
    """Waiting seconds of each live job, idle and busy."""
    facts = look_at_facts()
    settings = stack_settings(
        model,
        data,
        WARMLINE_STACK_TRIGGERS="false",  # calls are submitted by hand, each as often as it takes
        WARMLINE_WORKER_CHILDREN=str(children),
    )
    with running_stack(settings) as stack, ApiClient(stack.settings.api) as api:
        source = {"bucket": stack.settings.s3.source_buckets[0], "key": KEY}
        idle, window_seconds, name = measure_idle(stack.settings, api, source, jobs)
        batch_id = api.submit_batch({"jobs": [{"source": source}] * bulk})
        while api.batch(batch_id).succeeded == 0:
            time.sleep(0.05)
        busy, _ = wait_for_jobs(api, source, jobs)
        ended = api.batch(batch_id).ended
        if ended == bulk:
            raise SystemExit("the bulk jobs were over before the live ones: ask for more of them")
        api.cancel_batch(batch_id)
    return {
        "machine": facts.to_json(),
        "model": name,
        "window_seconds": window_seconds,
        "idle_seconds": idle,
        "busy_seconds": busy,
        "bulk_ended": ended,
    }


def stack_settings(model: str, data: str, **variables: str) -> Settings:
    """Of a stack with servers of its own in a fresh directory."""
    of_the_stack = {
        "WARMLINE_STACK_DATA_DIR": data,
        "WARMLINE_STACK_EMBED_REDIS": "true",
        "WARMLINE_STACK_EMBED_S3": "true",
        "WARMLINE_MODEL": model,
    }
    overrides: dict[str, Any] = of_the_stack | variables
    return load_settings(with_stack=False, **overrides)


def measure_idle(
    settings: Settings, api: ApiClient, source: dict[str, str], jobs: int
) -> tuple[list[float], float, str]:
    """Uploads the sample call; each live job's waiting, the seconds that one window takes, the model's name."""
    with closing(ObjectStore(settings.s3)) as store:
        store.put_call(source["bucket"], source["key"], CALL)
    wait_for_jobs(api, source, UNMEASURED_JOBS)
    seconds, last = wait_for_jobs(api, source, jobs)
    report = api.report(last)
    windows = sum(len(channel.windows) for channel in report.channels)
    window_seconds = report.source.duration_seconds / report.provenance.rtfx / windows
    return seconds, window_seconds, report.provenance.model.name


def wait_for_jobs(api: ApiClient, source: dict[str, str], jobs: int) -> tuple[list[float], str]:
    """The waiting of each of so many live jobs, one after another, and the last one's id."""
    seconds, job_id = [], ""
    for _ in range(jobs):
        job_id = api.submit_job({"source": source, "lane": "live"})
        while not (state := api.job(job_id)).status.finished:
            time.sleep(0.02)
        if state.status is not JobStatus.SUCCEEDED or state.started_at is None:
            raise SystemExit(f"the job did not succeed: {state.failure}")
        seconds.append((state.started_at - state.job.created_at).total_seconds())
    return seconds, job_id


def p95(seconds: Sequence[float]) -> float:
    """Of some waits."""
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1]


if __name__ == "__main__":
    sys.exit(main())
