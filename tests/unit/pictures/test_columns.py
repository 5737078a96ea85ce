"""Windows as columns: what shows where, for windows of any length."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmline.calls.report import ScoredWindow
from warmline.pictures.columns import COARSE, runs
from warmline.pictures.time_axis import TimeScale, gaps, on_pixels

SCALE = TimeScale(left=0, pixels=100, duration_ms=100_000)  # a second is a pixel


def window(start_ms: int, end_ms: int, angry: float) -> ScoredWindow:
    scores = {"angry": angry, "sad": 1 - angry}
    return ScoredWindow(start_ms=start_ms, end_ms=end_ms, top="angry" if angry >= 0.5 else "sad", scores=scores)


def test_wide_windows_keep_their_edges() -> None:
    shown = runs([window(0, 10_000, 0.9), window(10_000, 30_000, 0.1), window(50_000, 60_000, 0.8)], SCALE)
    assert [(run.start, run.end, run.top, run.score) for run in shown] == [
        (0, 10, "angry", 0.9), (10, 30, "sad", 0.9), (50, 60, "angry", 0.8),
    ]  # fmt: skip


def test_narrow_windows_are_averaged_by_their_time() -> None:
    # Given windows of three seconds and of one, one after the other, and columns of four
    starts = range(0, 100_000, 4000)
    pairs = [(window(start, start + 3000, 1.0), window(start + 3000, start + 4000, 0.0)) for start in starts]
    shown = runs([each for pair in pairs for each in pair], SCALE)
    # Then each column has one of each, and the longer one counts three times
    assert [(run.start, run.end) for run in shown] == [(n, n + COARSE) for n in range(0, 100, COARSE)]
    assert all(run.top == "angry" and run.score == pytest.approx(0.75) for run in shown)


def test_windows_that_overlap_meet_halfway() -> None:
    shown = runs([window(0, 40_000, 0.9), window(20_000, 60_000, 0.1), window(40_000, 80_000, 0.7)], SCALE)
    assert [(run.start, run.end) for run in shown] == [(0, 30), (30, 50), (50, 80)]


@given(st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 40_000), st.floats(0, 1)), max_size=60))
def test_columns_are_in_order_apart_and_inside(drawn: list[tuple[int, int, float]]) -> None:
    windows = [window(start, min(start + length, 100_000), angry) for start, length, angry in sorted(drawn)]
    shown = runs(windows, SCALE)
    assert all(0 <= run.start < run.end <= 100 for run in shown)
    assert all(before.end <= after.start for before, after in pairwise(shown))
    assert all(0 <= run.score <= 1 + 1e-9 and run.score >= 0.5 - 1e-9 for run in shown)
    assert bool(shown) == bool(windows)


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 30_000)), max_size=200))
def test_spans_on_pixels_are_few_and_visible(drawn: list[tuple[int, int]]) -> None:
    spans = sorted((start, min(start + length, 100_000)) for start, length in drawn)
    placed = on_pixels(spans, SCALE)
    assert len(placed) <= 101
    assert all(right - left >= 1 - 1e-9 for left, right in placed)
    assert all(after[0] - before[1] >= 1 - 1e-9 for before, after in pairwise(placed))


def test_gaps_are_what_no_span_covers() -> None:
    assert gaps([(50, 60), (10, 30), (20, 25)], 100) == [(0, 10), (30, 50), (60, 100)]
    assert gaps([], 100) == [(0, 100)]
    assert gaps([(0, 100)], 100) == []
