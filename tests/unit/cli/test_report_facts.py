"""What a person in a hurry is told of a call."""

from __future__ import annotations

from io import StringIO
from typing import get_args

import pytest
from rich.console import Console

from tests.made_reports import made_side, make_report
from warmline.calls.report import Categories, CategoryMatch, Flag, MatchedRange, Report, SpeakerSplit
from warmline.cli.report_facts import FLAGS, clock, facts_table
from warmline.cli.tables import print_report
from warmline.jobs.records import Options

CALM, CROSS = {"neutral": 0.8}, {"angry": 0.7}
AGENT = made_side(
    "agent",
    speech=[(0, 8000), (12_000, 20_000)],
    windows=[(0, 8000, CALM), (12_000, 20_000, CALM)],
    loudness_dbfs=-23.0,
)
CUSTOMER = made_side(
    "customer",
    speech=[(7000, 13_500), (30_000, 38_000)],
    windows=[(7000, 9000, CALM), (9000, 13_500, CALM), (30_000, 38_000, CROSS)],
    loudness_dbfs=None,
)


def printed(report: Report, width: int = 100) -> list[str]:
    console = Console(width=width, file=StringIO(), record=True)
    console.print(facts_table(report))
    return [line.strip() for line in console.export_text().splitlines()]


def test_a_conversation_in_a_few_lines() -> None:
    report = make_report(
        AGENT,
        CUSTOMER,
        duration_ms=40_000,
        excluded=[(21_000, 25_000)],
        categories=Categories(
            digest="ab" * 8,
            matches=(
                CategoryMatch(
                    category="angry",
                    ranges=(MatchedRange(start_ms=30_000, end_ms=38_000, channel=1, role="customer"),),
                ),
                CategoryMatch(category="long call", ranges=()),
            ),
        ),
    )
    # 30.5 s of speech, 2.5 s of it (7 to 8 and 12 to 13.5) by both; 4 of the other 12 s are left out
    assert printed(report) == [
        "time        one speaks 64%, both speak 6%, nobody speaks 20%, left out 10%",
        "silence     the longest is 5.0 s, at 0:25.0",
        "cutting in  customer interrupts agent at 0:07.0, for 1.0 s",
        "agent interrupts customer at 0:12.0, for 1.5 s",
        "talk        agent 52%, customer 48%",
        "loudness    agent -23 dBFS (noise -60)",
        "change      customer: neutral -0.76, angry +0.68 from first to last quarter",
        "category    angry: customer 0:30.0 to 0:38.0",
        "long call",
    ]


def test_many_of_a_kind_are_counted() -> None:
    turns = [(start, start + 3000) for start in range(0, 70_000, 10_000)]
    cut_ins = [(start + 2000, start + 4000) for start, _ in turns]
    report = make_report(
        made_side("agent", speech=turns, windows=[]), made_side("customer", speech=cut_ins, windows=[]),
        duration_ms=70_000,
    )  # fmt: skip
    found = [line for line in printed(report) if "interrupts" in line or "more" in line]
    assert len(found) == 5
    assert found[-1] == "and 3 more"


def test_what_hardly_changed_has_no_line() -> None:
    for last, lines in ({"neutral": 0.73}, 0), ({"neutral": 0.67}, 1):
        side = made_side("agent", windows=[(0, 2000, CALM), (8000, 10_000, last)])
        found = printed(make_report(side, duration_ms=10_000))
        assert sum(line.startswith("change") for line in found) == lines


def test_how_far_a_split_can_be_trusted_is_said() -> None:
    sides = (made_side("speaker_1", index=0, windows=[(0, 4000, CALM)]),
             made_side("speaker_2", index=0, windows=[(5000, 9000, CROSS)]))  # fmt: skip
    split = SpeakerSplit(method="m", confidence=0.4, uncertain_share=0.22)
    assert "speakers  split by voice, confidence 0.40, 22% uncertain" in printed(
        make_report(*sides, duration_ms=10_000, speakers=split)
    )
    asked = Options(split_speakers=True)
    assert "speakers    not split: each has a channel already" in printed(
        make_report(AGENT, CUSTOMER, duration_ms=40_000, options=asked)
    )


def test_every_flag_is_told_in_words() -> None:
    assert set(FLAGS) == set(get_args(Flag))
    report = make_report(made_side("mono", windows=[]), duration_ms=5000).model_copy(
        update={"flags": tuple(get_args(Flag))}
    )
    said = printed(report)
    assert all(any(line.endswith(words) for line in said) for words in FLAGS.values())


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_is_cut_off_however_narrow_the_terminal(width: int) -> None:
    report = make_report(AGENT, CUSTOMER, duration_ms=40_000)
    words = " ".join(printed(report, width))
    assert "…" not in words
    assert "from first to last quarter" in " ".join(words.split())


def test_a_report_without_speech_or_conversation_is_printed() -> None:
    silent = make_report(made_side("mono", windows=[], loudness_dbfs=None), duration_ms=5000)
    for report in (silent, silent.model_copy(update={"conversation": None})):
        console = Console(width=80, file=StringIO(), record=True)
        print_report(console, report)
        assert "no speech" in console.export_text()


def test_clock_never_shows_sixty_seconds() -> None:
    assert clock(59_999) == "0:59.9"
