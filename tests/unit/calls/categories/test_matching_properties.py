"""What holds of every match, whatever the call and the rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_reports import made_side, make_report
from tests.unit.calls.categories.category_files import rules_of
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import Report
from warmline.calls.stretches import Covered, common, join, without_contained

DURATION_MS = 60_000
PARTS = st.sampled_from(["whole", "last third", "first half", "last 7.5 s", "20% to 50%", "5 s to 200 s"])


@st.composite
def spans(draw: st.DrawFn, *, overlapping: bool = False) -> list[tuple[int, int]]:
    """In order; milliseconds."""
    found: list[tuple[int, int]] = []
    at = 0
    for _ in range(draw(st.integers(0, 8))):
        start = at + draw(st.sampled_from([0, 1, 300, 1999, 2000, 2001, 7000]))
        end = min(start + draw(st.sampled_from([1, 500, 2000, 5000])), DURATION_MS)
        if start >= end:
            break
        found.append((start, end))
        at = start + 100 if overlapping else end
    return found


@st.composite
def calls(draw: st.DrawFn) -> Report:
    """With two sides, who speak and feel at random; windows may overlap, as frames do."""
    overlapping = draw(st.booleans())
    sides = []
    for role in ("agent", "customer"):
        windows = [
            (
                start,
                end,
                {"angry": draw(st.sampled_from([0.1, 0.3, 0.5, 0.6])), "sad": draw(st.sampled_from([0, 0.4]))},
            )
            for start, end in draw(spans(overlapping=overlapping))
        ]
        sides.append(made_side(role, windows=windows, speech=join(draw(spans()))))
    return make_report(*sides, duration_ms=DURATION_MS)


@st.composite
def relations(draw: st.DrawFn) -> str:
    """Nothing; or after or before the condition called `other`."""
    word = draw(st.sampled_from(["", "after", "before"]))
    if not word:
        return ""
    seconds = draw(st.sampled_from(["", f"{word}_seconds = 3", f"{word}_seconds = 20"]))
    return f'{word} = "other"\n{seconds}\n'


def rules(threshold: float, for_seconds: float, more: str, relation: str, part: str) -> CategoryRules:
    """A stretch of emotion, silences and interruptions, related to another stretch of emotion."""
    return rules_of(
        f"""
        [[category]]
        name = "emotion"
        [[category.all]]
        kind = "emotion"
        emotion = "angry"
        at_least = {threshold}
        for_seconds = {for_seconds}
        part = "{part}"
        {more}
        {relation}
        [[category.any]]
        name = "other"
        kind = "emotion"
        emotion = "sad"
        at_least = {threshold}
        [[category.any]]
        kind = "duration"
        at_least_seconds = 1
        [[category]]
        name = "silence"
        [[category.all]]
        kind = "silence"
        at_least_seconds = {for_seconds}
        part = "{part}"
        [[category]]
        name = "interruptions"
        [[category.all]]
        kind = "interruptions"
        part = "{part}"
        {relation}
        [[category.any]]
        name = "other"
        kind = "emotion"
        emotion = "sad"
        at_least = {threshold}
        [[category.any]]
        kind = "duration"
        at_least_seconds = 1
        """
    )


STRETCH = st.sampled_from(["", "in_one_stretch = true", "in_one_stretch = true\ngap_seconds = 0"])


@settings(max_examples=60, deadline=None)
@given(calls(), st.sampled_from([0.2, 0.5]), st.sampled_from([0.5, 4]), STRETCH, relations(), PARTS)
def test_ranges_are_in_the_call_in_order_and_do_not_overlap(
    report: Report, threshold: float, for_seconds: float, more: str, relation: str, part: str
) -> None:
    asked = rules(threshold, for_seconds, more, relation, part)
    found = asked.match(report)
    assert found == asked.match(Report.model_validate_json(report.model_dump_json()))  # the report tells it all
    assert found == asked.match(report.model_copy(update={"categories": found}))  # what it had does not matter
    for match in found.matches:
        assert list(match.ranges) == sorted(match.ranges, key=lambda each: (each.start_ms, each.channel or 0))
        for channel in (None, 0, 1):
            own = [each for each in match.ranges if each.channel == channel]
            assert all(0 <= each.start_ms < each.end_ms <= DURATION_MS for each in own)
            assert all(earlier.end_ms < later.start_ms for earlier, later in pairwise(own))
            assert all(each.role == (None if channel is None else ("agent", "customer")[channel]) for each in own)


def covers(wide: Sequence[tuple[int, int]], narrow: Sequence[tuple[int, int]]) -> bool:
    return common(wide, narrow) == list(narrow)


@settings(max_examples=60, deadline=None)
@given(calls(), STRETCH, relations(), PARTS, st.data())
def test_more_lenient_rules_lose_no_match_and_no_range(
    report: Report, more: str, relation: str, part: str, data: st.DataObject
) -> None:
    threshold, for_seconds = data.draw(st.sampled_from([(0.5, 2), (0.3, 1), (0.6, 0.5)]))
    strict = rules(threshold, for_seconds, more, relation, part).match(report)
    easier = data.draw(st.sampled_from([(threshold - 0.2, for_seconds), (threshold, for_seconds / 2)]))
    lenient = {match.category: match for match in rules(*easier, more, relation, part).match(report).matches}
    for match in strict.matches:
        for channel in (None, 0, 1):
            had, has = (
                [(each.start_ms, each.end_ms) for each in one.ranges if each.channel == channel]
                for one in (match, lenient[match.category])
            )
            assert covers(has, had), (match.category, channel)


@settings(max_examples=40, deadline=None)
@given(spans(overlapping=True), spans())
def test_arithmetic_on_stretches_is_that_on_their_milliseconds(
    some: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    def moments(stretches: Sequence[tuple[int, int]]) -> set[int]:
        return {moment for start, end in stretches for moment in range(start, end)}

    joined = join(some)
    assert moments(joined) == moments(some)
    assert all(earlier[1] < later[0] for earlier, later in pairwise(joined))
    assert moments(common(joined, others)) == moments(joined) & moments(others)
    for stretch in [*some, (0, DURATION_MS), (5, 5)]:
        assert Covered(others).of(stretch) == len(moments(others) & moments([stretch]))
    kept = without_contained(some)
    assert moments(kept) == moments(some)
    assert kept == sorted(kept)
    assert [end for _, end in kept] == sorted({end for _, end in kept})
