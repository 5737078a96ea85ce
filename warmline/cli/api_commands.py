"""Commands that speak to the API: submit, watch, cancel, jobs, batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from config.settings import Settings, load_settings
from warmline.cli import consoles, job_options, job_tables, tables
from warmline.cli.api_client import ApiClient, ApiProblem
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import InvalidRequest, JobNotFound
from warmline.jobs.records import BatchState, JobState, JobStatus

POLL_SECONDS = 0.3
SUBMITTED = "submitted/"  # one of WARMLINE_TRIGGERS_IGNORE_PREFIXES: it is submitted here, and not by its upload
ENDED_BADLY = (JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED)

JobOrBatchId = Annotated[str, typer.Argument(help="A batch's or a job's id.")]


def submit(
    calls: Annotated[
        list[str],
        typer.Argument(help="s3://bucket/key, s3://bucket/prefix/ (all under it), or files to upload first."),
    ],
    lane: Annotated[str, typer.Option(help="live (soon) or bulk (in turn).")] = "bulk",
    granularity: job_options.Granularity = "segment",
    hop: job_options.Hop = None,
    roles: job_options.Roles = "",
    exclude: job_options.Exclude = "",
    embedding: job_options.Embedding = "none",
    split_speakers: job_options.SplitSpeakers = False,
    metadata: Annotated[
        list[str] | None, typer.Option(help="name=value, kept with the report; may be repeated.")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--watch", help="Wait until all have ended; then the exit code is 0 only when all succeeded."
        ),
    ] = False,
) -> None:
    """Submits calls as one batch; prints the batch's id."""
    settings = load_settings()
    options = job_options.read_options(
        granularity=granularity,
        hop=hop,
        roles=roles,
        exclude=exclude,
        embedding=embedding,
        split_speakers=split_speakers,
    )
    body: dict[str, Any] = {
        "options": options.model_dump(mode="json"),
        "metadata": dict(_pair(text) for text in metadata or ()),
        "lane": lane,
    }
    prefixes = [call for call in calls if call.startswith("s3://") and call.endswith("/")]
    if prefixes and len(calls) > 1:
        raise InvalidRequest("a prefix is a batch of its own: submit it alone")
    if prefixes:
        bucket, prefix = _bucket_and_key(prefixes[0])
        body |= {"bucket": bucket, "prefix": prefix}
    else:
        body["jobs"] = [{"source": source} for source in _sources(calls, settings)]
    with ApiClient(settings.api) as api:
        batch_id = api.submit_batch(body)
        consoles.results().print(batch_id)
        if wait:
            _show_batch(api, follow_batch(api, batch_id))


def watch(id: JobOrBatchId) -> None:  # noqa: A002 - the name users see
    """Waits for a batch or a job with a progress bar; exit code 0 only when all of it succeeded."""
    with ApiClient(load_settings().api) as api:
        found = _job_or_batch(id, api.job, api.batch)
        if isinstance(found, JobState):
            _show_job(api, follow_job(api, found))
        else:
            _show_batch(api, follow_batch(api, id))


def cancel(id: JobOrBatchId) -> None:  # noqa: A002 - the name users see
    """Cancels a job or a batch: what waits at once, what runs after the window it is at. What has ended stays."""
    with ApiClient(load_settings().api) as api:
        found = _job_or_batch(id, api.cancel, api.cancel_batch)
    if isinstance(found, BatchState):
        line = f"{job_tables.outcome(found)}; {found.running} running, which stop soon"
    else:
        line = "stops soon" if found.cancel_requested and not found.status.finished else found.status.value
    consoles.results().print(line, **PLAIN)


def jobs(
    status: Annotated[
        str, typer.Option(help="queued, running, succeeded, failed, cancelled or dead; empty: all.")
    ] = "",
    batch: Annotated[str, typer.Option(help="Only the jobs of this batch.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
) -> None:
    """Lists jobs, the last submitted first, whenever they end."""
    params: dict[str, str | int] = {"limit": limit} | ({"status": status} if status else {})
    with ApiClient(load_settings().api) as api:
        rows = api.batch_jobs(batch, **params) if batch else api.jobs(**params)
    job_tables.show_jobs(consoles.results(), rows)


def batches(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
) -> None:
    """Lists batches, newest first."""
    with ApiClient(load_settings().api) as api:
        rows = api.batches(limit=limit)
    job_tables.show_batches(consoles.results(), rows)


def follow_batch(api: ApiClient, batch_id: str) -> BatchState:
    """Shows a progress bar until every job of the batch has ended."""
    state = api.batch(batch_id)
    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task("calls", total=state.total)
        while not state.finished:
            bar.update(task, completed=state.ended)
            time.sleep(POLL_SECONDS)
            state = api.batch(batch_id)
        bar.update(task, completed=state.total)
    return state


def follow_job(api: ApiClient, state: JobState) -> JobState:
    """Shows a progress bar of the job's windows until it has ended."""
    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task(state.status, total=None)
        while not state.status.finished:
            if state.progress:
                windows = state.progress
                bar.update(
                    task,
                    description=f"{state.status} ({windows.stage})",
                    completed=windows.windows_done,
                    total=windows.windows_total or None,
                )
            time.sleep(POLL_SECONDS)
            state = api.job(state.job.id)
        bar.update(task, description=state.status)
    return state


def _show_job(api: ApiClient, state: JobState) -> None:
    if state.status is not JobStatus.SUCCEEDED:
        consoles.notes().print(f"{state.job.source.uri}: {_ending(state)}", style="red", **PLAIN)
        raise typer.Exit(1)
    tables.print_report(consoles.results(), api.report(state.job.id))


def _show_batch(api: ApiClient, state: BatchState) -> None:
    out = consoles.notes()
    out.print(job_tables.outcome(state))
    if state.succeeded < state.total:
        for status in ENDED_BADLY:
            for row in api.batch_jobs(state.id, status=status.value, limit=20):
                out.print(f"{row.job.source.uri}: {_ending(row)}", style="red", **PLAIN)
        raise typer.Exit(1)


def _ending(state: JobState) -> str:
    return job_tables.note(state) or state.status.value


def _job_or_batch(
    id_: str, job: Callable[[str], JobState], batch: Callable[[str], BatchState]
) -> JobState | BatchState:
    """What the API says of the job with this id or, where there is none, of the batch."""
    try:
        return job(id_)
    except ApiProblem as problem:
        if problem.code != JobNotFound.code:
            raise
        return batch(id_)


def _sources(calls: Iterable[str], settings: Settings) -> list[dict[str, str]]:
    """Where each call lies in S3; local files are uploaded to the first source bucket, below SUBMITTED."""
    from warmline.objects.store import ObjectStore  # boto3 takes 0.3 s to import

    sources = []
    store: ObjectStore | None = None
    for call in calls:
        if call.startswith("s3://"):
            bucket, key = _bucket_and_key(call)
        else:
            path = Path(call)
            if not path.is_file():
                raise InvalidRequest(f"{call} is neither a file nor s3://bucket/key")
            store = store or ObjectStore(settings.s3)
            bucket, key = settings.s3.source_buckets[0], f"{SUBMITTED}{path.name}"
            store.put_call(bucket, key, path)
        sources.append({"bucket": bucket, "key": key})
    return sources


def _bucket_and_key(uri: str) -> tuple[str, str]:
    """s3://bucket/key in two. The key is taken as it is written: S3 keys may hold %, ? and #."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise InvalidRequest(f"{uri} is not s3://bucket/key")
    return bucket, key


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidRequest(f"metadata is written name=value, and {text!r} is not")
    return name, value
