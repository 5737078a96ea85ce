"""The arithmetic of a channel, and of scores over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmline.calls.report import ScoredWindow
from warmline.calls.smoothing import smooth
from warmline.calls.summary import in_parts, margin, summarise, top_label


def window(start_ms: int, end_ms: int, **scores: float) -> ScoredWindow:
    return ScoredWindow(start_ms=start_ms, end_ms=end_ms, top=top_label(scores), scores=scores)


def test_windows_count_by_their_duration() -> None:
    # Given a second of certain anger and three seconds of certain sadness, with a pause between them
    windows = [window(0, 1000, angry=1.0, sad=0.0), window(9000, 12_000, angry=0.0, sad=1.0)]
    # When they are summed up, then the pause counts for nothing and the longer window for three times the shorter
    summary = summarise(windows, 12_000)
    assert summary.scores == {"angry": 0.25, "sad": 0.75}
    assert (summary.top, summary.confidence, summary.top_share) == ("sad", 1.0, 0.75)
    assert summary.change == {"angry": -1.0, "sad": 1.0}
    assert summary.volatility == 1.0


def test_how_sure_the_dominant_emotion_is_where_it_is_on_top() -> None:
    windows = [
        window(0, 1000, angry=0.9, sad=0.1),
        window(1000, 2000, angry=0.6, sad=0.4),
        window(2000, 4000, angry=0.2, sad=0.8),
    ]
    summary = summarise(windows, 4000)
    assert summary.scores == pytest.approx({"angry": 0.475, "sad": 0.525})
    assert (summary.top, summary.confidence, summary.top_share) == ("sad", 0.8, 0.5)
    # And where the highest mean is nowhere on top, it is that mean
    nowhere = [window(0, 1000, a=0.6, b=0.4, c=0.0), window(1000, 2000, a=0.0, b=0.45, c=0.55)]
    summary = summarise(nowhere, 2000)
    assert (summary.top, summary.confidence, summary.top_share) == ("b", 0.425, 0.0)


def test_volatility_is_the_mean_distance_between_neighbours() -> None:
    windows = [window(0, 1, a=1.0, b=0.0), window(1, 2, a=0.5, b=0.5), window(2, 3, a=0.5, b=0.5)]
    assert summarise(windows, 3).volatility == pytest.approx((0.5 + 0.0) / 2)
    assert summarise(windows[:1], 3).volatility is None


def test_parts_of_a_call() -> None:
    # Given windows of which one lies across the middle
    windows = [window(500, 1500, a=1.0, b=0.0), window(1500, 3500, a=0.25, b=0.75)]
    # When a call of ten seconds is looked at in five parts
    parts = in_parts(windows, 10_000, 5)
    # Then each window counts where it lies
    assert [(part.start_ms, part.end_ms) for part in parts] == [
        (0, 2000), (2000, 4000), (4000, 6000), (6000, 8000), (8000, 10_000),
    ]  # fmt: skip
    assert [part.scored_ms for part in parts] == [1500, 1500, 0, 0, 0]
    assert parts[0].scores == pytest.approx({"a": 0.75, "b": 0.25})
    assert (parts[0].top, parts[1].top, parts[2].top) == ("a", "b", None)
    assert parts[2].scores == {}


def test_no_change_is_told_of_where_an_end_is_silent() -> None:
    assert summarise([window(0, 1000, a=1.0, b=0.0)], 10_000).change == {}


def test_a_channel_without_windows_has_no_top() -> None:
    summary = summarise([], 1000)
    assert (summary.top, summary.scores, summary.confidence, summary.volatility) == (None, {}, None, None)
    assert [part.scored_ms for part in summary.tenths] == [0] * 10


def test_of_equal_scores_the_models_first_label_is_on_top() -> None:
    assert top_label({"happy": 0.5, "angry": 0.5}) == "happy"
    assert margin({"happy": 0.5, "angry": 0.5}) == 0
    assert margin({"a": 0.1, "b": 0.6, "c": 0.3}) == pytest.approx(0.3)


ROWS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5000), st.integers(0, 9000)), min_size=1, max_size=50)


def made(rows: list[tuple[float, int, int]]) -> list[ScoredWindow]:
    windows, at_ms = [], 0
    for angry, length_ms, pause_ms in rows:
        windows.append(window(at_ms, at_ms + length_ms, angry=angry, sad=1 - angry))
        at_ms += length_ms + pause_ms
    return windows


@given(rows=ROWS, more_ms=st.integers(0, 100_000))
def test_means_of_probabilities_sum_to_one(rows: list[tuple[float, int, int]], more_ms: int) -> None:
    windows = made(rows)
    duration_ms = windows[-1].end_ms + more_ms
    summary = summarise(windows, duration_ms)
    assert sum(summary.scores.values()) == pytest.approx(1.0, abs=1e-6)
    angry = [row[0] for row in rows]
    assert min(angry) - 1e-6 <= summary.scores["angry"] <= max(angry) + 1e-6
    assert summary.top == top_label(summary.scores)
    for parts in (summary.quarters, summary.tenths):
        # Every millisecond of every window is in one part, and the parts are the call
        assert sum(part.scored_ms for part in parts) == sum(each.duration_ms for each in windows)
        assert (parts[0].start_ms, parts[-1].end_ms) == (0, duration_ms)
        for part in parts:
            assert part.scored_ms == 0 or sum(part.scores.values()) == pytest.approx(1.0, abs=1e-4)
    assert summary.volatility is None or 0 <= summary.volatility <= 1


def test_smoothing_looks_at_neighbours_in_time_and_not_in_number() -> None:
    windows = [
        window(0, 2000, a=1.0, b=0.0), window(2000, 4000, a=0.0, b=1.0), window(60_000, 62_000, a=1.0, b=0.0),
    ]  # fmt: skip
    # A span of 4 s around each middle: a second of the neighbour that touches, nothing of the one after the pause
    smoothed = smooth(windows, 4.0)
    assert [round(scores["a"], 3) for scores in smoothed] == [0.667, 0.333, 1.0]
    assert smooth(windows, 0) == [each.scores for each in windows]
    assert smooth([], 4.0) == []


@given(rows=ROWS, seconds=st.floats(0.1, 60))
def test_smoothed_scores_sum_to_one_and_stay_within_what_they_are_made_of(
    rows: list[tuple[float, int, int]], seconds: float
) -> None:
    windows = made(rows)
    for scores in smooth(windows, seconds):
        assert sum(scores.values()) == pytest.approx(1.0, abs=1e-4)
        assert min(row[0] for row in rows) - 1e-4 <= scores["angry"] <= max(row[0] for row in rows) + 1e-4
