"""An export, begun or brought up to date: read this first.

Reports that are new or changed become rows of new files; files that hold rows of what changed are written again
without them. So each report's rows are there once, and whoever reads the tables needs to know nothing of runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TextIO

from warmline.calls.stored_reports import Shelf, StoredReport, Unreadable, read_reports
from warmline.exports import tables
from warmline.exports.csv_files import CsvFile
from warmline.exports.dates import day_of
from warmline.exports.formats import Format, TableFile, format_named
from warmline.exports.json_lines import JsonLinesFile
from warmline.exports.lots import Lot, Lots
from warmline.exports.places import ExportUnderWay, Place, Staged, commit_name
from warmline.exports.state import Layout, StaleLot, State, file_name
from warmline.exports.tables import Row
from warmline.jobs.errors import InvalidRequest, WarmlineError

NO_DAY = "__HIVE_DEFAULT_PARTITION__"  # what Hive, Spark and DuckDB read as null
FILE_ROWS = 20_000  # of one file's rows, in memory at once
PARTITIONS = ("day", "month", "none")


@dataclass(kw_only=True)
class Progress:
    """What a run has done so far."""

    exported: int = 0  # reports
    replaced: int = 0  # of them, those whose earlier rows went
    left_out: int = 0  # reports before the day that was asked for
    undated: int = 0  # exported ones without a day
    rows: dict[str, int] = field(default_factory=dict)  # by table
    files: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)  # the first MAX_LISTED
    unreadable_count: int = 0


MAX_LISTED = 1000

OnProgress = Callable[[Progress], None]


def export_dataset(
    shelf: Shelf, place: Place, layout: Layout, *, since: date | None, full: bool, on_progress: OnProgress
) -> Progress:
    """Brings the export at `place` up to date with the shelf. Memory does not grow with the number of reports.

    `since` leaves out reports of earlier days, and those without a day. `full` begins anew: what is there is
    replaced by what the shelf has now. What cannot be read is listed, keeps the rows that it has, and is tried
    again by the next run. Raises ExportUnderWay, ExportBroken, InvalidRequest, OSError, and what the shelf and S3
    raise. Whenever it ends, the export is what the last committed run made of it, or the next run makes it so.
    """
    written_as = format_named(layout.format)
    with place.hold() as scratch:
        state_file = scratch / "state.sqlite"
        number = place.newest_commit()
        if number:
            place.fetch(commit_name(number), state_file)
        with closing(State(state_file, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}")) as state:
            if full:
                state.begin_anew(layout)
            else:
                if number and not place.is_done(number):
                    _publish(place, list(state.to_publish()), state.to_remove(), number)
                place.tidy()
                state.begin(layout)
            running = _Run(place, state, layout, written_as, scratch, on_progress)
            try:
                progress = running.export(shelf, "" if since is None else since.isoformat())
            except BaseException:
                with suppress(WarmlineError):  # what is left is given up by a later run
                    place.discard(running.staged)
                raise
            removed = state.to_remove()
        if running.staged or removed or progress.left_out:
            _commit(place, state_file, number + 1, state.run, running.staged)
            _publish(place, running.staged, removed, number + 1)
        if full:
            place.tidy()
    return progress


def _commit(place: Place, state_file: Path, number: int, run: str, staged: Sequence[Staged]) -> None:
    """Raises ExportUnderWay when another run has this number."""
    if place.commit(number, state_file):
        return
    # An answer that was lost, and the request sent again: then it is this run's own commit that stands there.
    theirs = state_file.with_name("theirs.sqlite")
    place.fetch(commit_name(number), theirs)
    with closing(State(theirs, run)) as committed:
        if committed.writer != run:
            place.discard(staged)
            raise ExportUnderWay


def _publish(place: Place, staged: Sequence[Staged], removed: Sequence[str], number: int) -> None:
    for name, token in staged:
        place.publish(name, token)
    place.remove(removed)
    place.done(number)


def export_file(
    shelf: Shelf, layout: Layout, to: TextIO | Path, *, since: date | None, on_progress: OnProgress
) -> Progress:
    """Writes one table of all the shelf's reports into one file, or onto a stream. Memory is bounded as above.

    A file is written beside its place and moved there when it is whole. Raises InvalidRequest for several tables
    and for Parquet onto a stream, OSError, and what the shelf raises.
    """
    if len(layout.tables) != 1:
        raise InvalidRequest("a file holds one table: say which with --tables, or export to a folder")
    (table,) = (tables.with_day(table) for table in tables.tables(layout.tables, layout.metadata_keys))
    if isinstance(to, Path):
        written_as, beside = format_named(layout.format), to.with_name(f".{to.name}.{secrets.token_hex(4)}")
        try:
            file = written_as.open(table, beside)
            try:
                progress = _write_all(shelf, table.name, layout, file, since, on_progress)
            finally:
                file.close()
            beside.replace(to)
        finally:
            beside.unlink(missing_ok=True)
        return progress
    if layout.format == "parquet":
        raise InvalidRequest("Parquet is no stream: export it to a file or a folder")
    stream = CsvFile(table, to) if layout.format == "csv" else JsonLinesFile(table, to)
    return _write_all(shelf, table.name, layout, stream, since, on_progress)


def _write_all(
    shelf: Shelf, table: str, layout: Layout, file: TableFile, since: date | None, on_progress: OnProgress
) -> Progress:
    day_of_report, progress, waiting = day_of(layout.day_of), Progress(), list[Row]()
    for found in read_reports(shelf):
        if isinstance(found, Unreadable):
            note_unreadable(progress, found)
        else:
            day = day_of_report(found.report)
            if since is not None and (day is None or day < since):
                progress.left_out += 1
            else:
                progress.exported += 1
                progress.undated += day is None
                made = [(row[0], day, *row[1:]) for row in tables.rows(found, table, layout.metadata_keys)]
                progress.rows[table] = progress.rows.get(table, 0) + len(made)
                waiting += made
        if len(waiting) >= FILE_ROWS:
            file.write(waiting)
            waiting.clear()
        on_progress(progress)
    file.write(waiting)
    progress.files = 1
    return progress


class _Run:
    """One run of an export, up to its commit."""

    def __init__(
        self,
        place: Place,
        state: State,
        layout: Layout,
        written_as: Format,
        scratch: Path,
        on_progress: OnProgress,
    ) -> None:
        self.staged: list[Staged] = []
        self._place = place
        self._state = state
        self._layout = layout
        self._format = written_as
        self._scratch = scratch
        self._on_progress = on_progress
        self._progress = Progress()
        self._lots = Lots(
            tables.tables(layout.tables, layout.metadata_keys),
            layout.metadata_keys,
            written_as,
            scratch,
            self._take,
            first_number=state.first_lot,
        )

    def export(self, shelf: Shelf, since: str) -> Progress:
        day_of_report, progress = day_of(self._layout.day_of), self._progress
        try:
            for found in read_reports(shelf, wanted=lambda ref: self._state.wants(ref, since)):
                if isinstance(found, Unreadable):
                    note_unreadable(progress, found)
                elif self._state.wants(found, ""):  # the reading is ahead: another job's ref may be this report's
                    self._add(found, day_of_report(found.report), since)
                self._on_progress(progress)
            self._lots.close()
        finally:
            self._lots.discard()
        for lot in self._state.stale_lots():
            self._rewrite(lot)
        self._on_progress(progress)
        return progress

    def _add(self, stored: StoredReport, day: date | None, since: str) -> None:
        text = None if day is None else day.isoformat()
        if since and (text or "") < since:
            self._state.leave_out(stored, text)
            self._progress.left_out += 1
            return
        lot = self._lots.add(stored, folder_of(day, self._layout.partition))
        self._progress.replaced += self._state.enter(stored, text, lot)
        self._progress.exported += 1
        self._progress.undated += day is None

    def _take(self, lot: Lot) -> None:
        """A lot is full: its files are staged, which frees the scratch folder where the place is elsewhere."""
        self._state.add_lot(lot)
        for table, rows in lot.rows.items():
            self._progress.rows[table] = self._progress.rows.get(table, 0) + rows
        for table, path in lot.files.items():
            self._stage(table, lot.folder, lot.number, path)

    def _rewrite(self, lot: StaleLot) -> None:
        """Writes a lot's files again without the rows of reports that this run wrote anew."""
        dropped = self._state.dropped(lot.number)
        for table in self._layout.tables:
            name = file_name(table, lot.folder, lot.run, lot.number, self._format.name)
            if lot.left:
                before = self._scratch / f"before.{self._format.name}"
                after = self._scratch / f"{lot.number}-{table}-kept.{self._format.name}"
                self._place.fetch(name, before)
                self._format.without(before, dropped, after)
                before.unlink()
                self._stage(table, lot.folder, lot.number, after)
            self._state.remove(name)
        self._state.replace_lot(lot)

    def _stage(self, table: str, folder: str, lot: int, path: Path) -> None:
        name = file_name(table, folder, self._state.run, lot, self._format.name)
        token = self._place.stage(name, path)
        self.staged.append((name, token))
        self._state.publish(name, token)
        self._progress.files += 1


def folder_of(day: date | None, partition: str) -> str:
    """The folder of a day's calls below a table's, as Hive has it: date=2026-05-01/, date=2026-05/, or none."""
    if partition == "none":
        return ""
    if day is None:
        return f"date={NO_DAY}/"
    return f"date={day:%Y-%m-%d}/" if partition == "day" else f"date={day:%Y-%m}/"


def note_unreadable(progress: Progress, found: Unreadable) -> None:
    """Lists what could not be read, up to a number."""
    progress.unreadable_count += 1
    if len(progress.unreadable) < MAX_LISTED:
        progress.unreadable.append(found)
