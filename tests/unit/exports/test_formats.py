"""Files in each format: what is written comes back, also through other people's readers."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from warmline.exports.formats import format_named, table_names
from warmline.exports.tables import Column, Table
from warmline.jobs.errors import InvalidRequest

TABLE = Table(
    name="made",
    columns=(
        Column("report_id", "text", ""),
        Column("words", "text", ""),
        Column("count", "integer", ""),
        Column("share", "number", ""),
        Column("mini", "yes_no", ""),
        Column("at", "moment", ""),
        Column("on", "day", ""),
        Column("flags", "texts", ""),
    ),
)
AWKWARD = (
    'He said "no", twice',
    "two\r\nlines",
    'two\nlines, one "quoted\n"',
    "客 é \U0001f600",
    "",
    " a space first",
    "a\ttab within",
)
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://evil/","x")', "－1")  # noqa: RUF001
AT = datetime(2026, 5, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def name(number: int) -> str:
    return f"{number:032x}"


def rows(texts: tuple[str, ...]) -> list[tuple[object, ...]]:
    return [
        (name(n), text, n, -0.25, n % 2 == 0, AT, date(2026, 5, 1), ("mono", "clipping"))
        for n, text in enumerate(texts)
    ]


def write(path: Path, made: list[tuple[object, ...]]) -> Path:
    file = format_named(path.suffix[1:]).open(TABLE, path)
    half = len(made) // 2
    file.write(made[:half])
    file.write(made[half:])
    file.close()
    return path


def test_csv_is_what_rfc_4180_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows(AWKWARD))

    body = path.read_bytes()
    assert body.startswith(b"report_id,words,count,share,mini,at,on,flags\r\n")
    assert body.endswith(b"\r\n")
    with path.open(newline="", encoding="utf-8") as lines:
        back = list(csv.DictReader(lines))
    assert tuple(row["words"] for row in back) == AWKWARD
    assert back[0] | {"words": ""} == {
        "report_id": name(0), "words": "", "count": "0", "share": "-0.25", "mini": "true",
        "at": "2026-05-01T12:30:15.250000Z", "on": "2026-05-01", "flags": "mono|clipping",
    }  # fmt: skip
    by_arrow = pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True))
    assert tuple(by_arrow["words"].to_pylist()) == AWKWARD
    by_duckdb = duckdb.read_csv(str(path)).order("count").project("words").fetchall()
    assert [words or "" for (words,) in by_duckdb] == list(AWKWARD)


def test_a_spreadsheet_runs_no_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows(FORMULAS))

    with path.open(newline="", encoding="utf-8") as lines:
        back = list(csv.DictReader(lines))
    assert [row["words"] for row in back] == [f"'{text}" for text in FORMULAS]
    assert back[0]["share"] == "-0.25"  # a number is one


def test_null_is_empty_in_csv_and_null_elsewhere(tmp_path: Path) -> None:
    nothing = [(name(0), *(None,) * 7)]
    assert write(tmp_path / "a.csv", nothing).read_text().splitlines()[1] == f"{name(0)},,,,,,,"
    back = json.loads(write(tmp_path / "a.jsonl", nothing).read_text())
    assert set(back.values()) == {name(0), None}
    assert set(pq.read_table(write(tmp_path / "a.parquet", nothing)).to_pylist()[0].values()) == {name(0), None}


def test_parquet_has_the_tables_types(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows((*AWKWARD, *FORMULAS)))

    file = pq.ParquetFile(path)
    assert [str(field.type) for field in file.schema_arrow] == [
        "string", "string", "int64", "double", "bool", "timestamp[us, tz=UTC]", "date32[day]",
        "list<element: string>",
    ]  # fmt: skip
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    back = file.read().to_pylist()
    assert tuple(row["words"] for row in back) == (*AWKWARD, *FORMULAS)  # as they are: nothing runs Parquet
    assert back[0]["at"] == AT
    assert back[0]["flags"] == ["mono", "clipping"]


def test_json_lines_are_objects(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", rows(AWKWARD)).read_text().splitlines()
    back = [json.loads(line) for line in lines]
    assert tuple(row["words"] for row in back) == AWKWARD
    assert back[1] == {
        "report_id": name(1), "words": "two\r\nlines", "count": 1, "share": -0.25, "mini": False,
        "at": "2026-05-01T12:30:15.250000Z", "on": "2026-05-01", "flags": ["mono", "clipping"],
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_copy_without_some_reports(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", rows((*AWKWARD, *FORMULAS)))
    kept = tmp_path / f"kept.{suffix}"

    format_named(suffix).without(path, {name(1), name(2), name(9), "f" * 32}, kept)

    again = [row for number, row in enumerate(rows((*AWKWARD, *FORMULAS))) if number not in {1, 2, 9}]
    expected = write(tmp_path / f"expected.{suffix}", again)
    if suffix == "parquet":
        assert pq.read_table(kept).equals(pq.read_table(expected))
    else:
        assert kept.read_bytes() == expected.read_bytes()


def test_formats_and_tables_are_named(tmp_path: Path) -> None:
    assert table_names("", "parquet") == ("calls", "channels", "windows", "matches")
    assert table_names("", "jsonl") == ("reports",)
    assert table_names(" calls, matches,calls", "csv") == ("calls", "matches")
    with pytest.raises(InvalidRequest, match="no 'reports'"):
        table_names("reports", "parquet")
    with pytest.raises(InvalidRequest, match="not 'xlsx'"):
        format_named("xlsx")


def test_a_stream_takes_rows_too() -> None:
    from warmline.exports.json_lines import JsonLinesFile

    out = io.StringIO()
    table: Any = Table(name="reports", columns=(Column("report_id", "text", ""), Column("report", "document", "")))
    JsonLinesFile(table, out).write([(name(0), '{"version": "1"}')])
    assert json.loads(out.getvalue()) == {"report_id": name(0), "report": {"version": "1"}}
