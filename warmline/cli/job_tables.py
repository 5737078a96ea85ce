"""How jobs, attempts and batches look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmline.cli.consoles import FILE_COLUMNS, PLAIN
from warmline.jobs.records import Attempt, BatchState, Failure, JobState

STYLES = {
    "queued": "dim",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "dead": "bold red",
}


def show_jobs(out: Console, states: Iterable[JobState]) -> None:
    """A line for each job, or a few in a terminal too narrow for that: ids and keys stay in one piece."""
    rows = [
        (
            Text(state.job.id),
            Text(state.status, style=STYLES[state.status]),
            Text(state.job.lane),
            Text(clock(state.job.created_at)),
            Text(state.job.source.uri),
            Text(note(state)),
        )
        for state in states
    ]
    table = _table("id", "status", "lane", "submitted", "call", "note")
    for row in rows:
        table.add_row(*row)
    if _fits(out, table):
        out.print(table)
        return
    for *facts, call, remark in rows:
        out.print(Text("  ").join(facts), soft_wrap=True)
        for line in (call, remark):
            if line:
                out.print(Text("  ").append_text(line), soft_wrap=True)


def show_batches(out: Console, states: Iterable[BatchState]) -> None:
    """A line for each batch or, in a terminal that is too narrow for that, two."""
    counts = ("total", "queued", "running", "succeeded", "failed", "cancelled", "dead")
    rows = [
        (state.id, clock(state.created_at), *(str(getattr(state, count)) for count in counts)) for state in states
    ]
    table = _table("id", "submitted", *counts)
    for row in rows:
        table.add_row(*row)
    if _fits(out, table):
        out.print(table)
        return
    for id_, submitted, *numbers in rows:
        out.print(f"{id_}  {submitted}", **PLAIN)
        said = (f"{name} {number}" for name, number in zip(counts, numbers, strict=True) if number != "0")
        out.print(f"  {', '.join(said)}", **PLAIN)


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


def _fits(out: Console, table: Table) -> bool:
    """Whether no cell has to be broken."""
    return table.__rich_measure__(out, out.options.update(max_width=FILE_COLUMNS)).maximum <= out.width


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
