"""The windows' embeddings as one file, written while a call is scored: .npy or Parquet, a row for each window.

Windows come as the channels speak, and the report has one channel after the other. So rows are put down as they
come, in a file without a name that is gone with whoever holds it, and are brought into the report's order at the
end. A row of the large model is 4 KB, and a call of six hours in windows that slide can have 400,000 of them: only
ROWS_AT_ONCE are ever held.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from warmline.calls.report import ChannelReport, EmbeddingFile
from warmline.emotion.engine import Embeddings
from warmline.jobs.errors import InvalidRequest

EmbeddingFormat = Literal["npy", "parquet"]

ROWS_AT_ONCE = 2048  # 8 MB for the large model; of a Parquet file a row group

_FLOAT32 = np.dtype("<f4")


class EmbeddingWriter:
    """One call's embeddings on their way into a file, which is there after `finish`, whole or not at all.

    Use it as a context: nothing is left behind by a block that ends without `finish`.
    """

    def __init__(self, path: Path, *, file_format: EmbeddingFormat, dimensions: int, uri: str) -> None:
        """`uri` is where it will be found, for the report. Raises OSError, and InvalidRequest without pyarrow."""
        self.path = path
        self._format = file_format
        self._dimensions = dimensions
        self._uri = uri
        self._write = _write_parquet if file_format == "parquet" else _write_npy
        if file_format == "parquet":
            require_pyarrow()
        self._partial = path.with_name(f"{path.name}.partial")
        self._places: dict[tuple[int, int], int] = {}  # (channel, start_ms) -> which row, as they came
        self._count = 0
        self._rows = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  # `__exit__` closes it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()
        self._partial.unlink(missing_ok=True)

    def add(self, windows: Sequence[tuple[int, int]], rows: Embeddings) -> None:
        """Puts down the rows (windows, dimensions) of windows, each named by its recorded channel and start_ms.

        Raises ValueError for rows of another shape, and OSError for a disk that has no room.
        """
        if rows.shape != (len(windows), self._dimensions):
            raise ValueError(f"{rows.shape} rows for {len(windows)} windows of {self._dimensions} dimensions")
        self._places.update(zip(windows, range(self._count, self._count + len(windows)), strict=True))
        self._count += len(windows)
        self._rows.write(np.ascontiguousarray(rows, _FLOAT32).data)

    def finish(self, channels: Sequence[ChannelReport]) -> EmbeddingFile:
        """Writes the file: a row for each of the report's windows, in its order. Raises OSError."""
        self._rows.flush()
        order = [
            (position, window.start_ms, window.end_ms, self._places[channel.index, window.start_ms])
            for position, channel in enumerate(channels)
            for window in channel.windows
        ]
        parts = (order[start : start + ROWS_AT_ONCE] for start in range(0, len(order), ROWS_AT_ONCE))
        self._write(self._partial, len(order), self._dimensions, ((part, self._gather(part)) for part in parts))
        self._partial.replace(self.path)
        return EmbeddingFile(format=self._format, uri=self._uri, rows=len(order), dimensions=self._dimensions)

    def _gather(self, part: Sequence[_Row]) -> Embeddings:
        found = np.empty((len(part), self._dimensions), _FLOAT32)
        size = found.itemsize * self._dimensions
        for row, (*_, place) in zip(found, part, strict=True):
            if os.preadv(self._rows.fileno(), [row.data.cast("B")], place * size) != size:
                raise OSError(f"{self.path.parent}: a row that was written cannot be read again")
        return found


_Row = tuple[int, int, int, int]  # the channel's position in the report, start_ms, end_ms, the row's place
_Parts = Iterator[tuple[Sequence[_Row], NDArray[np.float32]]]


def require_pyarrow() -> None:
    """Raises InvalidRequest, which says what to install, where Parquet's library is not there."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InvalidRequest(
            "embedding=parquet needs pyarrow: pip install 'warmline[export]' where calls are scored, or take npy."
        )


def _write_npy(path: Path, rows: int, dimensions: int, parts: _Parts) -> None:
    """NumPy's own format, version 1.0: a header that says (rows, dimensions), then the rows."""
    with path.open("wb") as file:
        header = {"descr": _FLOAT32.str, "fortran_order": False, "shape": (rows, dimensions)}
        np.lib.format.write_array_header_1_0(file, header)
        for _, embeddings in parts:
            file.write(embeddings.data)


def _write_parquet(path: Path, rows: int, dimensions: int, parts: _Parts) -> None:
    """Columns channel (its position in the report), start_ms, end_ms, embedding (a list of fixed length)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    embedding = pa.list_(pa.field("element", pa.float32(), nullable=False), dimensions)
    columns = {"channel": pa.int32(), "start_ms": pa.int64(), "end_ms": pa.int64(), "embedding": embedding}
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])
    # No dictionary: no two of a model's numbers are alike.
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for part, embeddings in parts:
            position, start_ms, end_ms, _ = zip(*part, strict=True)
            arrays = [
                pa.array(position, pa.int32()),
                pa.array(start_ms, pa.int64()),
                pa.array(end_ms, pa.int64()),
                pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), type=embedding),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
