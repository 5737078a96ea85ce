"""What `warmline rules` shows: rules in words, what they make of a report, and how a backfill gets on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from config.settings import Settings
from warmline.calls.categories import words
from warmline.calls.categories.applying import apply_to_bucket, apply_to_redis
from warmline.calls.categories.backfill import Change, Outcome, Tally
from warmline.calls.categories.evaluation import Verdict
from warmline.calls.categories.rewriting import rewrite_folder, rewrite_lines
from warmline.calls.categories.rules import CategoryRules, Examined
from warmline.calls.report import MatchedRange
from warmline.calls.report_reading import NotAReport, read_report
from warmline.calls.stored_reports import (
    BucketShelf,
    FolderShelf,
    LinesShelf,
    Shelf,
    StoredReport,
    Unreadable,
    read_reports,
)
from warmline.cli import consoles
from warmline.cli.consoles import PLAIN
from warmline.cli.report_facts import clock
from warmline.objects.store import ObjectStore

SHOWN_TROUBLES = 20
SHOWN_RANGES = 5
BAR_SECONDS = 0.2  # how often a bar moves


def show_rules(out: Console, rules: CategoryRules) -> None:
    """Each category with what it asks."""
    for category in rules.categories:
        out.print(Text(category.name, style="bold"), soft_wrap=True)
        if category.description:
            out.print(f"  {category.description}", style="dim", **PLAIN)
        for title, conditions in words.lists(category):
            out.print(f"  {title}:", **PLAIN)
            for condition in conditions:
                out.print(f"    {words.meaning(condition)}", **PLAIN)
    count = len(rules.categories)
    out.print(f"{count} {'category' if count == 1 else 'categories'}, digest {rules.digest}", style="dim", **PLAIN)


def show_examined(out: Console, place: str, examined: Sequence[Examined]) -> None:
    """What the rules make of one report."""
    out.print(Text(place, style="bold"), soft_wrap=True)
    for each in examined:
        verdict = "applies" if each.applies else "does not apply"
        where = f": {_ranges(each.ranges)}" if each.ranges else ""
        line = Text(f"  {each.category.name} ").append(verdict, style="green" if each.applies else "dim")
        out.print(line.append(where), soft_wrap=True)
        for key, findings in each.findings.items():
            for condition, finding in zip(getattr(each.category, key), findings, strict=True):
                as_wanted = finding.verdict is (Verdict.FAILS if key == "none" else Verdict.HOLDS)
                found = words.found(condition, finding)
                out.print(
                    f"    {'+' if as_wanted else '-'} {key}: {words.meaning(condition)}: {found}",
                    style="dim",
                    **PLAIN,
                )


def read_files(names: Sequence[str]) -> Iterator[StoredReport | Unreadable]:
    """The reports in these files, in their order: one a file, or one a line of a .jsonl file; - is stdin."""
    for name in names:
        path = Path(name)
        if name == "-" or path.suffix == ".jsonl":
            try:
                yield from read_reports(LinesShelf(path))
            except OSError as error:
                yield Unreadable(place=name, version="", reason=str(error))
            continue
        try:
            yield StoredReport(place=name, version="", report=read_report(path.read_bytes()))
        except OSError as error:
            yield Unreadable(place=name, version="", reason=str(error))
        except NotAReport as error:
            yield Unreadable(place=name, version="", reason=str(error))


class Backfill:
    """One `warmline rules apply`: shows how far it is, and at the end what came of it."""

    def __init__(self, settings: Settings, rules: CategoryRules, out: Console, *, dry_run: bool) -> None:
        """`out` is told what came of it."""
        self._settings = settings
        self._rules = rules
        self._out = out
        self._dry_run = dry_run
        self._notes = consoles.notes()
        self.troubled = False  # some reports could not be read or written

    def bucket(self, prefix: str, processes: int) -> None:
        """The reports below a prefix of the results bucket."""
        s3 = self._settings.s3
        shelf = BucketShelf(ObjectStore(s3), s3.results_bucket, prefix)

        def run(tell: Callable[[Outcome], None]) -> None:
            apply_to_bucket(self._settings, self._rules, prefix, tell, dry_run=self._dry_run, processes=processes)

        self._report(f"s3://{s3.results_bucket}/{prefix}", self._follow(run, shelf))

    def redis(self, prefix: str) -> None:
        """The reports that Redis keeps; with a prefix those of which S3 has one below it."""

        def run(tell: Callable[[Outcome], None]) -> None:
            apply_to_redis(self._settings, self._rules, prefix, tell, dry_run=self._dry_run)

        self._report("Redis", self._follow(run, None))

    def folder(self, shelf: FolderShelf) -> None:
        """The files of a folder."""

        def run(tell: Callable[[Outcome], None]) -> None:
            for outcome in rewrite_folder(shelf, self._rules, dry_run=self._dry_run):
                tell(outcome)

        self._report("the folder", self._follow(run, shelf))

    def lines(self, shelf: LinesShelf, to: BinaryIO | None) -> None:
        """The lines of a file, written to `to`."""

        def run(tell: Callable[[Outcome], None]) -> None:
            for outcome in rewrite_lines(shelf, self._rules, to):
                tell(outcome)

        self._report("the lines", self._follow(run, None))

    def _follow(self, run: Callable[[Callable[[Outcome], None]], None], counted: Shelf | None) -> Tally:
        """Runs it beside a bar with its rate and, where `counted` can be counted, the time that is left."""
        tally, started, shown_at = Tally(), time.monotonic(), 0.0
        with consoles.progress_bar(self._notes) as bar:
            task = bar.add_task("reports", total=None)
            if counted is not None and not bar.disable:
                threading.Thread(target=_count, args=(counted, bar, task), daemon=True).start()

            def tell(outcome: Outcome) -> None:
                nonlocal shown_at
                tally.add(outcome)
                now = time.monotonic()
                if now - shown_at >= BAR_SECONDS:
                    shown_at = now
                    bar.update(task, completed=tally.reports, description=_rate(tally.reports, now - started))

            run(tell)
            rate = _rate(tally.reports, time.monotonic() - started)
            bar.update(task, completed=tally.reports, total=max(1, tally.reports), description=rate)
        return tally

    def _report(self, place: str, tally: Tally) -> None:
        out, changes = self._out, tally.changes
        would = "would be rewritten" if self._dry_run else "rewritten"
        parts = [
            f"{place}: {tally.reports:,} reports",
            f"{changes[Change.WRITTEN]:,} {would}",
            f"{changes[Change.CURRENT] + changes[Change.REMEMBERED]:,} had these rules' matches",
        ]
        if changes[Change.MISSED]:
            parts.append(f"{changes[Change.MISSED]:,} replaced meanwhile")
        if changes[Change.UNREADABLE]:
            parts.append(f"{changes[Change.UNREADABLE]:,} not readable")
        out.print(", ".join(parts), **PLAIN)
        if tally.reports:
            out.print(_categories_table(tally, [category.name for category in self._rules.categories]))
        for trouble in tally.troubles[:SHOWN_TROUBLES]:
            out.print(f"{trouble.place}: {trouble.reason}", style="red", **PLAIN)
        more = changes[Change.MISSED] + changes[Change.UNREADABLE] - SHOWN_TROUBLES
        if more > 0:
            out.print(f"and {more:,} more like these", style="red", **PLAIN)
        self.troubled = self.troubled or bool(tally.troubles)


def _categories_table(tally: Tally, names: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("category", overflow="fold")
    for heading in ("before", "now", "new", "gone"):
        table.add_column(heading, justify="right")
    gone = sorted(tally.before.keys() - set(names))  # categories that the rules do not have any more
    for name in [*names, *gone]:
        counts = (tally.before[name], tally.after[name], tally.came[name], tally.went[name])
        table.add_row(Text(name), *(f"{count:,}" for count in counts))
    return table


def _count(shelf: Shelf, bar: Progress, task: TaskID) -> None:
    """Gives the bar its end, by a listing of its own: listing takes a small part of the time that reading does."""
    try:
        bar.update(task, total=sum(1 for _ in shelf.refs()))
    except Exception:  # noqa: BLE001 - whatever it is, the run itself will say so
        return


def _rate(reports: int, seconds: float) -> str:
    return f"{60 * reports / max(seconds, 1e-3):,.0f} a minute"


def _ranges(ranges: Sequence[MatchedRange]) -> str:
    shown = [
        f"{clock(each.start_ms)} to {clock(each.end_ms)}" + (f" ({each.role})" if each.role else "")
        for each in ranges[:SHOWN_RANGES]
    ]
    more = len(ranges) - SHOWN_RANGES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
