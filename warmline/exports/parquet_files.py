"""Parquet by Apache's own library: zstd, row groups of bounded size, so that writing takes a bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warmline.exports.tables import Kind, Row, Table

READ_ROWS = 4096  # of a file that is copied, at once

_TYPES: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "yes_no": pa.bool_(),
    "moment": pa.timestamp("us", tz="UTC"),
    "day": pa.date32(),
    "texts": pa.list_(pa.string()),
    "document": pa.string(),
}


class Parquet:
    """See `warmline.exports.formats.Format`."""

    name: Literal["parquet"] = "parquet"

    def open(self, table: Table, path: Path) -> ParquetFile:
        """See `Format`."""
        return ParquetFile(schema_of(table), path)

    def without(self, path: Path, dropped: Collection[str], to: Path) -> None:
        """See `Format`."""
        ids = pa.array(sorted(dropped), pa.string())
        with pq.ParquetFile(path) as source, _writer(to, source.schema_arrow) as target:
            # Row group by row group: the copy has those of the original, less what is dropped.
            for number in range(source.num_row_groups):
                _copy_row_group(source, number, ids, target)
        # Arrow's allocator keeps what is freed: from file to file its memory would go on growing.
        pa.default_memory_pool().release_unused()


def _copy_row_group(source: pq.ParquetFile, number: int, dropped: pa.Array, target: pq.ParquetWriter) -> None:
    """A function of its own, so that nothing of a row group is left when the next one is read."""
    # In this thread: each of Arrow's threads has an allocator of its own, which keeps what it had.
    batches = source.iter_batches(READ_ROWS, row_groups=[number], use_threads=False)
    kept = [batch.filter(pc.invert(pc.is_in(batch.column("report_id"), value_set=dropped))) for batch in batches]
    table = pa.Table.from_batches(kept, source.schema_arrow)
    if table.num_rows:
        target.write_table(table)


class ParquetFile:
    """See `TableFile`. Each write is a row group."""

    def __init__(self, schema: pa.Schema, path: Path) -> None:
        self._schema = schema
        self._writer = _writer(path, schema)

    def write(self, rows: Sequence[Row]) -> None:
        """See `TableFile`."""
        if rows:
            columns = zip(*rows, strict=True)
            arrays = [pa.array(c, field.type) for c, field in zip(columns, self._schema, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """See `TableFile`."""
        self._writer.close()


def schema_of(table: Table) -> pa.Schema:
    """The table's columns as Arrow has them; each one's meaning is in its metadata."""
    return pa.schema(
        [
            pa.field(c.name, _TYPES[c.kind], nullable=c.name != "report_id", metadata={"description": c.meaning})
            for c in table.columns
        ]
    )


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd")
