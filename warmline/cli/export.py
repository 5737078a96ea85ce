"""`warmline export`: reports as tables, for whoever wants to ask them something."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from config.settings import Settings, load_settings
from warmline.cli import consoles
from warmline.cli.consoles import PLAIN
from warmline.cli.report_sources import open_reports
from warmline.jobs.errors import InvalidRequest

if TYPE_CHECKING:
    from warmline.calls.stored_reports import Unreadable
    from warmline.exports.export import Progress
    from warmline.exports.places import Place
    from warmline.exports.state import Layout

SUFFIXES = (".parquet", ".csv", ".jsonl")
SHOWN_UNREADABLE = 20
SHOW_SECONDS = 0.2

Reports = Annotated[
    str,
    typer.Option("--reports", help="s3://bucket/prefix, a folder, a .jsonl file, or -; empty: all in the bucket."),
]
Batch = Annotated[str, typer.Option("--batch", help="The reports of this batch, those only in Redis too.")]


def export(
    to: Annotated[
        str,
        typer.Option("--to", help="A folder or s3://bucket/prefix/; or one file (.csv, .jsonl, .parquet); or -."),
    ],
    format_: Annotated[
        str, typer.Option("--format", help="parquet, csv or jsonl; empty: as the file is called, else parquet.")
    ] = "",
    tables: Annotated[
        str, typer.Option(help="calls,channels,windows,matches; jsonl also has reports, the reports themselves.")
    ] = "",
    reports: Reports = "",
    batch: Batch = "",
    since: Annotated[str, typer.Option(help="Only calls of this day and later: YYYY-MM-DD.")] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Begin anew: what is at the place is replaced by what there is now.")
    ] = False,
    day: Annotated[
        str, typer.Option("--date", help="What a call's day is: analysed_at, key, or metadata:NAME.")
    ] = "analysed_at",
    partition: Annotated[str, typer.Option(help="A folder for each day, month, or none.")] = "day",
    metadata: Annotated[
        str, typer.Option("--metadata", help="Metadata that get columns of their own, comma-separated.")
    ] = "agent,queue",
) -> None:
    """Writes reports as tables. A second run to the same folder exports what is new or changed since."""
    from warmline.exports.export import export_dataset, export_file

    settings = load_settings()
    layout = _layout(to, format_, tables, metadata, day, partition)
    earliest = _day(since)
    with ExitStack() as stack:
        if to == "-":
            stream = stack.enter_context(consoles.stdout_for_results_only())
        shelf = stack.enter_context(open_reports(settings, reports, batch))
        on_progress = stack.enter_context(_shown())
        try:
            if to == "-" or _is_file(to):
                done = export_file(
                    shelf, layout, stream if to == "-" else Path(to), since=earliest, on_progress=on_progress
                )
            else:
                if reports == "-" and not full:
                    raise InvalidRequest("stdin is read once: export it to a file, or to a folder with --full")
                place = stack.enter_context(_place(to, settings))
                done = export_dataset(shelf, place, layout, since=earliest, full=full, on_progress=on_progress)
        except BrokenPipeError:
            raise  # who reads our output has gone
        except OSError as error:
            raise InvalidRequest(f"{to}: {error.strerror or error}") from None
    _report(done, to, sys.stderr if to == "-" else sys.stdout)


def list_unreadable(found: Sequence[Unreadable], count: int) -> None:
    """The first of what could not be read, on stderr."""
    notes = consoles.notes()
    for unreadable in found[:SHOWN_UNREADABLE]:
        notes.print(f"{unreadable.place}: {unreadable.reason}", style="red", **PLAIN)
    if count > SHOWN_UNREADABLE:
        notes.print(f"and {count - SHOWN_UNREADABLE:,} more", style="red")


def _layout(to: str, format_: str, tables: str, metadata: str, day: str, partition: str) -> Layout:
    """What the files are to hold. Raises InvalidRequest."""
    from warmline.exports.dates import day_of
    from warmline.exports.export import PARTITIONS
    from warmline.exports.formats import format_named, table_names
    from warmline.exports.state import Layout

    suffix = Path(to).suffix.removeprefix(".") if _is_file(to) else ""
    if suffix and format_ and suffix != format_:
        raise InvalidRequest(f"{to} is called .{suffix}, and --format says {format_}")
    name = format_ or suffix or ("jsonl" if to == "-" else "parquet")
    if to.startswith("s3://") and Path(to).suffix in SUFFIXES:
        raise InvalidRequest(f"{to}: in S3 an export is a prefix, e.g. s3://reports/exports/; files are local")
    if partition not in PARTITIONS:
        raise InvalidRequest(f"--partition is one of {', '.join(PARTITIONS)}, not {partition!r}")
    format_named(name)
    day_of(day)
    keys = tuple(dict.fromkeys(key.strip() for key in metadata.split(",") if key.strip()))
    return Layout(
        format=name, tables=table_names(tables, name), metadata_keys=keys, day_of=day, partition=partition
    )


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidRequest(f"--since is a day as YYYY-MM-DD, not {text!r}")


def _is_file(to: str) -> bool:
    return not to.startswith("s3://") and Path(to).suffix in SUFFIXES and not Path(to).is_dir()


@contextmanager
def _place(to: str, settings: Settings) -> Iterator[Place]:
    from warmline.exports.places import Folder, Prefix
    from warmline.objects.export_bucket import ExportBucket, check_export_prefix

    if not to.startswith("s3://"):
        yield Folder(Path(to))
        return
    bucket, _, prefix = to.removeprefix("s3://").partition("/")
    store = ExportBucket(settings.s3, check_export_prefix(settings.s3, bucket, prefix))
    try:
        yield Prefix(store)
    finally:
        store.close()


@contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """A line that counts reports and says how many come in a second."""
    began, shown = time.monotonic(), 0.0
    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task("reports", total=None)

        def show(done: Progress) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= SHOW_SECONDS:
                shown = now
                rate = done.exported / max(now - began, 1e-3)
                bar.update(task, completed=done.exported, description=f"reports, {rate:,.0f} a second")

        yield show
        bar.update(task, total=1, completed=1)


def _report(done: Progress, to: str, out: TextIO) -> None:
    """One line of what was done; exit code 1 when something could not be read."""
    parts = [f"{done.exported:,} reports exported to {to}"]
    if done.replaced:
        parts.append(f"{done.replaced:,} of them in place of earlier versions")
    if done.left_out:
        parts.append(f"{done.left_out:,} left out for their day")
    if done.undated:
        parts.append(f"{done.undated:,} without a day")
    if done.rows:
        parts.append(", ".join(f"{count:,} {name}" for name, count in done.rows.items()))
    if done.unreadable_count:
        parts.append(f"{done.unreadable_count:,} could not be read")
    print("; ".join(parts), file=out)
    list_unreadable(done.unreadable, done.unreadable_count)
    if done.unreadable_count:
        raise typer.Exit(1)
