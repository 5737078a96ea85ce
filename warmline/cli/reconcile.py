"""`warmline reconcile`: every call below a prefix is to have its report."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from config.settings import load_settings
from warmline.cli import consoles, job_options
from warmline.cli.api_client import ApiClient
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.reconciliation import Counts, ReconcileStatus, Reconciliation

POLL_SECONDS = 0.3
NOTES = {
    ReconcileStatus.FAILED: "what was entered until then stays; run it again to go on",
    ReconcileStatus.INTERRUPTED: "the API's process that did it is gone; run it again to go on",
}


def reconcile(
    prefix: Annotated[str, typer.Argument(help="s3://bucket/prefix/ of calls that are all to have a report.")],
    lane: Annotated[str, typer.Option(help="live (soon) or bulk (in turn).")] = "bulk",
    granularity: job_options.Granularity = "segment",
    hop: job_options.Hop = None,
    roles: job_options.Roles = "",
    exclude: job_options.Exclude = "",
    embedding: job_options.Embedding = "none",
    split_speakers: job_options.SplitSpeakers = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also run again what an earlier one entered and what failed.")
    ] = False,
    by_rules: Annotated[
        bool, typer.Option("--by-rules", help="As the rules for uploads say: which calls, options and lane.")
    ] = False,
) -> None:
    """Enters jobs for the calls that have no report yet. Run it as often as you like: it enters nothing twice."""
    bucket, _, key_prefix = prefix.removeprefix("s3://").partition("/")
    if not prefix.startswith("s3://") or not bucket:
        raise InvalidRequest(f"{prefix} is not s3://bucket/prefix/")
    options = job_options.read_options(
        granularity=granularity,
        hop=hop,
        roles=roles,
        exclude=exclude,
        embedding=embedding,
        split_speakers=split_speakers,
    )
    body: dict[str, Any] = {
        "bucket": bucket,
        "prefix": key_prefix,
        "lane": lane,
        "options": options.model_dump(mode="json"),
        "retry_failed": retry_failed,
        "by_rules": by_rules,
    }
    with ApiClient(load_settings().api) as api:
        run = _follow(api, api.reconcile(body))
    consoles.results().print(summary(run.counts))
    if run.status is not ReconcileStatus.FINISHED:
        why = f"{run.failure.message} [{run.failure.code}]; " if run.failure else ""
        consoles.notes().print(f"{run.status.value}: {why}{NOTES[run.status]}", style="red", **PLAIN)
        raise typer.Exit(1)


def summary(counts: Counts) -> str:
    """One line: how many calls there are, and what became of each."""
    parts = [
        f"{counts.found:,} calls: {counts.reported:,} have their report",
        f"{counts.in_ledger:,} are in the ledger already",
        f"{counts.enqueued:,} enqueued",
    ]
    if counts.replayed:
        parts.append(f"{counts.replayed:,} run again")
    if counts.settled:
        parts.append(f"{counts.settled:,} jobs settled")
    return ", ".join(parts)


def _follow(api: ApiClient, run_id: str) -> Reconciliation:
    """A bar whose end is what was found so far: nobody knows before how many calls there are."""
    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task("comparing", total=None)
        while (run := api.reconciliation(run_id)).status is ReconcileStatus.RUNNING:
            bar.update(task, completed=run.counts.found, description=f"{run.counts.enqueued:,} enqueued")
            time.sleep(POLL_SECONDS)
        bar.update(task, completed=run.counts.found, total=max(1, run.counts.found), description=run.status.value)
    return run
