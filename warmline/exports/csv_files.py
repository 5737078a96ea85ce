"""CSV as RFC 4180 has it: a heading, CRLF, quotes where they are needed, UTF-8 without a mark.

Spreadsheets run a cell that begins like a formula, and metadata and keys are other people's words: such a text
gets an apostrophe in front (https://owasp.org/www-community/attacks/CSV_Injection). Numbers are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Literal, TextIO

from warmline.exports.tables import Kind, Row, Table

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - those of wide scripts
LISTED = "|"  # between the values of a list


class Csv:
    """See `warmline.exports.formats.Format`."""

    name: Literal["csv"] = "csv"

    def open(self, table: Table, path: Path) -> CsvFile:
        """See `Format`."""
        return CsvFile(table, path.open("w", encoding="utf-8", newline=""))

    def without(self, path: Path, dropped: Collection[str], to: Path) -> None:
        """See `Format`. Records begin with the report's id, and reach over a line's end only within quotes."""
        ids = {name.encode() for name in dropped}
        with path.open("rb") as source, to.open("wb") as target:
            target.write(source.readline())
            record = b""
            for line in source:
                record += line
                if record.count(b'"') % 2 == 0:
                    if record[:32] not in ids:
                        target.write(record)
                    record = b""


class CsvFile:
    """See `TableFile`; may also be a stream that is open already."""

    def __init__(self, table: Table, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(file, lineterminator="\r\n")
        # Numbers and null are left to the writer, which is quicker.
        self._cells = [
            (place, _CELLS[column.kind]) for place, column in enumerate(table.columns) if column.kind in _CELLS
        ]
        self._writer.writerow([column.name for column in table.columns])

    def write(self, rows: Sequence[Row]) -> None:
        """See `TableFile`."""
        self._writer.writerows(map(self._written, rows))

    def _written(self, row: Row) -> list[object]:
        cells = list(row)
        for place, cell in self._cells:
            if cells[place] is not None:
                cells[place] = cell(cells[place])
        return cells

    def close(self) -> None:
        """See `TableFile`."""
        self._file.close()


def text_cell(value: object) -> str:
    """A text that no spreadsheet takes for a formula."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _moment(value: object) -> str:
    assert isinstance(value, datetime)  # noqa: S101 - the column's kind says so
    return value.isoformat().replace("+00:00", "Z")


def _day(value: object) -> str:
    assert isinstance(value, date)  # noqa: S101
    return value.isoformat()


def _texts(value: object) -> str:
    assert isinstance(value, tuple)  # noqa: S101
    return text_cell(LISTED.join(value))


def _yes_no(value: object) -> str:
    return "true" if value else "false"


_CELLS: dict[Kind, Callable[[object], str]] = {
    "text": text_cell,
    "yes_no": _yes_no,
    "moment": _moment,
    "day": _day,
    "texts": _texts,
    "document": text_cell,
}
