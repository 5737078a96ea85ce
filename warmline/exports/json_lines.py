"""JSON lines: a row is an object on a line of its own, with the table's columns as its names."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Literal, TextIO

from warmline.exports.tables import Row, Table

_BEFORE_ID = b'{"report_id":"'
_ID_BYTES = slice(len(_BEFORE_ID), len(_BEFORE_ID) + 32)


class JsonLines:
    """See `warmline.exports.formats.Format`."""

    name: Literal["jsonl"] = "jsonl"

    def open(self, table: Table, path: Path) -> JsonLinesFile:
        """See `Format`."""
        return JsonLinesFile(table, path.open("w", encoding="utf-8", newline="\n"))

    def without(self, path: Path, dropped: Collection[str], to: Path) -> None:
        """See `Format`. Lines begin with the report's id."""
        ids = {name.encode() for name in dropped}
        with path.open("rb") as source, to.open("wb") as target:
            target.writelines(line for line in source if line[_ID_BYTES] not in ids)


class JsonLinesFile:
    """See `TableFile`; may also be a stream that is open already."""

    def __init__(self, table: Table, file: TextIO) -> None:
        self._file = file
        self._names = tuple(json.dumps(column.name) for column in table.columns)
        self._documents = tuple(column.kind == "document" for column in table.columns)

    def write(self, rows: Sequence[Row]) -> None:
        """See `TableFile`."""
        self._file.writelines(self._line(row) for row in rows)

    def close(self) -> None:
        """See `TableFile`."""
        self._file.close()

    def _line(self, row: Row) -> str:
        values = (
            str(value)
            if document
            else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_other)
            for document, value in zip(self._documents, row, strict=True)
        )
        return f"{{{','.join(f'{n}:{v}' for n, v in zip(self._names, values, strict=True))}}}\n"


def _other(value: object) -> str:
    if isinstance(value, date):  # a moment is one too
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(type(value).__name__)
