"""Reports of other versions: what is new in a known one is left aside, an unknown one is told of, each alone."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.unit.calls.categories.category_files import rules_of
from warmline.calls.brief_reports import BriefReport
from warmline.calls.categories.backfill import Change
from warmline.calls.categories.rewriting import rewrite_folder
from warmline.calls.report import Report
from warmline.calls.report_reading import NotAReport, read_report
from warmline.calls.stored_reports import FolderShelf, StoredReport, Unreadable, read_reports
from warmline.webhooks.events import Summary

BY_0_1 = (Path(__file__).parents[2] / "data" / "report-0.1.json").read_text()
RULES = rules_of(
    '[[category]]\nname = "a"\n[[category.all]]\nkind = "emotion"\nemotion = "angry"\nat_least = 0.1\n'
)
FREE = {"metadata", "scores", "change", "stage_seconds"}


def grown(value: Any) -> Any:
    """With a field more in every object, as a later Warmline might write it."""
    if isinstance(value, list):
        return [grown(each) for each in value]
    if not isinstance(value, dict):
        return value
    new = {"from_the_future": [{"a": 1}]}
    return {name: below if name in FREE else grown(below) for name, below in value.items()} | new


def of_version_2() -> str:
    document = json.loads(BY_0_1)
    document["provenance"]["warmline_version"] = "3.1.0"
    return json.dumps(document | {"version": "2", "channels": "another form"})


def test_a_report_of_0_1_reads_as_it_was_written() -> None:
    assert read_report(BY_0_1).model_dump_json() == BY_0_1.strip()


def test_fields_that_came_later_are_left_aside() -> None:
    later = json.dumps(grown(json.loads(BY_0_1)))
    assert read_report(later) == read_report(BY_0_1)
    assert BriefReport.model_validate_json(later, extra="ignore").duration_ms == read_report(BY_0_1).duration_ms
    assert Summary.of(later) == Summary.of(BY_0_1)


def test_a_version_that_is_not_known_is_told_of_with_what_to_do() -> None:
    with pytest.raises(NotAReport) as caught:
        read_report(of_version_2())
    assert str(caught.value) == (
        f"a report of version 2, made by Warmline 3.1.0; this is Warmline {version('warmline')}, "
        "which reads version 1: upgrade it"
    )
    assert Summary.of(json.dumps(json.loads(BY_0_1) | {"version": "2"})) is None


@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", "{}", '{"version": 1}', '{"version": "2", "provenance": 7}', '{"version": {"a": 1}}'],
)
def test_whatever_else_lies_there_is_refused_too(body: str) -> None:
    with pytest.raises(NotAReport):
        read_report(body)


def test_among_stored_reports_it_is_one_that_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path
    known, newer, grown_up = folder / "a.json", folder / "b.json", folder / "c.json"
    known.write_text(BY_0_1)
    newer.write_text(of_version_2())
    grown_up.write_text(json.dumps(grown(json.loads(BY_0_1))))

    found = {Path(each.place).name: each for each in read_reports(FolderShelf(folder))}
    assert isinstance(found["a.json"], StoredReport)
    assert isinstance(found["c.json"], StoredReport)
    assert isinstance(found["b.json"], Unreadable)
    assert "version 2" in found["b.json"].reason

    outcomes = {Path(each.place).name: each for each in rewrite_folder(FolderShelf(folder), RULES, dry_run=False)}
    assert outcomes["b.json"].change is Change.UNREADABLE
    assert "version 2" in outcomes["b.json"].reason
    assert newer.read_text() == of_version_2()
    # And what this version does not know of a report is still there after its categories were replaced
    assert outcomes["c.json"].change is Change.WRITTEN
    after = json.loads(grown_up.read_text())
    assert after["from_the_future"] == [{"a": 1}]
    assert after["channels"][0]["from_the_future"] == [{"a": 1}]
    assert isinstance(Report.read(grown_up.read_text()), Report)
