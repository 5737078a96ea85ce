"""Stored reports with their categories worked out anew: what else is in them stays, byte for byte."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from tests.made_reports import made_side, make_report
from tests.unit.calls.categories.category_files import rules_of
from warmline.calls.categories.backfill import Change, Outcome, Tally, redo
from warmline.calls.categories.remembered import Remembered
from warmline.calls.categories.rewriting import rewrite_folder, rewrite_lines
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import Report
from warmline.calls.report_reading import NotAReport
from warmline.calls.stored_reports import FolderShelf, LinesShelf, ReportRef

# What a careless search for the place to write at would stumble over
METADATA = {"categories": "null", "note": '"categories":null,"categories":{"digest":"x"}', "é": '客 \\ " {'}


def rules(*names: str, at_least: float = 0.5) -> CategoryRules:
    return rules_of(
        "".join(
            f'[[category]]\nname = "{name}"\n[[category.all]]\nkind = "emotion"\nemotion = "angry"\n'
            f"at_least = {at_least}\n"
            for name in names
        )
    )


ANGRY, FURIOUS = rules("angry"), rules("furious", "angry", at_least=0.9)


def report(angry: float = 0.7, **more: object) -> Report:
    customer = made_side("customer", windows=[(0, 5000, {"angry": angry})])
    return make_report(made_side("agent", windows=[]), customer, duration_ms=9000, metadata=METADATA, **more)


def test_only_the_categories_change() -> None:
    before = report()
    body = before.model_dump_json().encode()
    redone = redo(body, ANGRY)
    assert redone.body is not None
    after = Report.model_validate_json(redone.body)
    assert after.categories == ANGRY.match(before)
    assert after.model_copy(update={"categories": None}) == before
    assert (redone.before, redone.after) == ((), ("angry",))
    place = body.index(b'"categories":null,"embeddings"')
    assert redone.body[:place] == body[:place]
    assert redone.body.endswith(body[place + len('"categories":null') :])
    # and back: other rules find other matches, and the rest is as it was
    again = redo(redone.body, FURIOUS)
    assert again.body is not None
    assert (again.before, again.after) == (("angry",), ())
    assert Report.model_validate_json(again.body).categories == FURIOUS.match(before)
    assert again.body.replace(FURIOUS.match(before).model_dump_json().encode(), b"null") == body


def test_what_carries_these_matches_is_left_alone() -> None:
    body = redo(report().model_dump_json().encode(), ANGRY).body
    assert body is not None
    redone = redo(body, ANGRY)
    assert (redone.body, redone.before, redone.after) == (None, ("angry",), ("angry",))


@pytest.mark.parametrize("indent", [2, None])
def test_reports_that_others_wrote_are_understood(indent: int | None) -> None:
    before = report()
    document = json.loads(before.model_dump_json())
    if indent is None:
        del document["categories"]  # by a Warmline that had none
    redone = redo(json.dumps(document, indent=indent).encode(), ANGRY)
    assert redone.body is not None
    after = Report.model_validate_json(redone.body)
    assert after == before.model_copy(update={"categories": ANGRY.match(before)})
    assert redo(redone.body, ANGRY).body is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"categories":{"digest":', b"null"])
def test_what_is_no_report_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NotAReport, match="no report: "):
        redo(body, ANGRY)


# Files


def write(folder: Path, *reports: Report) -> list[Path]:
    paths = [folder / "a" / f"{number}.json" for number in range(len(reports))]
    for path, each in zip(paths, reports, strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(each.model_dump_json())
    return paths


def test_the_files_of_a_folder(tmp_path: Path) -> None:
    angry, calm = write(tmp_path, report(), report(0.1))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    angry.chmod(0o640)
    before = angry.read_bytes()
    dry = {Path(each.place): each.change for each in rewrite_folder(FolderShelf(tmp_path), ANGRY, dry_run=True)}
    assert dry == {angry: Change.WRITTEN, calm: Change.WRITTEN, broken: Change.UNREADABLE}
    assert angry.read_bytes() == before
    tally = Tally()
    for outcome in rewrite_folder(FolderShelf(tmp_path), ANGRY, dry_run=False):
        tally.add(outcome)
    assert tally.changes == {Change.WRITTEN: 2, Change.UNREADABLE: 1}
    assert (tally.before["angry"], tally.after["angry"], tally.came["angry"], tally.went["angry"]) == (0, 1, 1, 0)
    assert [trouble.place for trouble in tally.troubles] == [str(broken)]
    assert stat.S_IMODE(angry.stat().st_mode) == 0o640
    assert {path.name for path in angry.parent.iterdir()} == {"0.json", "1.json"}  # nothing is left beside them
    assert broken.read_text() == "{"
    again = {Path(each.place): each.change for each in rewrite_folder(FolderShelf(tmp_path), ANGRY, dry_run=False)}
    assert again == {angry: Change.CURRENT, calm: Change.CURRENT, broken: Change.UNREADABLE}


def test_a_file_that_was_replaced_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    first, second = write(tmp_path, report(), report())
    outcomes = rewrite_folder(_Replacing(tmp_path, second), ANGRY, dry_run=False)
    assert [(Path(each.place), each.change) for each in outcomes] == [
        (first, Change.WRITTEN), (second, Change.MISSED),
    ]  # fmt: skip
    assert second.read_text() == "another"


class _Replacing(FolderShelf):
    """A folder in which a file is replaced after it was listed."""

    def __init__(self, folder: Path, victim: Path) -> None:
        super().__init__(folder)
        self._victim = victim

    def refs(self):  # type: ignore[no-untyped-def]
        for ref in super().refs():
            if ref.place == str(self._victim):
                self._victim.write_text("another")
            yield ref


def test_lines_come_out_in_their_order_and_what_is_no_report_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "reports.jsonl"
    lines = [report().model_dump_json(), "no report", report(0.1).model_dump_json(), ""]
    file.write_text("\n".join(lines))
    out = io.BytesIO()
    changes = [each.change for each in rewrite_lines(LinesShelf(file), ANGRY, out)]
    assert changes == [Change.WRITTEN, Change.UNREADABLE, Change.WRITTEN]
    first, second, third = out.getvalue().decode().splitlines()
    assert Report.model_validate_json(first).categories == ANGRY.match(report())
    assert second == "no report"
    assert Report.model_validate_json(third).categories == ANGRY.match(report(0.1))
    # and once more: what needs no change is among them
    file.write_bytes(out.getvalue())
    again = io.BytesIO()
    changes = [each.change for each in rewrite_lines(LinesShelf(file), ANGRY, again)]
    assert changes == [Change.CURRENT, Change.UNREADABLE, Change.CURRENT]
    assert again.getvalue() == out.getvalue()


# What a run remembers


def ref(number: int, version: str = "v") -> ReportRef:
    return ReportRef(place=f"s3://reports/{number}@x.json", version=version)


def test_what_is_remembered() -> None:
    names = [f"c{number}" for number in range(20)]
    asked = rules(*names)
    first = Remembered(asked)
    assert first.find(ref(1)) is None
    first.add(ref(1).place, "v", ["c0", "c9", "c19"])
    first.add(ref(2).place, "v", [])
    note = first.note(complete=True)
    second = Remembered(asked, note)
    assert second.find(ref(1)) == ("c0", "c9", "c19")
    assert second.find(ref(2)) == ()
    assert second.find(ref(1, "w")) is None  # it was replaced
    assert second.find(ref(3)) is None
    second.add(ref(2).place, "v", [])
    assert Remembered(asked, second.note(complete=False)).find(ref(1)) is not None
    assert Remembered(asked, second.note(complete=True)).find(ref(1)) is None  # it is gone
    # Of other rules, or damaged: as good as none
    assert Remembered(rules("c0"), note).find(ref(1)) is None
    assert Remembered(asked, note[:-1]).find(ref(1)) is None
    assert Remembered(asked, b"\x00" * 40).find(ref(1)) is None


def test_what_came_and_what_went() -> None:
    tally = Tally()
    for before, after in [(("a", "b"), ("b", "c")), (("a",), ("a",)), ((), ("c",))]:
        tally.add(Outcome(place="x", change=Change.WRITTEN, before=before, after=after))
    assert tally.before == {"a": 2, "b": 1}
    assert tally.after == {"a": 1, "b": 1, "c": 2}
    assert tally.came == {"c": 2}
    assert tally.went == {"a": 1}


def test_only_so_many_troubles_are_kept() -> None:
    tally = Tally()
    for number in range(1500):
        tally.add(Outcome(place=str(number), change=Change.UNREADABLE, reason="no report"))
    assert (tally.reports, len(tally.troubles)) == (1500, 1000)
