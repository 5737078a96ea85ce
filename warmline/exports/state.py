"""What an export holds: which reports in which version, and in which files their rows are. An SQLite file.

It takes some 80 bytes for a report, and next to no memory. A run works on a copy of it, which becomes the export's
state by the one atomic step that also commits the run (see `places`): what it lists as to be published is done
then, by this run or by the next one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from warmline.calls.stored_reports import ReportRef
from warmline.exports.lots import Lot
from warmline.exports.tables import report_id
from warmline.jobs.errors import InvalidRequest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reports (
    id BLOB PRIMARY KEY, version TEXT NOT NULL, day TEXT, lot INTEGER  -- lot is null: left out for its day
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lots (
    number INTEGER PRIMARY KEY, folder TEXT NOT NULL, run TEXT NOT NULL, reports INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS to_publish (name TEXT PRIMARY KEY, token TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS to_remove (name TEXT PRIMARY KEY);
CREATE TEMP TABLE dropped (id BLOB PRIMARY KEY, lot INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What decides the files of an export; the same for all its runs."""

    format: str
    tables: tuple[str, ...]
    metadata_keys: tuple[str, ...]
    day_of: str
    partition: str
    version: int = 1

    def json(self) -> str:
        """The wire form."""
        return json.dumps(vars(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class StaleLot:
    """A lot that holds rows of reports that were written anew."""

    number: int
    folder: str
    run: str  # the run that wrote its files
    left: int  # reports that stay


class State:
    """One run's copy of the state. Not for several threads."""

    def __init__(self, path: Path, run: str) -> None:
        """Opens or makes the file. Raises InvalidRequest when it is no state of an export."""
        self.run = run
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            # It is a copy, thrown away when this run fails: SQLite need not be able to undo anything.
            self._database.execute("PRAGMA journal_mode=OFF")
            self._database.execute("PRAGMA synchronous=OFF")
            self._database.executescript(_SCHEMA)
            self._database.execute("BEGIN")  # one transaction, ended by `close`
            found = self._database.execute("SELECT coalesce(max(number), 0) FROM lots").fetchone()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise InvalidRequest(f"the export's state cannot be read ({error}); begin anew with --full") from None
        self.first_lot = int(found[0]) + 1

    # What the whole export is

    def begin(self, layout: Layout) -> None:
        """Enters the run. Raises InvalidRequest when the export has another layout."""
        known = self._fact("layout")
        if known is not None and known != layout.json():
            was, asked = json.loads(known), json.loads(layout.json())
            other = ", ".join(f"{name} {was.get(name)!r}" for name in asked if was.get(name) != asked[name])
            raise InvalidRequest(
                f"this export was begun with {other}: give the same options, choose another place, "
                "or begin anew with --full"
            )
        self._enter_run(layout)

    def begin_anew(self, layout: Layout) -> None:
        """Enters a run that forgets all reports: the files of the earlier runs are to be removed."""
        known = self._fact("layout")
        lots = self._database.execute("SELECT number, folder, run FROM lots").fetchall()
        in_doubt = self.to_remove()  # of a run that may have died before it removed them
        self._enter_run(layout)
        for name in in_doubt:
            self.remove(name)
        for table in ("reports", "lots"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        if known is not None:
            was = json.loads(known)
            for number, folder, run in lots:
                for table in was["tables"]:
                    self.remove(file_name(table, folder, run, number, was["format"]))

    def _enter_run(self, layout: Layout) -> None:
        self._database.execute("DELETE FROM to_publish")
        self._database.execute("DELETE FROM to_remove")
        self._database.executemany(
            "INSERT OR REPLACE INTO facts VALUES (?, ?)", [("layout", layout.json()), ("run", self.run)]
        )

    @property
    def writer(self) -> str | None:
        """The run that wrote this state last."""
        return self._fact("run")

    # Reports

    def wants(self, ref: ReportRef, since: str) -> bool:
        """Whether a report is to be read: new, changed, or left out earlier for its day and wanted now."""
        row = self._row(ref)
        if row is None:
            return True
        version, day, lot = row
        if lot is not None and lot >= self.first_lot:
            return False  # this run has it: two jobs may have one report
        if version != ref.version:
            return True
        return lot is None and (not since or (day or "") >= since)

    def enter(self, ref: ReportRef, day: str | None, lot: int) -> bool:
        """Says in which lot a report's rows are now; True when it had rows before, which are to go."""
        row, name = self._row(ref), _key(ref)
        self._database.execute("INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?)", (name, ref.version, day, lot))
        if row is None or row[2] is None:
            return False
        self._database.execute("INSERT INTO dropped VALUES (?, ?)", (name, row[2]))
        return True

    def leave_out(self, ref: ReportRef, day: str | None) -> None:
        """Remembers of a report that is not wanted for its day what spares reading it again.

        One that has rows keeps them, though they are of an earlier version.
        """
        row = self._row(ref)
        if row is None or row[2] is None:
            self._database.execute(
                "INSERT OR REPLACE INTO reports VALUES (?, ?, ?, NULL)", (_key(ref), ref.version, day)
            )

    def stale_lots(self) -> list[StaleLot]:
        """The lots that hold rows of what was entered again."""
        found = self._database.execute(
            "SELECT l.number, l.folder, l.run, l.reports - count(*) FROM dropped d JOIN lots l ON l.number = d.lot"
            " GROUP BY l.number"
        )
        return [StaleLot(number=n, folder=folder, run=run, left=left) for n, folder, run, left in found]

    def dropped(self, lot: int) -> frozenset[str]:
        """The reports whose rows a lot is to lose."""
        found = self._database.execute("SELECT id FROM dropped WHERE lot = ?", (lot,))
        return frozenset(name.hex() for (name,) in found)

    # Files

    def add_lot(self, lot: Lot) -> None:
        """A lot that this run wrote."""
        self._database.execute(
            "INSERT INTO lots VALUES (?, ?, ?, ?)", (lot.number, lot.folder, self.run, lot.reports)
        )

    def replace_lot(self, lot: StaleLot) -> None:
        """A lot whose files this run wrote again without some reports; one without any is gone."""
        if lot.left:
            self._database.execute(
                "UPDATE lots SET run = ?, reports = ? WHERE number = ?", (self.run, lot.left, lot.number)
            )
        else:
            self._database.execute("DELETE FROM lots WHERE number = ?", (lot.number,))

    def publish(self, name: str, token: str) -> None:
        """A file that is to be published once this run is committed."""
        self._database.execute("INSERT INTO to_publish VALUES (?, ?)", (name, token))

    def remove(self, name: str) -> None:
        """A file that is to be removed then."""
        self._database.execute("INSERT OR IGNORE INTO to_remove VALUES (?)", (name,))

    def to_publish(self) -> Iterator[tuple[str, str]]:
        """Names and tokens of the files that the last run was to publish."""
        yield from self._database.execute("SELECT name, token FROM to_publish ORDER BY name")

    def to_remove(self) -> list[str]:
        """The files that the last run was to remove."""
        return [name for (name,) in self._database.execute("SELECT name FROM to_remove ORDER BY name")]

    def close(self) -> None:
        """Writes all of it to the file."""
        if self._database.in_transaction:
            self._database.execute("COMMIT")
        self._database.close()

    def _fact(self, name: str) -> str | None:
        row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _row(self, ref: ReportRef) -> tuple[str, str | None, int | None] | None:
        found = self._database.execute("SELECT version, day, lot FROM reports WHERE id = ?", (_key(ref),))
        row: tuple[str, str | None, int | None] | None = found.fetchone()
        return row


def file_name(table: str, folder: str, run: str, lot: int, suffix: str) -> str:
    """Where a lot's file of a table lies below the export's place. The run's id makes it a name used once."""
    return f"{table}/{folder}{run}-{lot}.{suffix}"


def _key(ref: ReportRef) -> bytes:
    return bytes.fromhex(report_id(ref.place))
