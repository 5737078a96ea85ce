"""Lots: the files of an export that are written together, one of each table, with the rows of the same reports.

A lot holds the calls of one day. Rows wait in memory until they fill a part of a file: BUFFERED_ROWS at most, of
all lots together; and OPEN_LOTS at most have their files open. So memory grows neither with the reports nor with
their days; many days in no order cost smaller files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from warmline.calls.stored_reports import StoredReport
from warmline.exports import tables
from warmline.exports.formats import Format, TableFile
from warmline.exports.tables import Row, Table

BUFFERED_ROWS = 20_000  # some 15 MB; a part of a file (in Parquet a row group) has at most so many
OPEN_LOTS = 64  # of four files: well below the 1,024 that a process may open
LOT_ROWS = 1_000_000  # then the lot is full: a file stays of a size that is quickly copied
LOT_REPORTS = 50_000


@dataclass(frozen=True, kw_only=True)
class Lot:
    """A lot that is written: its files lie in the scratch folder."""

    number: int
    folder: str  # below a table's folder: date=2026-05-01/, or empty
    reports: int
    rows: dict[str, int]  # by table
    files: dict[str, Path]  # by table


@dataclass(kw_only=True)
class _OpenLot:
    number: int
    folder: str
    buffers: dict[str, list[Row]]
    open: dict[str, TableFile] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    reports: int = 0
    rows: dict[str, int] = field(default_factory=dict)  # by table

    @property
    def buffered(self) -> int:
        return sum(map(len, self.buffers.values()))


class Lots:
    """Takes reports in any order and hands each lot to `on_written` when it is full, and the rest at the end."""

    def __init__(
        self,
        layout: Sequence[Table],
        metadata_keys: Sequence[str],
        written_as: Format,
        scratch: Path,
        on_written: Callable[[Lot], None],
        *,
        first_number: int,
    ) -> None:
        self._layout = layout
        self._metadata_keys = metadata_keys
        self._format = written_as
        self._scratch = scratch
        self._on_written = on_written
        self._next_number = first_number
        self._lots: dict[str, _OpenLot] = {}  # by folder, the one used last at the end
        self._buffered = 0

    def add(self, stored: StoredReport, folder: str) -> int:
        """Appends a report's rows to the lot of this folder; returns the lot's number."""
        lot = self._lots.pop(folder, None) or self._begin(folder)
        self._lots[folder] = lot
        for table in self._layout:
            added = list(tables.rows(stored, table.name, self._metadata_keys))
            lot.buffers[table.name] += added
            lot.rows[table.name] = lot.rows.get(table.name, 0) + len(added)
            self._buffered += len(added)
        lot.reports += 1
        if sum(lot.rows.values()) >= LOT_ROWS or lot.reports >= LOT_REPORTS:
            self._end(folder)
        if self._buffered >= BUFFERED_ROWS:
            self._make_room()
        return lot.number

    def close(self) -> None:
        """Ends all lots."""
        while self._lots:
            self._end(next(iter(self._lots)))

    def discard(self) -> None:
        """Closes the files of lots that nobody wants any more."""
        for lot in self._lots.values():
            for file in lot.open.values():
                file.close()
        self._lots.clear()

    def _make_room(self) -> None:
        """Writes the largest lots until half of the room is free: of many days a few, and those in long parts."""
        for lot in sorted(self._lots.values(), key=lambda lot: -lot.buffered):
            if self._buffered <= BUFFERED_ROWS // 2:
                return
            if lot.folder in self._lots:  # it may have been ended to open another one's files
                self._write(lot)

    def _begin(self, folder: str) -> _OpenLot:
        lot = _OpenLot(number=self._next_number, folder=folder, buffers={table.name: [] for table in self._layout})
        self._next_number += 1
        return lot

    def _write(self, lot: _OpenLot) -> None:
        """Moves the lot's rows from memory into its files."""
        if not lot.open:
            opened = [other for other in self._lots.values() if other.open]
            if len(opened) >= OPEN_LOTS:
                self._end(opened[0].folder)
            for table in self._layout:
                lot.paths[table.name] = self._scratch / f"{lot.number}-{table.name}.{self._format.name}"
                lot.open[table.name] = self._format.open(table, lot.paths[table.name])
        self._buffered -= lot.buffered
        for name, rows in lot.buffers.items():
            lot.open[name].write(rows)
            lot.buffers[name] = []

    def _end(self, folder: str) -> None:
        lot = self._lots.pop(folder)
        self._write(lot)
        for file in lot.open.values():
            file.close()
        self._on_written(
            Lot(number=lot.number, folder=folder, reports=lot.reports, rows=lot.rows, files=lot.paths)
        )
