"""Exports to a folder: begun, brought up to date, and never with a row too many or too few."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.unit.exports.conftest import DAYS, call, check, layout, put, read_back, run
from warmline.calls.stored_reports import FolderShelf, ReportRef, StoredReport
from warmline.exports import lots
from warmline.exports.export import export_dataset, export_file, folder_of
from warmline.exports.formats import format_named
from warmline.exports.lots import Lot, Lots
from warmline.exports.places import ExportBroken, ExportUnderWay, Folder
from warmline.exports.tables import tables
from warmline.jobs.errors import InvalidRequest

FilesOf = Callable[[Path], set[str]]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for number in range(12):
        put(tmp_path / "reports", number, call(number, emotion="angry"))
    return tmp_path / "reports"


@pytest.mark.parametrize("format_", ["parquet", "csv", "jsonl"])
def test_each_run_exports_what_is_new_or_changed(
    tmp_path: Path, reports: Path, files_of: FilesOf, format_: str
) -> None:
    place, of = tmp_path / "export", layout(format_)
    expected = dict.fromkeys(range(12), "angry")
    first = run(reports, place, of)
    assert (first.exported, first.replaced, first.rows["windows"]) == (12, 0, 72)
    check(place, expected)
    assert {name.rpartition("/")[0] for name in files_of(place) if name.startswith("calls/")} == {
        f"calls/date={day}" for day in DAYS
    }

    # Nothing new: nothing is touched
    before = files_of(place)
    assert run(reports, place, of).exported == 0
    assert files_of(place) == before

    # One new, two changed, of which one is now another day's
    put(reports, 20, call(20, emotion="happy"))
    put(reports, 3, call(3, emotion="happy"))
    put(reports, 4, call(4, emotion="happy", key="2026/06/02/call-0004.wav"))
    again = run(reports, place, of)
    assert (again.exported, again.replaced) == (3, 2)
    expected |= {20: "happy", 3: "happy", 4: "happy"}
    check(place, expected)
    moved = [name for name in files_of(place) if name.startswith("calls/date=2026-06-02/")]
    assert len(moved) == 1

    # All of a day's changed: its old files are gone, not emptied
    for number in (0, 3, 6, 9):
        put(reports, number, call(number, emotion="surprised"))
    assert run(reports, place, of).replaced == 4
    expected |= dict.fromkeys((0, 3, 6, 9), "surprised")
    check(place, expected)
    assert len([name for name in files_of(place) if name.startswith(f"calls/date={DAYS[0]}/")]) == 1
    assert len(list((place / "_warmline" / "commits").iterdir())) == 2  # the last one, and that it is done


def test_duckdb_reads_the_folders_as_days(tmp_path: Path, reports: Path) -> None:
    put(reports, 30, call(30, key="undated.wav"))
    done = run(reports, tmp_path / "export")

    assert done.undated == 1
    found = duckdb.read_parquet(f"{tmp_path}/export/calls/**/*.parquet", hive_partitioning=True)
    counted = found.aggregate("date, count(*)").order("1 NULLS LAST").fetchall()
    assert counted == [*((date.fromisoformat(day), 4) for day in DAYS), (None, 1)]
    by_arrow = pq.read_table(tmp_path / "export" / "calls")
    assert sorted(map(str, by_arrow["date"].to_pylist())) == sorted([*DAYS * 4, "None"])


def test_what_is_gone_from_the_reports_stays_until_all_is_written_anew(tmp_path: Path, reports: Path) -> None:
    place = tmp_path / "export"
    run(reports, place)
    (reports / "0005.json").unlink()
    put(reports, 2, call(2, emotion="happy"))
    run(reports, place)
    check(place, dict.fromkeys(range(12), "angry") | {2: "happy"})

    done = run(reports, place, full=True)

    assert (done.exported, done.replaced) == (11, 0)
    expected = dict.fromkeys(range(12), "angry") | {2: "happy"}
    del expected[5]
    check(place, expected)


def test_another_layout_is_refused_until_all_is_written_anew(
    tmp_path: Path, reports: Path, files_of: FilesOf
) -> None:
    place = tmp_path / "export"
    run(reports, place)
    for other in (layout("csv"), layout(tables="calls"), layout(day_of="analysed_at"), layout(partition="month")):
        with pytest.raises(InvalidRequest, match="begun with"):
            run(reports, place, other)

    run(reports, place, layout("csv", tables="calls", partition="month"), full=True)

    names = files_of(place)
    assert {name.rpartition("/")[0] for name in names} == {"calls/date=2026-05", "calls/date=2026-06"}
    assert {name.rpartition(".")[2] for name in names} == {"csv"}


def test_earlier_days_are_left_out_and_not_read_again(tmp_path: Path, reports: Path) -> None:
    place, since = tmp_path / "export", date(2026, 5, 2)
    put(reports, 30, call(30, key="undated.wav"))
    first = run(reports, place, since=since)
    assert (first.exported, first.left_out) == (8, 5)

    for path in reports.glob("*.json"):  # now they cannot be read, which nobody notices
        status = path.stat()
        if int(path.stem) % 3 == 0:
            path.chmod(0)
            path.write_bytes(b"?" * status.st_size)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = run(reports, place, since=since)
    assert (second.exported, second.left_out, second.unreadable_count) == (0, 0, 0)

    third = run(reports, place)  # without a day they are wanted again
    assert third.unreadable_count == 5


def test_a_changed_report_that_is_left_out_keeps_its_rows(tmp_path: Path, reports: Path) -> None:
    place = tmp_path / "export"
    run(reports, place)
    put(reports, 0, call(0, emotion="happy"))
    assert run(reports, place, since=date(2026, 5, 2)).left_out == 1
    check(place, dict.fromkeys(range(12), "angry"))
    run(reports, place)
    check(place, dict.fromkeys(range(12), "angry") | {0: "happy"})


def test_what_cannot_be_read_is_listed_and_tried_again(tmp_path: Path, reports: Path) -> None:
    place = tmp_path / "export"
    (reports / "0003.json").write_text("{}")
    (reports / "0004.json").write_text("not JSON")
    done = run(reports, place)
    assert (done.exported, done.unreadable_count) == (10, 2)
    assert [Path(found.place).name for found in done.unreadable] == ["0003.json", "0004.json"]
    assert "no report: job_id: Field required" in done.unreadable[0].reason

    put(reports, 3, call(3, emotion="angry"))
    done = run(reports, place)
    assert (done.exported, done.unreadable_count) == (1, 1)
    (reports / "0005.json").write_text("broken since")
    run(reports, place)
    check(place, {n: "angry" for n in range(12) if n != 4})  # one that broke later keeps its rows


def test_a_report_that_is_found_twice_in_a_run_is_there_once(tmp_path: Path, reports: Path) -> None:
    class OfTwoJobs(FolderShelf):
        def refs(self) -> Iterator[ReportRef]:
            for ref in super().refs():
                yield from (ref, ref)

    for emotion in ("angry", "happy"):
        put(reports, 1, call(1, emotion=emotion))
        shelf, place = OfTwoJobs(reports), Folder(tmp_path / "export")
        export_dataset(shelf, place, layout(), since=None, full=False, on_progress=lambda _: None)
        check(tmp_path / "export", dict.fromkeys(range(12), "angry") | {1: emotion})


def test_one_run_at_a_time(tmp_path: Path, reports: Path) -> None:
    place = tmp_path / "export"
    with Folder(place).hold(), pytest.raises(ExportUnderWay, match="under way"):
        run(reports, place)
    assert run(reports, place).exported == 12


def test_a_lost_file_is_said_and_mended_by_writing_anew(tmp_path: Path, reports: Path) -> None:
    place = tmp_path / "export"
    run(reports, place)
    next((place / "windows" / f"date={DAYS[1]}").iterdir()).unlink()
    put(reports, 1, call(1, emotion="happy"))
    with pytest.raises(ExportBroken, match="--full"):
        run(reports, place)
    run(reports, place, full=True)
    check(place, dict.fromkeys(range(12), "angry") | {1: "happy"})


def test_no_folders_by_day(tmp_path: Path, reports: Path, files_of: FilesOf) -> None:
    run(reports, tmp_path / "export", layout(partition="none"))
    assert {name.count("/") for name in files_of(tmp_path / "export")} == {1}
    assert folder_of(None, "day") == "date=__HIVE_DEFAULT_PARTITION__/"


def test_one_file_has_its_rows_and_their_day(tmp_path: Path, reports: Path) -> None:
    put(reports, 30, call(30, key="undated.wav"))
    path = tmp_path / "windows.parquet"
    path.write_text("an earlier one")

    def write(of: str, since: date | None = None) -> int:
        return export_file(
            FolderShelf(reports), layout(tables=of), path, since=since, on_progress=lambda _: None
        ).exported

    assert write("windows") == 13
    table = pq.read_table(path)
    assert table.num_rows == 13 * 6
    assert table.column_names[:2] == ["report_id", "date"]
    assert set(table["date"].to_pylist()) == {*map(date.fromisoformat, DAYS), None}
    assert write("windows", since=date(2026, 6, 1)) == 4
    with pytest.raises(InvalidRequest, match="one table"):
        write("calls,windows")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reports", "windows.parquet"]


def add_many(format_: str, scratch: Path, count: int, days: int) -> tuple[list[Lot], int]:
    """The lots of so many calls with 100 windows each, of so many days in no order; and the most files open."""
    stored = StoredReport(place="x", version="1", report=call(1, windows=50))
    of, written = layout(format_, tables="calls,windows"), list[Lot]()
    made = Lots(
        tables(of.tables, of.metadata_keys), of.metadata_keys, format_named(format_), scratch, written.append,
        first_number=7,
    )  # fmt: skip
    open_before, most_open = open_files(), 0
    for number in range(count):
        made.add(stored, f"date={number * 7919 % days}/")
        most_open = max(most_open, open_files() - open_before)
    made.close()
    assert sum(lot.reports for lot in written) == count
    assert sum(lot.rows["windows"] for lot in written) == 100 * count
    return written, most_open


def test_many_days_in_no_order_lose_nothing_and_keep_few_files_open(tmp_path: Path) -> None:
    written, most_open = add_many("csv", tmp_path, 450, days=150)

    assert 2 <= most_open <= 2 * lots.OPEN_LOTS
    assert len({lot.number for lot in written}) == len(written) > 150
    lines = sum(path.read_bytes().count(b"\n") - 1 for lot in written for path in lot.files.values())
    assert lines == 45_450


def test_rows_wait_in_a_bounded_memory(tmp_path: Path) -> None:
    (lot,), _ = add_many("parquet", tmp_path, 500, days=1)

    with pq.ParquetFile(lot.files["windows"]) as file:
        parts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(parts) == 50_000
    assert 5_000 < max(parts) <= lots.BUFFERED_ROWS


def test_a_report_keeps_its_name_in_every_export(tmp_path: Path, reports: Path) -> None:
    run(reports, tmp_path / "a")
    run(reports, tmp_path / "b", layout("csv"))
    assert {row["report_id"] for row in read_back(tmp_path / "a", "calls")} == {
        row["report_id"] for row in read_back(tmp_path / "b", "windows")
    }
