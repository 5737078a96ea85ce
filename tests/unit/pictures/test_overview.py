"""Many calls as one picture: counted right, the ones to listen to first on top, bounded whatever their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.made_reports import made_side, make_report
from tests.pictures_read import description, parsed, shapes, words
from tests.unit.pictures.test_timeline import WIDTH, boxes, category
from warmline.calls.brief_reports import BriefReport
from warmline.calls.report import Categories, Report
from warmline.jobs.errors import InvalidRequest
from warmline.pictures.overview import Overview


def call(number: int, anger: float = 0.3, duration_ms: int = 100_000, **more: Any) -> Report:
    """A call whose customer is angry in its last fifth, and sad before."""
    end = duration_ms * 4 // 5
    return make_report(
        made_side("agent", windows=[(0, duration_ms, {"neutral": 0.9})]),
        made_side("customer", windows=[(0, end, {"sad": 0.9}), (end, duration_ms, {"angry": anger})]),
        duration_ms=duration_ms,
        key=f"{number}.wav",
        **more,
    )


def overview(*reports: Report | BriefReport, emotion: str = "", notes: tuple[str, ...] = ()) -> str:
    made = Overview("Batch 1", emotion)
    for report in reports:
        made.add(report)
    return made.svg(*notes)


def rows(svg: str) -> list[str]:
    return [word for word in words(svg) if word.endswith(".wav")]


def test_the_calls_with_the_most_of_the_emotion_come_first() -> None:
    reports = [call(n, anger) for n, anger in enumerate([0.4, 0.9, 0.2, 0.7])]
    svg = overview(*reports)
    assert rows(svg) == ["1.wav", "3.wav", "0.wav", "2.wav"]
    assert [word for word in words(svg) if word in {"0.90", "0.70", "0.40", "0.20"}] == [
        "0.90",
        "0.70",
        "0.40",
        "0.20",
    ]
    assert {"All calls", "4 calls, 6:40 min of audio"} <= set(words(svg))


def test_of_many_calls_forty_have_a_row_whatever_their_order() -> None:
    angers = [0.2 + n * 37 % 100 / 200 for n in range(100)]
    svg = overview(*(call(n, anger) for n, anger in enumerate(angers)))
    best = sorted(range(100), key=lambda n: -angers[n])[:40]
    assert rows(svg) == [f"{n}.wav" for n in best]
    assert "The 40 calls with the highest score of angry" in words(svg)


def test_another_emotion_gives_another_order() -> None:
    reports = [call(n, anger) for n, anger in enumerate([0.2, 0.9])]
    assert rows(overview(*reports, emotion="angry")) == ["1.wav", "0.wav"]
    with pytest.raises(InvalidRequest, match="no emotion 'jolly'"):
        overview(*reports, emotion="jolly")


def test_shares_are_of_the_calls_that_speak_in_a_tenth() -> None:
    # Given three calls whose customers are sad in the first eight tenths and angry in the last two
    svg = overview(call(1, 0.9), call(2, 0.9), call(3, 0.9))
    assert {"customer, 3 calls", "agent, 3 calls"} <= set(words(svg))
    stacks = [each for each in parsed(svg).iter() if each.get("height") == "160" and each.tag.endswith("rect")]
    fills = [each.get("fill") for each in stacks]
    assert fills == ["url(#wl-neutral)"] * 10 + ["url(#wl-sad)"] * 8 + ["url(#wl-angry)"] * 2


def test_lengths_flags_and_categories_are_counted() -> None:
    matched = Categories(digest="0" * 16, matches=(category("late anger"),))
    reports = [
        call(1, duration_ms=20_000, flags=("mono",)),
        call(2, duration_ms=20_000, categories=matched),
        call(3, duration_ms=4_000_000, flags=("mono", "clipping"), categories=matched),
        call(4, duration_ms=90_000, flags=()),
    ]
    said = words(overview(*reports))

    def count(name: str) -> str:
        return said[said.index(name) + 1]

    assert count("under 30 s") == "2 (50%)"
    assert count("30 s to 1 min") == "0"
    assert count("an hour and more") == "1 (25%)"
    assert (count("mono"), count("clipping"), count("late anger")) == ("2 (50%)", "1 (25%)", "2 (50%)")
    order = ["Lengths", "under 30 s", "Flags", "mono", "clipping", "Categories", "late anger", "All calls"]
    assert [word for word in said if word in order] == order


def test_of_many_categories_the_rest_are_one_line() -> None:
    reports = [
        call(
            n, categories=Categories(digest="0" * 16, matches=tuple(category(f"number {m}") for m in range(n, 30)))
        )
        for n in range(20)
    ]
    said = words(overview(*reports))
    assert "23 others" in said
    assert len([word for word in said if word.startswith("number")]) == 7


def test_calls_in_other_roles_show_their_first_sides() -> None:
    mono = make_report(made_side("mono", windows=[(0, 30_000, {"happy": 0.9})]), duration_ms=30_000, key="m.wav")
    svg = overview(call(1), call(2), mono)
    assert "H" in words(svg)
    assert any("Calls without these roles: their first sides." in word for word in words(svg))


def test_a_report_in_brief_is_as_good() -> None:
    reports = [call(n, 0.3 + n / 10, flags=("one_sided",)) for n in range(5)]
    brief = [BriefReport.model_validate_json(report.model_dump_json()) for report in reports]
    assert overview(*brief) == overview(*reports)


def test_many_calls_take_no_more_room_than_few() -> None:
    many, few = Overview("many"), Overview("few")
    reports = [call(n, 0.2 + n / 100) for n in range(50)]
    for n in range(3000):
        many.add(reports[n % 50])
        if n < 50:
            few.add(reports[n])
    assert len(many.svg()) < 1.1 * len(few.svg()) < 150_000


def test_nothing_is_drawn_of_no_reports() -> None:
    svg = overview(notes=("2 jobs: 2 not ended yet.",))
    assert words(svg) == ["Batch 1", "no reports", "2 jobs: 2 not ended yet."]
    assert "2 jobs" in description(svg)


def test_names_and_roles_stay_text_and_fit() -> None:
    def named(number: int) -> Report:
        sides = [made_side(f"role_{n}_of_a_side_with_a_name", windows=[(0, 9000, {"sad": 0.6})]) for n in range(6)]
        evil = f"<script>{'k' * 300}</script>&{number}"
        listed = Categories(digest="0" * 16, matches=(category(f"{evil} {number}"),))
        return make_report(*sides, duration_ms=10_000, key=evil, categories=listed)

    svg = overview(*map(named, range(30)), notes=("n" * 500,))
    assert {element.tag.rpartition("}")[2] for element in parsed(svg).iter()} <= shapes()
    assert [box for box in boxes(svg) if box.left < 0 or box.right > WIDTH] == []


@pytest.mark.parametrize(
    "make", [lambda: call(1), lambda: make_report(made_side("mono", windows=[]), duration_ms=0)]
)
def test_one_call_is_enough(make: Callable[[], Report]) -> None:
    assert "1 call" in words(overview(make()))[1]
