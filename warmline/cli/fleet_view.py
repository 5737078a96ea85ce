"""How workers and their work look on a terminal: what waits, who works on it, and who is not well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from warmline.cli import consoles

if TYPE_CHECKING:
    from warmline.jobs.backlog import Backlog
    from warmline.jobs.conditions import FleetState, WorkerCondition


def show_fleet(fleet: FleetState) -> None:
    """Prints the backlog, and each worker with its condition and its children."""
    out = consoles.results()
    out.print()
    out.print(_work_table(fleet.backlog))
    rest = fleet.backlog
    out.print(
        f"to be retried now: {rest.retrying}, later: {rest.delayed}; held back by a trigger's pace: {rest.held}; "
        f"dead letters: {rest.dead}",
        highlight=False,
        soft_wrap=True,
    )
    for worker in fleet.workers:
        _show_worker(worker)


def _work_table(backlog: Backlog) -> Table:
    table = Table("lane", "waiting", "oldest", "running", box=None, header_style="dim")
    for lane, work in backlog.lanes.items():
        oldest = "" if work.oldest_seconds is None else f"{work.oldest_seconds:.0f} s"
        table.add_row(lane, str(work.waiting), oldest, str(work.running))
    return table


def _show_worker(found: WorkerCondition) -> None:
    out, worker = consoles.results(), found.worker
    colour = "green" if found.condition.is_well else "red"
    out.print(
        Text(f"\n{worker.name}: ")
        .append(found.condition, style=colour)
        .append(f", {len(worker.warm)} of {worker.children} children warm, {worker.busy} busy"),
        soft_wrap=True,
    )
    if found.reason:
        out.print(f"  {found.reason}", markup=False, highlight=False, soft_wrap=True)
    if found.silent_seconds is not None:
        return
    for child in worker.warm:
        mini = " (the mini model, for trying things out)" if child.mini else ""
        out.print(
            f"  process {child.pid}: {child.model}{mini} on {child.device}, {child.precision}, "
            f"{child.engine}, {child.threads} threads, loaded in {child.load_seconds:.1f} s",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
