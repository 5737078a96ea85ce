"""A call's embeddings in a file: the report's order, whole or not at all, in little memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from config.settings import AnalysisSettings
from tests.made_reports import made_side
from warmline.calls.embeddings import ROWS_AT_ONCE, EmbeddingFormat, EmbeddingWriter
from warmline.calls.report import ChannelReport
from warmline.calls.sides import describe_sides
from warmline.jobs.errors import InvalidRequest

ROOT = Path(__file__).parents[3]
DIMENSIONS = 5
FORMATS: tuple[EmbeddingFormat, ...] = ("npy", "parquet")


def channels_of(*sides: tuple[int, list[int]]) -> tuple[ChannelReport, ...]:
    """The report's channels: each side's recorded channel, and its windows' starts; a window lasts 900 ms."""
    made = [
        made_side(f"side_{place}", index=index, windows=[(start, start + 900, {"sad": 0.9}) for start in starts])
        for place, (index, starts) in enumerate(sides)
    ]
    described = describe_sides(made, duration_ms=10**7, recorded_channels=len(sides), settings=AnalysisSettings())
    return described.channels


def row_of(channel: int, start_ms: int) -> np.ndarray:
    """A row that says whose it is."""
    return np.array([channel, start_ms, 0.1, -0.0, 1e-30], np.float32)


def read(path: Path, kind: EmbeddingFormat) -> np.ndarray:
    if kind == "npy":
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        assert found.dtype == np.float32
        return found
    return np.array(pq.read_table(path)["embedding"].to_pylist(), np.float32).reshape(-1, DIMENSIONS)


def writer_at(path: Path, kind: EmbeddingFormat, dimensions: int = DIMENSIONS) -> EmbeddingWriter:
    return EmbeddingWriter(path, file_format=kind, dimensions=dimensions, uri="s3://reports/x")


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_are_in_the_reports_order_however_they_came(tmp_path: Path, kind: EmbeddingFormat) -> None:
    # Given windows of two channels as they are scored: mixed, in batches
    path = tmp_path / "e"
    came = [[(1, 0), (0, 100)], [(0, 2000), (1, 3000), (0, 4000)], [], [(1, 5000)]]
    with writer_at(path, kind) as writer:
        for batch in came:
            writer.add(batch, np.array([row_of(*window) for window in batch], np.float32).reshape(-1, DIMENSIONS))
        # When the report has the first channel first
        told = writer.finish(channels_of((0, [100, 2000, 4000]), (1, [0, 3000, 5000])))
    # Then so has the file, and the report's words of it are true
    order = [(0, 100), (0, 2000), (0, 4000), (1, 0), (1, 3000), (1, 5000)]
    np.testing.assert_array_equal(read(path, kind), [row_of(*window) for window in order])
    assert (told.format, told.uri, told.rows, told.dimensions) == (kind, "s3://reports/x", 6, DIMENSIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_two_speakers_of_one_channel_each_have_their_windows(tmp_path: Path) -> None:
    # Given a mono call that was split into two speakers, whose windows are both of channel 0
    with writer_at(tmp_path / "e", "parquet") as writer:
        starts = [0, 1000, 2000, 3000]
        writer.add([(0, start) for start in starts], np.array([row_of(0, start) for start in starts]))
        writer.finish(channels_of((0, [1000, 2000]), (0, [0, 3000])))
    table = pq.read_table(tmp_path / "e").to_pydict()
    assert table["channel"] == [0, 0, 1, 1]  # the place in the report's channels
    assert table["start_ms"] == [1000, 2000, 0, 3000]
    assert table["end_ms"] == [1900, 2900, 900, 3900]
    assert [row[1] for row in table["embedding"]] == [1000, 2000, 0, 3000]


def test_parquet_opens_in_duckdb_with_typed_columns(tmp_path: Path) -> None:
    with writer_at(tmp_path / "e.parquet", "parquet") as writer:
        writer.add([(0, 0)], row_of(0, 0)[None])
        writer.finish(channels_of((0, [0])))
    schema = pq.read_schema(tmp_path / "e.parquet")
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert kinds.pop("embedding") == f"fixed_size_list<element: float not null>[{DIMENSIONS}]"
    assert kinds == {"channel": "int32", "start_ms": "int64", "end_ms": "int64"}
    rows = duckdb.read_parquet(str(tmp_path / "e.parquet")).project("channel, len(embedding), embedding[3]")
    assert rows.fetchall() == [(0, DIMENSIONS, pytest.approx(0.1))]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_call_without_speech_has_an_empty_file_of_the_right_width(tmp_path: Path, kind: EmbeddingFormat) -> None:
    with writer_at(tmp_path / "e", kind) as writer:
        assert writer.finish(channels_of((0, []), (1, []))).rows == 0
    assert read(tmp_path / "e", kind).shape == (0, DIMENSIONS)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rows", [ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 7])
def test_the_parts_it_is_written_in_have_no_seams(tmp_path: Path, kind: EmbeddingFormat, rows: int) -> None:
    starts = list(range(0, 1000 * rows, 1000))
    numbers = np.arange(rows * DIMENSIONS, dtype=np.float32).reshape(rows, DIMENSIONS)
    with writer_at(tmp_path / "e", kind) as writer:
        # The later half first
        middle = rows // 2
        for part in (slice(middle, rows), slice(0, middle)):
            writer.add([(0, start) for start in starts[part]], numbers[part])
        writer.finish(channels_of((0, starts)))
    np.testing.assert_array_equal(read(tmp_path / "e", kind), numbers)


def write_and_break(path: Path) -> None:
    with writer_at(path, "npy") as writer:
        writer.add([(0, 0)], row_of(0, 0)[None])
        raise RuntimeError("the engine")


def test_nothing_is_left_of_an_analysis_that_ended_badly(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the engine"):
        write_and_break(tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def write_limited(path: Path, kind: EmbeddingFormat, starts: list[int], numbers: np.ndarray, most: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    channels = channels_of((0, starts))
    with writer_at(path, kind) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            writer.add([(0, start) for start in starts], numbers)
            writer.finish(channels)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("room", [0.5, 1.0])
def test_a_disk_without_room_is_said_and_nothing_is_left(
    tmp_path: Path, kind: EmbeddingFormat, room: float
) -> None:
    # Given room for half of the rows, or for the rows but not for the file, which is larger by its header
    starts = list(range(0, 1000 * 5000, 1000))
    numbers = np.random.default_rng(0).standard_normal((5000, DIMENSIONS), np.float32)
    with pytest.raises(OSError, match=r"too large|write"):
        write_limited(tmp_path / "e", kind, starts, numbers, round(room * numbers.nbytes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, DIMENSIONS + 1), (2, DIMENSIONS), (DIMENSIONS,)])
def test_rows_of_another_shape_are_a_mistake(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with writer_at(tmp_path / "e", "npy") as writer, pytest.raises(ValueError, match="rows for 1 windows"):
        writer.add([(0, 0)], np.zeros(shape, np.float32))


WITHOUT_PYARROW = """
import sys
from pathlib import Path
sys.modules["pyarrow"] = None  # Python's own way to say that a module is not there
from warmline.calls.embeddings import EmbeddingWriter
from warmline.jobs.errors import InvalidRequest, PermanentError
EmbeddingWriter(Path(sys.argv[1]) / "e", file_format="npy", dimensions=5, uri="x").__exit__(None, None, None)
try:
    EmbeddingWriter(Path(sys.argv[1]) / "e", file_format="parquet", dimensions=5, uri="x")
except InvalidRequest as error:
    assert isinstance(error, PermanentError)
    print(error.message)
"""


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYARROW, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'warmline[export]'" in done.stdout
    assert InvalidRequest.code == "invalid_request"


MANY = """
import os, resource, sys
from pathlib import Path
import numpy as np
from types import SimpleNamespace
from warmline.calls.embeddings import EmbeddingWriter

kind, rows = sys.argv[2], int(sys.argv[3])
if kind == "parquet":
    import pyarrow.parquet
with EmbeddingWriter(Path(sys.argv[1]) / "e", file_format=kind, dimensions=1024, uri="x") as writer:
    def fill(first, last):
        for start in range(first, last, 32):
            writer.add([(0, n) for n in range(start, start + 32)], np.random.rand(32, 1024).astype(np.float32))
    def channel(count):
        windows = [SimpleNamespace(start_ms=n, end_ms=n + 1) for n in range(count)]
        return [SimpleNamespace(index=0, windows=windows)]
    fill(0, 4096)
    writer.finish(channel(4096))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fill(4096, rows)
    writer.finish(channel(rows))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", FORMATS)
def test_memory_does_not_grow_with_the_call(tmp_path: Path, kind: EmbeddingFormat) -> None:
    # Given six hours of windows of 5 s in two channels, 8,640 rows of the large model's size, 35 MB, twice over
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path), kind, "17280"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 30 * 1024, "70 MB were written"
