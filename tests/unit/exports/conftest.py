"""Reports whose rows are known, a folder of them, and an export of that folder read back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.made_reports import made_side, make_report
from warmline.calls.report import Categories, CategoryMatch, MatchedRange, Report
from warmline.calls.stored_reports import FolderShelf
from warmline.exports.export import Progress, export_dataset
from warmline.exports.places import Folder
from warmline.exports.state import Layout

DAYS = ("2026-05-01", "2026-05-02", "2026-06-01")


def call(number: int, *, emotion: str = "neutral", windows: int = 3, **more: Any) -> Report:
    """Call number so-and-so: of one of three days, with two channels of so many windows each."""
    day = DAYS[number % len(DAYS)].replace("-", "/")
    agent = [(n * 4000, n * 4000 + 2000, {"neutral": 0.8}) for n in range(windows)]
    customer = [(n * 4000 + 2000, n * 4000 + 4000, {emotion: 0.6, "sad": 0.3}) for n in range(windows)]
    fields: dict[str, Any] = {
        "key": f"{day}/call-{number:04}.wav",
        "job_id": f"{number:032x}",
        "metadata": {"agent": f"agent-{number % 2}", "queue": "billing"},
        "analysed_at": datetime(2026, 7, 1, 12, tzinfo=UTC),
        "categories": Categories(
            digest="0123456789abcdef",
            matches=(
                CategoryMatch(
                    category="upset",
                    ranges=(MatchedRange(start_ms=2000, end_ms=4000, channel=1, role="customer"),),
                ),
                CategoryMatch(category="long", ranges=()),
            ),
        ),
    }
    return make_report(
        made_side("agent", windows=agent),
        made_side("customer", windows=customer),
        duration_ms=windows * 4000 + 1000,
        **(fields | more),
    )


def put(folder: Path, number: int, report: Report | None = None) -> Path:
    """Writes a report's file; its version is another one each time."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:04}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text((report or call(number)).model_dump_json())
    fresh.replace(path)
    return path


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """A folder with twelve reports."""
    folder = tmp_path / "reports"
    for number in range(12):
        put(folder, number)
    return folder


def layout(format_: str = "parquet", tables: str = "calls,channels,windows,matches", **more: str) -> Layout:
    """A layout by the calls' own days."""
    fields = {"day_of": "key", "partition": "day"} | more
    return Layout(
        format=format_, tables=tuple(tables.split(",")), metadata_keys=("agent", "queue"), **fields
    )  # fmt: skip


def run(
    reports: Path, place: Path, of: Layout | None = None, *, since: date | None = None, full: bool = False
) -> Progress:
    """One run of an export."""
    return export_dataset(
        FolderShelf(reports),
        Folder(place),
        of or layout(),
        since=since,
        full=full,
        on_progress=lambda _: None,
    )


def read_back(place: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table, in no order, as whoever globs the folder finds them."""
    rows: list[dict[str, Any]] = []
    for path in sorted((place / table).rglob("*.*")):
        match path.suffix:
            case ".parquet":
                with pq.ParquetFile(path) as file:
                    rows += file.read().to_pylist()
            case ".csv":
                with path.open(newline="") as lines:
                    rows += csv.DictReader(lines)
            case ".jsonl":
                rows += [json.loads(line) for line in path.read_text().splitlines()]
    return rows


def check(
    place: Path, expected: dict[int, str], *, tables: tuple[str, ...] = ("channels", "windows", "matches")
) -> None:
    """The export holds each call once in each table: in the version with this dominant emotion of the customer."""
    calls = read_back(place, "calls")
    assert {int(row["job_id"], 16): row["customer_dominant"] for row in calls} == expected
    assert len(calls) == len(expected)
    ids = {row["report_id"] for row in calls}
    each = {"channels": 2, "windows": 6, "matches": 2}
    for table in tables:
        rows = read_back(place, table)
        assert len(rows) == each[table] * len(expected), table
        assert {row["report_id"] for row in rows} == ids, table


@pytest.fixture
def files_of() -> Callable[[Path], set[str]]:
    """The files below a place that readers see."""

    def find(place: Path) -> set[str]:
        def below() -> Iterator[str]:
            for path in place.rglob("*"):
                name = path.relative_to(place).as_posix()
                if path.is_file() and not name.startswith("_warmline/"):
                    yield name

        return set(below())

    return find
