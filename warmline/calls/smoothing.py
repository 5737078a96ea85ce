"""Scores over time, smoothed: a window of a few seconds is a noisy witness, its neighbours know more."""

from __future__ import annotations

from collections.abc import Sequence

from warmline.calls.report import ScoredWindow, Scores
from warmline.calls.summary import MEAN_DECIMALS


def smooth(windows: Sequence[ScoredWindow], seconds: float) -> list[Scores]:
    """For each window, in order, the mean of what lies within `seconds` / 2 before and after its middle.

    Windows count by how much of them lies there: a centred moving average over time, not over counts, so that a
    pause of a minute does not make two sentences neighbours. 0 seconds: the scores as they are. Rows that sum to 1
    stay so, up to rounding.
    """
    if seconds <= 0:
        return [window.scores for window in windows]
    half_ms = seconds * 500
    smoothed: list[Scores] = []
    first = 0
    for window in windows:
        middle_ms = (window.start_ms + window.end_ms) / 2
        from_ms, to_ms = middle_ms - half_ms, middle_ms + half_ms
        while windows[first].end_ms <= from_ms:  # never past the window itself, which holds its own middle
            first += 1
        sums = dict.fromkeys(window.scores, 0.0)
        total_ms = 0.0
        for place in range(first, len(windows)):  # a slice would copy the rest of the call for each window
            near = windows[place]
            if near.start_ms >= to_ms:
                break
            inside_ms = min(near.end_ms, to_ms) - max(near.start_ms, from_ms)
            if inside_ms > 0:
                total_ms += inside_ms
                for label, score in near.scores.items():
                    sums[label] += inside_ms * score
        smoothed.append({label: round(value / total_ms, MEAN_DECIMALS) for label, value in sums.items()})
    return smoothed
