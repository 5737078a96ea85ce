"""Reports that somebody wrote who means harm, or a broken disk did: left out, told of, and never the end of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.pictures_read import parsed
from tests.unit.exports.conftest import call, put, run
from warmline.calls.brief_reports import BriefReport
from warmline.calls.categories.backfill import redo
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import Report
from warmline.calls.report_reading import NotAReport, read_report
from warmline.calls.stored_reports import StoredReport
from warmline.cli import tables
from warmline.cli.consoles import Terminal
from warmline.exports.aggregates import Grouping, aggregate
from warmline.pictures.timeline import timeline_svg

Place = Sequence[str | int]

EXAMPLE = Path(__file__).parents[3] / "config" / "categories.example.toml"
WINDOW: Place = ("channels", 0, "windows", 0)
FIGURES: Sequence[Place] = (
    ("source", "duration_seconds"),
    ("source", "size_bytes"),
    (*WINDOW, "start_ms"),
    (*WINDOW, "end_ms"),
    (*WINDOW, "scores", "neutral"),
    ("channels", 0, "summary", "scores", "neutral"),
    ("channels", 0, "talk_share"),
    ("conversation", "breakdown", "silence_ms"),
    ("categories", "matches", 0, "ranges", 0, "start_ms"),
    ("provenance", "stage_seconds", "score"),
)
NO_FIGURES = (10**14, -(10**14), 10**400, 1e308, float("inf"), float("-inf"), float("nan"))


def with_value(place: Place, value: object) -> bytes:
    """A report's JSON with this value at this place."""
    document: Any = copy.deepcopy(json.loads(call(1).model_dump_json()))
    holder = document
    for part in place[:-1]:
        holder = holder[part]
    assert place[-1] in holder
    holder[place[-1]] = value
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def rules() -> CategoryRules:
    return CategoryRules.read(EXAMPLE)


def go_through(report: Report, rules: CategoryRules) -> None:
    """All that is done with a report: it is drawn, printed, counted, and asked for its categories."""
    parsed(timeline_svg(report))
    stored = StoredReport(place="s3://reports/a", version="1", report=report)
    aggregate([stored], Grouping.parse("day,role,agent"), max_groups=100).model_dump_json()
    rules.match(report)
    with Path("/dev/null").open("w") as nowhere:
        tables.print_report(Terminal(file=nowhere, width=80), report)


@pytest.mark.parametrize("place", FIGURES, ids=lambda place: ".".join(map(str, place)))
def test_a_figure_that_is_none_makes_no_report(place: Place, rules: CategoryRules) -> None:
    for value in (*NO_FIGURES, *([10**12] if place[-1] == "duration_seconds" else [])):
        body = with_value(place, value)
        with pytest.raises(NotAReport):
            read_report(body)
        with pytest.raises(NotAReport):
            redo(body, rules)
        if place[2:3] != ("windows",) and place[0] != "conversation" and place[-1] != "talk_share":
            with pytest.raises(ValidationError):
                BriefReport.model_validate_json(body, extra="ignore")


@pytest.mark.parametrize("place", FIGURES, ids=lambda place: ".".join(map(str, place)))
def test_a_figure_that_cannot_be_true_harms_nobody(place: Place, rules: CategoryRules, tmp_path: Path) -> None:
    most = 10**9 if place[-1] == "duration_seconds" else 10**13
    for value in (most, -most, 0):
        report = read_report(with_value(place, value))
        go_through(report, rules)
    put(tmp_path / "reports", 1, report)
    assert run(tmp_path / "reports", tmp_path / "exported").exported == 1


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((*WINDOW, "top"), "<script>"),
        (("channels", 0, "summary", "top"), "nobody's"),
        (("provenance", "analysed_at"), "0001-01-01T00:00:00+14:00"),
        (("provenance", "analysed_at"), "9999-12-31T23:59:59-14:00"),
        (("provenance", "model", "device"), "x" * 1_000_000),
        (("channels", 0, "role"), "\x1b[2J\x00\n"),
        (("channels", 0, "role"), "[/bold]"),
        ((*WINDOW, "scores"), {}),
    ],
    ids=["label", "verdict", "first day", "last day", "long word", "orders", "markup", "no scores"],
)
def test_words_that_cannot_be_true_harm_nobody(place: Place, value: object, rules: CategoryRules) -> None:
    go_through(read_report(with_value(place, value)), rules)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"categories":' + b'{"a":' * 100_000,
        b'{"categories":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
        b'{"version":"1","categories":{"digest":' + b"9" * 5_000 + b"}}",
    ],
    ids=["lists", "objects", "closed objects", "digits"],
)
def test_what_is_nested_or_long_beyond_measure_is_no_report(body: bytes, rules: CategoryRules) -> None:
    with pytest.raises(NotAReport):
        read_report(body)
    with pytest.raises(NotAReport):
        redo(body, rules)


def test_an_export_leaves_out_a_hostile_report_and_says_so(reports: Path, tmp_path: Path) -> None:
    (reports / "0005.json").write_bytes(with_value(("source", "duration_seconds"), float("nan")))
    (reports / "0006.json").write_bytes(with_value((*WINDOW, "start_ms"), 10**400))
    done = run(reports, tmp_path / "exported")
    assert (done.exported, done.unreadable_count) == (10, 2)
