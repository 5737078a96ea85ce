"""Who speaks, who waits, who cuts in: on speech whose times are written down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import AnalysisSettings
from warmline.calls.conversation import describe_conversation
from warmline.calls.report import Conversation, Span
from warmline.calls.spans import Coverage, total_ms, union, within, without

Edges = list[tuple[int, int]]


def spans(*edges: tuple[int, int]) -> list[Span]:
    return [Span(start_ms=start, end_ms=end) for start, end in edges]


def talk(
    *sides: Edges, duration_ms: int = 60_000, excluded: Edges | None = None, **settings: float
) -> Conversation:
    return describe_conversation(
        [spans(*edges) for edges in sides],
        ["agent", "customer", "third"][: len(sides)],
        duration_ms=duration_ms,
        excluded=spans(*(excluded or [])),
        settings=AnalysisSettings(**settings),
    )


def cut_ins(found: Conversation) -> list[tuple[str, str, int, int]]:
    return [(each.by, each.of, each.start_ms, each.end_ms) for each in found.interruptions]


def test_a_breakdown() -> None:
    found = talk([(1000, 5000), (20_000, 22_000)], [(4000, 9000), (30_000, 31_000)])
    breakdown = found.breakdown
    assert (breakdown.talk_ms, breakdown.overlap_ms, breakdown.silence_ms) == (
        3000 + 4000 + 2000 + 1000,
        1000,
        49_000,
    )
    assert breakdown.excluded_ms == 0


def test_three_at_once_are_one_overlap() -> None:
    breakdown = talk([(0, 3000)], [(1000, 4000)], [(2000, 5000)], duration_ms=6000).breakdown
    assert (breakdown.talk_ms, breakdown.overlap_ms, breakdown.silence_ms) == (2000, 3000, 1000)


def test_the_longest_silences_first_and_no_more_than_asked_for() -> None:
    speech: Edges = [(5000, 6000), (9000, 10_000), (11_999, 13_000), (16_000, 17_000)]
    found = talk(speech, duration_ms=20_000, longest_silences=3)
    # Of equals the earlier one; what is shorter than two seconds is none
    assert [(span.start_ms, span.end_ms) for span in found.longest_silences] == [
        (0, 5000), (6000, 9000), (13_000, 16_000),
    ]  # fmt: skip
    assert talk(speech, duration_ms=20_000, longest_silences=0).longest_silences == ()
    assert len(talk(speech, duration_ms=20_000, silence_seconds=1.9).longest_silences) == 5
    assert talk([], duration_ms=1999).longest_silences == ()


@pytest.mark.parametrize(
    ("agent", "customer", "expected"),
    [
        # takes the turn
        ([(0, 5000)], [(4500, 9000)], [("customer", "agent", 4500, 5000)]),
        # the same, too short to be more than an eager answer
        ([(0, 5000)], [(4750, 9000)], []),
        # a listener's word: it ends while the other goes on
        ([(0, 5000)], [(2000, 2700)], []),
        # talks over the other for a second, who does not give way
        ([(0, 5000)], [(2000, 3000)], [("customer", "agent", 2000, 3000)]),
        # both ways
        (
            [(0, 5000), (8000, 12_000)],
            [(4000, 9000)],
            [("customer", "agent", 4000, 5000), ("agent", "customer", 8000, 9000)],
        ),
        # a breath is no new turn: who pauses for less than half a second and goes on does not cut in
        ([(0, 5000)], [(5200, 6000)], []),
        ([(0, 2000), (2400, 5000)], [(1000, 1500), (1900, 6000)], [("customer", "agent", 1000, 5000)]),
        # begun at the same moment: nobody cuts in
        ([(1000, 5000)], [(1000, 6000)], []),
    ],
)  # fmt: skip
def test_who_cuts_in(agent: Edges, customer: Edges, expected: list[tuple[str, str, int, int]]) -> None:
    assert cut_ins(talk(agent, customer)) == expected


def test_how_long_both_must_speak_can_be_set() -> None:
    assert cut_ins(talk([(0, 5000)], [(4750, 9000)], interruption_seconds=0.2)) == [
        ("customer", "agent", 4750, 5000)
    ]
    assert cut_ins(talk([(0, 5000)], [(3000, 4500)], interruption_seconds=2)) == []


def test_what_is_excluded_is_neither_speech_nor_silence_nor_interruption() -> None:
    found = talk([(0, 5000)], [(4000, 9000)], duration_ms=20_000, excluded=[(3000, 6000), (15_000, 20_000)])
    breakdown = found.breakdown
    assert (breakdown.talk_ms, breakdown.overlap_ms, breakdown.silence_ms, breakdown.excluded_ms) == (
        6000,
        0,
        6000,
        8000,
    )
    assert found.interruptions == ()
    assert [(span.start_ms, span.end_ms) for span in found.longest_silences] == [(9000, 15_000)]
    assert found.excluded == tuple(spans((3000, 6000), (15_000, 20_000)))


EDGES = st.lists(st.integers(0, 50_000), unique=True, max_size=24).map(
    lambda edges: list(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)


@given(sides=st.lists(EDGES, min_size=1, max_size=3), excluded=EDGES, more_ms=st.integers(0, 10_000))
def test_a_breakdown_adds_up_to_the_call(sides: list[Edges], excluded: Edges, more_ms: int) -> None:
    # Given any speech and anything left out
    duration_ms = 50_000 + more_ms
    apart = [list(map(tuple, ((span.start_ms, span.end_ms) for span in union(spans(*side))))) for side in sides]
    left_out = [(span.start_ms, span.end_ms) for span in union(spans(*excluded))]
    found = talk(*apart, duration_ms=duration_ms, excluded=left_out, longest_silences=1000, silence_seconds=0.001)
    # Then every millisecond is counted once
    breakdown = found.breakdown
    counted = [breakdown.talk_ms, breakdown.overlap_ms, breakdown.silence_ms, breakdown.excluded_ms]
    assert sum(counted) == duration_ms
    assert min(counted) >= 0
    # And the silences are the silence
    assert total_ms(found.longest_silences) == breakdown.silence_ms
    # And who cuts in does so while both speak, outside of what is left out
    for each in found.interruptions:
        assert 0 <= each.start_ms < each.end_ms <= duration_ms
        assert each.by != each.of


@given(first=EDGES, second=EDGES)
def test_cutting_out_and_covering_are_each_others_complement(first: Edges, second: Edges) -> None:
    one, other = union(spans(*first)), union(spans(*second))
    left = without(one, other)
    coverage = Coverage(other)
    assert total_ms(left) + sum(coverage.of(span) for span in one) == total_ms(one)
    assert union(left) == left
    assert without(left, other) == left


def test_spans_are_joined_across_gaps_and_cut_to_the_call() -> None:
    assert union(spans((5, 9), (0, 3), (3, 4), (7, 8), (2, 2))) == tuple(spans((0, 4), (5, 9)))
    assert union(spans((5, 9), (0, 3)), gap_ms=2) == tuple(spans((0, 9)))
    assert list(within(spans((-5, 2), (3, 9), (9, 12), (12, 14)), 10)) == spans((0, 2), (3, 9), (9, 10))
