"""`warmline export` and `warmline aggregate`: the commands and queries of docs/exports.md are run here."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from tests.cli.conftest import ROOT, Warmline
from tests.made_reports import made_side, make_report
from warmline.calls.report import STANDARD_LABELS, Report
from warmline.cli.main import app
from warmline.exports.tables import TABLE_NAMES, Kind, tables
from warmline.jobs.errors import InvalidRequest

GUIDE = (ROOT / "docs" / "exports.md").read_text()
QUERIES = re.findall(r"^```sql\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^warmline (?:export|aggregate) .*$", GUIDE, re.MULTILINE)
TYPES: dict[Kind, str] = {
    "text": "string", "integer": "int64", "number": "double", "yes_no": "bool", "moment": "timestamp",
    "texts": "list of string",
}  # fmt: skip


def call(number: int, queue: str, first: float, last: float) -> Report:
    """40 s in which the customer's anger goes from `first` to `last`, and is 0.9 from 12 to 20 s."""
    angry = [(0, 10_000, first), (12_000, 16_000, 0.9), (16_000, 20_000, 0.9), (30_000, 40_000, last)]
    return make_report(
        made_side("agent", windows=[(20_000, 30_000, {"neutral": 0.9})]),
        made_side("customer", windows=[(start, end, {"angry": score}) for start, end, score in angry]),
        duration_ms=40_000,
        key=f"2026/11/{number:02}/call.wav",
        metadata={"queue": queue, "agent": "ann", "employee": "e-7"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, warmline: Warmline) -> Path:
    """A folder in which the guide's commands have run."""
    place = tmp_path_factory.mktemp("guide")
    (place / "reports").mkdir()
    calls = [("billing", 0.1, 0.7), ("billing", 0.1, 0.5), ("sales", 0.5, 0.1)]
    for number, (queue, first, last) in enumerate(calls, start=1):
        (place / "reports" / f"{number}.json").write_text(call(number, queue, first, last).model_dump_json())
    (place / "reports" / "broken.json").write_text("{}")
    return place


def run(warmline: Warmline, place: Path, command: str) -> Any:
    """Runs a command of the guide; what it names lies in `place`."""
    words = [str(place / word) if word in {"reports", "tables"} else word for word in shlex.split(command)[1:]]
    return warmline(*words, WARMLINE_STACK_DATA_DIR=str(place))


@pytest.fixture(scope="module")
def outcomes(place: Path, warmline: Warmline) -> list[Any]:
    return [run(warmline, place, command) for command in COMMANDS]


def test_the_commands_of_the_guide_do_what_it_says(outcomes: list[Any]) -> None:
    export, table, as_csv = outcomes
    for done in outcomes:
        # One of the reports is none: the others are done, and it is said.
        assert done.returncode == 1, done.stderr
        assert "broken.json: no report: job_id: Field required" in done.stderr.replace("\n", "")
    assert "3 reports exported" in export.stdout
    assert "1 could not be read" in export.stdout
    assert "billing" in table.stdout
    assert "3 calls in" in table.stdout
    rows = list(csv.DictReader(as_csv.stdout.splitlines()))
    assert [(row["by_agent"], row["by_day"], row["role"]) for row in rows] == [
        ("e-7", f"2026-11-{day:02}", role) for day in (1, 2, 3) for role in ("agent", "customer")
    ]


def test_the_queries_of_the_guide_answer_their_questions(place: Path, outcomes: list[Any]) -> None:
    assert outcomes
    assert len(QUERIES) == 2
    with duckdb.connect() as connection:
        connection.execute("SET file_search_path = ?", [str(place)])
        queues = connection.execute(QUERIES[0]).fetchall()
        moments = connection.execute(QUERIES[1]).fetchall()

    # queue, calls, angry over 28 s, change of angry, calls in which the agent talks most
    billing = round((0.1 * 20 + 0.9 * 16 + (0.7 + 0.5) * 10) / 56, 3)
    sales = round((0.5 * 10 + 0.9 * 8 + 0.1 * 10) / 28, 3)
    assert queues == [("billing", 2, billing, 0.5, 0), ("sales", 1, sales, -0.4, 0)]
    # After the silence it goes on in the first two; of the third the last window is none.
    assert sorted(moments[:2]) == [(f"s3://calls/2026/11/{day}/call.wav", 12, 40) for day in ("01", "02")]
    assert moments[2:] == [("s3://calls/2026/11/03/call.wav", 0, 20)]


def test_the_guide_has_every_column_and_its_type() -> None:
    told: dict[str, list[tuple[str, str]]] = {}
    for name, body in re.findall(r"^### (\w+)\n(.*?)(?=^##)", GUIDE, re.MULTILINE | re.DOTALL):
        told[name] = []
        for column, kind in re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", body, re.MULTILINE):
            labels = STANDARD_LABELS if column.endswith("_LABEL") else ("",)
            told[name] += [(column.replace("LABEL", label), kind) for label in labels]
    told["calls"].remove(("metadata_KEY", "string"))
    assert told == {
        table.name: [(column.name, TYPES[column.kind]) for column in table.columns]
        for table in tables(TABLE_NAMES, ())
    }


def test_reports_on_stdout_are_reports(place: Path, warmline: Warmline) -> None:
    lines = warmline("export", "--reports", place / "reports", "--to", "-", "--since", "2026-11-23")
    reports = [Report.model_validate(json.loads(line)["report"]) for line in lines.stdout.splitlines()]
    assert [report.metadata["queue"] for report in reports] == ["billing", "billing", "sales"]
    assert lines.returncode == 1
    assert "3 reports exported to -" in lines.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("export", "--to", "x.csv", "--format", "parquet"), r"is called \.csv"),
        (("export", "--to", "x.csv"), "one table"),
        (("export", "--to", "s3://reports/x.csv"), "is a prefix"),
        (("export", "--to", "s3://calls/x/"), "go into the bucket reports"),
        (("export", "--to", "x", "--reports", "-"), "stdin is read once"),
        (("export", "--to", "x", "--since", "2026-2-1"), "YYYY-MM-DD"),
        (("export", "--to", "x", "--date", "then"), "not 'then'"),
        (("export", "--to", "x", "--partition", "week"), "not 'week'"),
        (("export", "--to", "-", "--format", "parquet", "--tables", "calls"), "no stream"),
        (("aggregate", "--by", "a,b,c,d,e"), "group by 1 to 4"),
        (("aggregate", "--by", "agent", "--format", "xml"), "not 'xml'"),
    ],
)
def test_what_is_not_valid_is_refused(place: Path, arguments: tuple[str, ...], why: str) -> None:
    if "--reports" not in arguments:
        arguments = (*arguments, "--reports", str(place / "reports"))
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, InvalidRequest)
    assert re.search(why, done.exception.message)
    assert not Path("x").exists()
