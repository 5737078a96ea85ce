"""The arithmetic of a report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmline.calls.report import ScoredWindow
from warmline.calls.summary import summarise, top_label


def window(start_ms: int, end_ms: int, **scores: float) -> ScoredWindow:
    return ScoredWindow(start_ms=start_ms, end_ms=end_ms, top=top_label(scores), scores=scores)


def test_windows_count_by_their_duration() -> None:
    # Given a second of certain anger and three seconds of certain sadness, with a pause between them
    windows = [window(0, 1000, angry=1.0, sad=0.0), window(9000, 12_000, angry=0.0, sad=1.0)]
    # When they are summed up, then the pause counts for nothing and the longer window for three times the shorter
    summary = summarise(windows, 12_000)
    assert summary.scores == {"angry": 0.25, "sad": 0.75}
    assert summary.top == "sad"


def test_a_channel_without_windows_has_no_top() -> None:
    summary = summarise([], 1000)
    assert (summary.top, summary.scores) == (None, {})


def test_of_equal_scores_the_models_first_label_is_on_top() -> None:
    assert top_label({"happy": 0.5, "angry": 0.5}) == "happy"


@given(rows=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5000)), min_size=1, max_size=50))
def test_a_mean_of_probabilities_is_one(rows: list[tuple[float, int]]) -> None:
    windows = [
        window(10_000 * index, 10_000 * index + length_ms, angry=angry, sad=1 - angry)
        for index, (angry, length_ms) in enumerate(rows)
    ]
    summary = summarise(windows, 10_000 * len(rows))
    assert sum(summary.scores.values()) == pytest.approx(1.0, abs=1e-6)
    assert min(angry for angry, _ in rows) - 1e-6 <= summary.scores["angry"] <= max(a for a, _ in rows) + 1e-6
    assert summary.top == top_label(summary.scores)
