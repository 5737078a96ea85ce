"""`warmline demo`: a minute's tour on real servers. The code path is that of production; only addresses differ."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from config.settings import Settings, load_settings
from warmline.calls.report import Report
from warmline.cli import consoles, tables
from warmline.cli.api_client import ApiClient
from warmline.cli.api_commands import follow_batch
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import BatchState, JobState

SAMPLES = Path(__file__).parents[2] / "samples" / "calls"
ROLES = ("agent", "customer")


def demo(
    calls: Annotated[list[Path] | None, typer.Argument(help="Your own recordings instead of the samples.")] = None,
    data: Annotated[Path, typer.Option(help="Where the demo keeps its servers' data and the reports.")] = Path(
        ".warmline/demo"
    ),
) -> None:
    """Starts the one-machine stack, scores the sample calls through S3, API, queue and worker, and stops it."""
    from warmline.cli.stack_view import StackView  # with the stack, a third of a second of every command's start
    from warmline.local.stack import running_stack

    started = time.perf_counter()
    files = sorted(calls or (path for path in SAMPLES.iterdir() if path.is_file()))
    if missing := [path for path in files if not path.is_file()]:
        raise InvalidRequest(f"{missing[0]} is not a file")
    settings = load_settings(
        with_stack=False,
        WARMLINE_STACK_DATA_DIR=str(data),
        WARMLINE_STACK_EMBED_REDIS="true",
        WARMLINE_STACK_EMBED_S3="true",
        WARMLINE_STACK_TRIGGERS="false",  # the calls are submitted below, as one batch
    )
    notes = consoles.notes()
    with StackView(notes, logs=False) as view, running_stack(settings, on_event=view) as stack:
        view.stop_moving()
        state, finished = _score(files, stack.settings, notes)
        reports = _save(finished, stack.settings, data / "reports")
    _show(state, finished, reports, data)
    notes.print(
        f"\nAll of it, servers included, took {time.perf_counter() - started:.0f} s. Everything is stopped again."
    )
    analyze = f"{consoles.command()} analyze FILE"
    notes.print(f"Keep the stack with [bold]make serve[/]; score a file with [bold]{analyze}[/].")
    if state.succeeded < state.total:
        raise typer.Exit(1)


def _score(files: list[Path], settings: Settings, notes: Console) -> tuple[BatchState, list[JobState]]:
    """Uploads the files, submits them as one batch, and waits for its jobs."""
    from warmline.objects.store import ObjectStore

    store = ObjectStore(settings.s3)
    bucket = settings.s3.source_buckets[0]
    keys = [f"demo/{path.name}" for path in files]
    for path, key in zip(files, keys, strict=True):
        store.put_call(bucket, key, path)
    notes.print(f"uploaded {len(files)} calls to s3://{bucket}/demo/, submitting them as a batch")
    with ApiClient(settings.api) as api:
        batch_id = api.submit_batch(
            {
                "jobs": [{"source": {"bucket": bucket, "key": key}} for key in keys],
                "options": {"roles": ROLES},
                "metadata": {"from": "warmline demo"},
            }
        )
        state = follow_batch(api, batch_id)
        jobs = api.batch_jobs(batch_id, limit=max(len(files), 1))
    return state, sorted(jobs, key=lambda job: job.job.source.key)


def _save(jobs: list[JobState], settings: Settings, directory: Path) -> dict[str, Report]:
    """Fetches the reports by job id and keeps a copy of each as a file, for a look after the servers are gone."""
    directory.mkdir(parents=True, exist_ok=True)
    reports = {}
    with ApiClient(settings.api) as api:
        for job in jobs:
            if job.report:
                report = reports[job.job.id] = api.report(job.job.id)
                copy = directory / f"{Path(job.job.source.key).name}.json"
                copy.write_text(report.model_dump_json(indent=2) + "\n")
    return reports


def _show(state: BatchState, jobs: list[JobState], reports: dict[str, Report], data: Path) -> None:
    out = consoles.results()
    out.print()
    shown = [(Path(job.job.source.key).name, reports[job.job.id]) for job in jobs if job.job.id in reports]
    out.print(tables.calls_table(shown, out.width))
    for job in jobs:
        if job.failure:
            out.print(f"{job.job.source.key}: {job.failure.message} [{job.failure.code}]", style="red", **PLAIN)
    out.print(f"\n{state.succeeded} of {state.total} calls scored. Reports: {data / 'reports'}/*.json, and in S3:")
    for job in jobs[:1]:
        if job.report and job.report.uri:
            out.print(f"  {job.report.uri}", **PLAIN)
    out.print(f"  (served again by: warmline up --data {data})", style="dim", **PLAIN)
