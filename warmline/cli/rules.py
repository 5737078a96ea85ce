"""`warmline rules`: what the categories mean, what they make of a report, and reports matched with them anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from config.settings import Settings, SettingsError, load_settings
from warmline.cli import consoles
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import InvalidRequest

if TYPE_CHECKING:
    from warmline.calls.categories.rules import CategoryRules
    from warmline.cli.rules_view import Backfill

app = typer.Typer(
    name="rules",
    help="Categories, the rules over reports: what they mean, what they match, and matching stored reports anew.",
    no_args_is_help=True,
)

RulesFile = Annotated[Path | None, typer.Option("--file", help="Rules instead of WARMLINE_CATEGORIES_FILE's.")]


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="A file of rules instead of WARMLINE_CATEGORIES_FILE.")
    ] = None,
) -> None:
    """Checks the rules and says in words what each category means. Exit code 2: they cannot be used."""
    from warmline.cli.rules_view import show_rules

    show_rules(consoles.results(), _rules(load_settings(), file))


@app.command("test")
def try_out(
    reports: Annotated[
        list[str], typer.Argument(help="Files with a report each (.json) or one a line (.jsonl); - for stdin.")
    ],
    file: RulesFile = None,
) -> None:
    """Says of each report which categories apply, and of each condition whether it holds and why not.

    Nothing is written. Exit code 0 when every report could be read.
    """
    from warmline.calls.stored_reports import StoredReport
    from warmline.cli.rules_view import read_files, show_examined

    rules = _rules(load_settings(), file)
    unreadable = 0
    for found in read_files(reports):
        if isinstance(found, StoredReport):
            show_examined(consoles.results(), found.place, rules.examine(found.report))
        else:
            unreadable += 1
            consoles.notes().print(f"{found.place}: {found.reason}", **PLAIN)
    if unreadable:
        raise typer.Exit(1)


@app.command()
def apply(
    reports: Annotated[
        str,
        typer.Option(
            "--reports",
            help="s3://bucket/prefix of the results bucket, a folder, a .jsonl file, or - for stdin; without it "
            "all that the results bucket and Redis keep.",
        ),
    ] = "",
    file: RulesFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would change.")] = False,
    to: Annotated[
        Path | None, typer.Option(help="Where the reports of a .jsonl file go; stdout unless given.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=0, max=64, help="Processes that read and write S3; 0: one a core.")
    ] = 0,
) -> None:
    """Matches stored reports with the rules anew: nothing is scored. Run it again to go on where it was ended.

    Exit code 0 when every report carries the rules' matches, 1 when some could not be read or written.
    """
    from warmline.calls.stored_reports import BucketShelf, FolderShelf, LinesShelf, open_shelf
    from warmline.cli.rules_view import Backfill
    from warmline.objects.store import ObjectStore

    settings = load_settings()
    rules = _rules(settings, file)
    s3 = settings.s3
    shelf = open_shelf(reports, lambda: ObjectStore(s3), bucket=s3.results_bucket, prefix=s3.results_prefix)
    if to is not None and not isinstance(shelf, LinesShelf):
        raise InvalidRequest("--to is for a file of JSON lines; other reports are rewritten where they lie")
    # Stdout is for reports where those of a file are written there.
    out = consoles.notes() if isinstance(shelf, LinesShelf) else consoles.results()
    backfill = Backfill(settings, rules, out, dry_run=dry_run)
    match shelf:
        case FolderShelf():
            backfill.folder(shelf)
        case LinesShelf():
            with _lines_to(to, reports, dry_run=dry_run) as lines:
                backfill.lines(shelf, lines)
        case BucketShelf():
            _apply_to_stored(backfill, settings, reports, processes)
    if backfill.troubled:
        raise typer.Exit(1)


def _apply_to_stored(backfill: Backfill, settings: Settings, place: str, processes: int) -> None:
    """S3 and Redis, as WARMLINE_RESULTS says; with a place, S3 and the copies in Redis of what lies there."""
    prefix = place.removeprefix("s3://").partition("/")[2] if place else ""
    if place or settings.general.results != "redis":
        backfill.bucket(prefix or settings.s3.results_prefix, processes)
    if settings.general.results != "s3":
        backfill.redis(prefix)


def _rules(settings: Settings, file: Path | None) -> CategoryRules:
    from warmline.calls.categories.rules import CategoryRules

    rules = CategoryRules.read(file) if file is not None else CategoryRules.load(settings)
    if rules is None:
        raise SettingsError("there are no rules: set WARMLINE_CATEGORIES_FILE to a file of them, or name one")
    return rules


@contextmanager
def _lines_to(to: Path | None, place: str, *, dry_run: bool) -> Iterator[BinaryIO | None]:
    if dry_run:
        yield None
    elif to is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif to.exists() and place != "-" and to.samefile(place):
        raise InvalidRequest(f"{to} is what is read; write to another file, then move it there")
    else:
        with to.open("wb") as out:
            yield out
