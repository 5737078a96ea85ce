"""How jobs, attempts and batches look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich.table import Table
from rich.text import Text

from warmline.jobs.records import Attempt, BatchState, Failure, JobState

STYLES = {
    "queued": "dim",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "dead": "bold red",
}


def jobs_table(states: Iterable[JobState]) -> Table:
    """A line for each job."""
    table = _table("id", "status", "lane", "call", "submitted", "note")
    for state in states:
        table.add_row(
            state.job.id,
            Text(state.status, style=STYLES[state.status]),
            state.job.lane,
            Text(state.job.source.uri),
            clock(state.job.created_at),
            Text(note(state)),
        )
    return table


def batches_table(states: Iterable[BatchState]) -> Table:
    """A line for each batch."""
    counts = ("total", "queued", "running", "succeeded", "failed", "cancelled", "dead")
    table = _table("id", "submitted", *counts)
    for state in states:
        table.add_row(state.id, clock(state.created_at), *(str(getattr(state, count)) for count in counts))
    return table


def attempts_table(attempts: Iterable[Attempt]) -> Table:
    """A line for each attempt, oldest first."""
    table = _table("attempt", "worker", "began", "seconds", "outcome", "error")
    for attempt in attempts:
        seconds = (attempt.ended_at - attempt.started_at).total_seconds()
        error = _sentence(attempt.failure) if attempt.failure else ""
        table.add_row(
            str(attempt.number),
            Text(attempt.worker),
            clock(attempt.started_at),
            f"{seconds:.1f}",
            attempt.outcome.replace("_", " "),
            Text(error),
        )
    return table


def facts(state: JobState) -> Iterator[tuple[str, str]]:
    """What is known of a job, by name."""
    yield "id", state.job.id
    yield "call", state.job.source.uri
    yield "status", state.status.value
    yield "lane", state.job.lane
    if state.job.batch_id:
        yield "batch", state.job.batch_id
    yield "submitted", clock(state.job.created_at)
    if state.finished_at:
        yield "ended", clock(state.finished_at)
    if state.failure:
        yield "error", _sentence(state.failure)


def note(state: JobState) -> str:
    """The one thing to know of a job besides its status."""
    if state.retry_at and not state.status.finished:
        reason = f" after {state.failure.code}" if state.failure else ""
        return f"again at {clock(state.retry_at)}{reason}"
    if state.failure:
        return _sentence(state.failure)
    if state.report:
        return state.report.uri or "report in Redis"
    if state.cancel_requested and not state.status.finished:
        return "stops soon"
    return state.progress.stage if state.progress else ""


def outcome(state: BatchState) -> str:
    """How a batch ended, in a line."""
    line = f"{state.succeeded} of {state.total} succeeded, {state.failed} failed"
    for name, count in (("cancelled", state.cancelled), ("dead", state.dead)):
        line += f", {count} {name}" if count else ""
    return line


def clock(moment: datetime) -> str:
    """A moment in the time of this machine."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _sentence(failure: Failure) -> str:
    return f"{failure.message} [{failure.code}]"


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
