"""`warmline aggregate`: figures over many calls, by agent, queue, day or whatever they have in common."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from config.settings import load_settings
from warmline.cli import consoles
from warmline.cli.consoles import PLAIN
from warmline.cli.export import Batch, Reports
from warmline.cli.report_sources import open_reports
from warmline.jobs.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from warmline.calls.stored_reports import StoredReport, Unreadable
    from warmline.exports.aggregates import Aggregate, Group, RoleFigures

FORMATS = ("table", "csv", "jsonl")
SHOWN_SHARES = 3


def aggregate(
    by: Annotated[
        str,
        typer.Option("--by", help="agent, queue or other metadata; day, batch, category, role, model. Up to 4."),
    ],
    reports: Reports = "",
    batch: Batch = "",
    format_: Annotated[str, typer.Option("--format", help="table, csv or jsonl.")] = "table",
    day: Annotated[
        str, typer.Option("--date", help="What a call's day is: analysed_at, key, or metadata:NAME.")
    ] = "analysed_at",
    max_groups: Annotated[int, typer.Option(min=1, help="More groups than this are refused.")] = 10_000,
) -> None:
    """Sums up reports by what their calls have in common; each report is read once."""
    from warmline.calls.stored_reports import read_reports
    from warmline.exports import aggregates

    if format_ not in FORMATS:
        raise InvalidRequest(f"--format is one of {', '.join(FORMATS)}, not {format_!r}")
    grouping = aggregates.Grouping.parse(by, day)
    with open_reports(load_settings(), reports, batch, versions=False) as shelf:
        found = aggregates.aggregate(_counted(read_reports(shelf)), grouping, max_groups=max_groups)
    _print(found, format_)
    if found.unreadable:
        notes = consoles.notes()
        for place in found.unreadable_places:
            notes.print(place, style="red", **PLAIN)
        notes.print(f"{found.unreadable:,} reports could not be read and count nowhere", style="red")
        raise typer.Exit(1)


def _counted(reports: Iterable[StoredReport | Unreadable]) -> Iterator[StoredReport | Unreadable]:
    """The same, with a line that counts them."""
    began, shown = time.monotonic(), 0.0
    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task("reports", total=None)
        number = 0
        for number, report in enumerate(reports, start=1):
            now = time.monotonic()
            if now - shown >= 0.2:
                shown = now
                rate = number / max(now - began, 1e-3)
                bar.update(task, completed=number, description=f"reports, {rate:,.0f} a second")
            yield report
        bar.update(task, completed=number, total=max(1, number))


def _print(found: Aggregate, format_: str) -> None:
    if format_ == "table":
        console = consoles.results()
        console.print(aggregate_table(found))
        console.print(f"{found.calls:,} calls in {len(found.groups):,} groups", style="dim")
        return
    with consoles.stdout_for_results_only() as out:
        if format_ == "jsonl":
            out.writelines(f"{group.model_dump_json()}\n" for group in found.groups)
        else:
            from warmline.exports import aggregate_rows
            from warmline.exports.csv_files import CsvFile

            CsvFile(aggregate_rows.aggregate_table(found.by), out).write(
                list(aggregate_rows.aggregate_rows(found))
            )


def aggregate_table(found: Aggregate) -> Table:
    """For a person: a line for each role of each group."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in found.by:
        table.add_column(Text(name), no_wrap=True, max_width=28)
    for name in ("calls", "hours", "talk", "overlap", "silence", "cut-ins/h"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("role", no_wrap=True)
    table.add_column("emotion", no_wrap=True)
    table.add_column("change", no_wrap=True)
    table.add_column("flags and categories")
    for group in found.groups:
        for number, role in enumerate(group.roles or (None,)):
            first = _of_calls(group, found.by) if number == 0 else [Text()] * (len(found.by) + 6)
            shares = Text(", ".join(_shares(group)) if number == 0 else "")
            table.add_row(*first, *_of_role(role), shares)
    return table


def _of_calls(group: Group, by: tuple[str, ...]) -> list[Text]:
    shares = (group.talk_share, group.overlap_share, group.silence_share)
    interruptions = group.interruptions_per_hour
    return [
        *(Text("-" if group.group[name] is None else str(group.group[name])) for name in by),
        Text(f"{group.calls:,}"),
        Text(f"{group.hours:,.2f}"),
        *(Text("" if share is None else f"{share:.0%}") for share in shares),
        Text("" if interruptions is None else f"{interruptions:.1f}"),
    ]


def _of_role(role: RoleFigures | None) -> list[Text]:
    if role is None:
        return [Text(), Text(), Text()]
    emotion = "no speech" if role.dominant is None else f"{role.dominant} {role.dominant_score or 0:.2f}"
    changed = sorted(role.change.items(), key=lambda item: -abs(item[1]))[:2]
    return [Text(role.role), Text(emotion), Text(", ".join(f"{label} {change:+.2f}" for label, change in changed))]


def _shares(group: Group) -> list[str]:
    shares = sorted((group.flags | group.categories).items(), key=lambda item: -item[1])
    return [f"{name} {share:.0%}" for name, share in shares[:SHOWN_SHARES] if share]
