"""The formats that tables are written in, behind one shape: a file that rows are appended to, part by part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args

from warmline.exports.tables import REPORTS, TABLE_NAMES, Row, Table
from warmline.jobs.errors import InvalidRequest

FormatName = Literal["parquet", "csv", "jsonl"]


class TableFile(Protocol):
    """A file of one table that is being written."""

    def write(self, rows: Sequence[Row]) -> None:
        """Appends rows."""

    def close(self) -> None:
        """Ends the file; all of it has been written then."""


class Format(Protocol):
    """How tables become files. Its name is the files' suffix."""

    @property
    def name(self) -> FormatName:
        """Its name."""

    def open(self, table: Table, path: Path) -> TableFile:
        """A new file without rows."""

    def without(self, path: Path, dropped: Collection[str], to: Path) -> None:
        """Copies a file but for the rows of these reports. Memory: a part of the file at a time."""


def format_named(name: str) -> Format:
    """The format with this name. Raises InvalidRequest, also where Parquet's library is not installed."""
    match name:
        case "csv":
            from warmline.exports.csv_files import Csv

            return Csv()
        case "jsonl":
            from warmline.exports.json_lines import JsonLines

            return JsonLines()
        case "parquet":
            try:
                from warmline.exports.parquet_files import Parquet
            except ModuleNotFoundError:
                raise InvalidRequest(
                    "Parquet needs pyarrow: pip install 'warmline[export]', or choose --format csv or jsonl"
                ) from None
            return Parquet()
    raise InvalidRequest(f"the format is one of {', '.join(get_args(FormatName))}, not {name!r}")


def table_names(text: str, format_name: str) -> tuple[str, ...]:
    """The tables of a comma-separated list; empty: the reports themselves as JSON lines, else all tables.

    Raises InvalidRequest.
    """
    known = (*TABLE_NAMES, REPORTS) if format_name == "jsonl" else TABLE_NAMES
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        return (REPORTS,) if format_name == "jsonl" else TABLE_NAMES
    for name in names:
        if name not in known:
            raise InvalidRequest(f"the tables of {format_name} are {', '.join(known)}; there is no {name!r}")
    return names
