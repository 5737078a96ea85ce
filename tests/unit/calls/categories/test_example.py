"""The example to copy: it can be used, and each of its categories applies to the call that it is made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.made_reports import Window, made_side, make_report
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import Report

EXAMPLE = Path(__file__).parents[4] / "config" / "categories.example.toml"
RULES = CategoryRules.read(EXAMPLE)
ANGRY, SAD, CALM = {"angry": 0.7}, {"sad": 0.7}, {"neutral": 0.9}


def spoken(*stretches: tuple[int, int]) -> list[Window]:
    """Calmly, from second to second."""
    return [(start * 1000, end * 1000, CALM) for start, end in stretches]


def felt(scores: dict[str, float], *stretches: tuple[int, int]) -> list[Window]:
    return [(start * 1000, end * 1000, scores) for start, end in stretches]


def call(agent: list[Window], customer: list[Window], seconds: int = 100, **more: object) -> Report:
    speech = more.pop("customer_speech", None)
    return make_report(
        made_side("agent", windows=agent, loudness_dbfs=more.pop("loudness", -25.0)),
        made_side("customer", windows=customer, speech=speech, loudness_dbfs=-25.0),
        duration_ms=seconds * 1000,
        **more,
    )


# Both speak in turns, so that no silence is long and neither side says nearly all
TURNS_A = spoken((0, 5), (10, 15), (20, 25), (30, 35), (40, 45), (50, 55), (60, 65), (70, 75), (80, 85), (90, 95))
TURNS_B = spoken(
    (5, 10), (15, 20), (25, 30), (35, 40), (45, 50), (55, 60), (65, 70), (75, 80), (85, 90), (95, 100)
)
CUT_IN = [(20_000, 22_000), (30_000, 32_000), (40_000, 42_000), (50_000, 52_000)]

CASES: dict[str, tuple[Report, set[str]]] = {
    "nothing": (call(TURNS_A, TURNS_B), set()),
    "ends angry": (call(TURNS_A, TURNS_B[:6] + felt(ANGRY, (70, 75), (75, 80), (85, 90))), {"ends angry"}),
    "angry throughout": (call(TURNS_A, felt(ANGRY, *((at, at + 5) for at in range(5, 100, 10)))), set()),
    "talks over a sad customer": (
        call(
            [(start, end, CALM) for start, end in CUT_IN[:3]] + spoken((60, 100)),
            felt(SAD, (5, 10)) + spoken((45, 60)),
            customer_speech=[(0, 20_800), (22_500, 30_800), (32_500, 40_800), (42_500, 58_000)],
        ),
        {"talks over a sad customer"},
    ),
    "won back": (call(TURNS_A, felt(SAD, (5, 10), (15, 20)) + TURNS_B[2:]), {"won back"}),
    "agent loses patience": (call(TURNS_A[:5] + felt(ANGRY, (50, 55)) + TURNS_A[6:], TURNS_B),
                             {"agent loses patience"}),
    "cross talk": (call(spoken((0, 40), (60, 100)), spoken((35, 65))), {"cross talk"}),
    "dead air": (call(spoken((0, 20), (50, 100)), spoken((80, 100))), {"dead air", "cross talk"}),
    "silence after anger": (
        call(spoken((0, 20), (50, 60), (70, 80)), felt(ANGRY, (25, 32)) + spoken((42, 50), (60, 70), (80, 100))),
        {"silence after anger"},
    ),
    "monologue": (call(spoken((0, 20), (25, 110)), spoken((20, 25), (110, 121)), 121), {"monologue"}),
    "shouting": (call(TURNS_A[:5] + felt({"angry": 0.55}, (50, 53)) + TURNS_A[6:], TURNS_B, loudness=-13.0),
                 {"shouting"}),
    "calm complaint": (call(TURNS_A, TURNS_B, metadata={"queue": "complaints"}), {"calm complaint"}),
    "a complaint": (call(TURNS_A, TURNS_B[:2] + felt(ANGRY, (25, 28)) + TURNS_B[3:],
                         metadata={"queue": "complaints"}), set()),
    "check the recording": (call(TURNS_A, []), {"check the recording"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_category_applies_to_the_call_that_it_is_made_for(name: str) -> None:
    report, expected = CASES[name]
    assert {match.category for match in RULES.match(report).matches} == expected


def test_every_category_has_such_a_call() -> None:
    assert {category.name for category in RULES.categories} <= CASES.keys()
