"""The arithmetic of a report: from windows' scores to a channel in one line."""

from __future__ import annotations

from collections.abc import Sequence

from warmline.calls.report import ChannelSummary, ScoredWindow

# What float32 can tell apart between 0 and 1; more digits would only make reports longer.
SCORE_DECIMALS = 7


def summarise(windows: Sequence[ScoredWindow]) -> ChannelSummary:
    """The mean of the windows' scores, each counting by its duration; without windows, no scores and no top.

    score[label] = sum over windows of duration x score[label], divided by the sum of durations. Rows that sum to 1
    give a mean that sums to 1.
    """
    total_ms = sum(window.end_ms - window.start_ms for window in windows)
    if not total_ms:
        return ChannelSummary(top=None, scores={})
    scores = {
        label: round(sum((w.end_ms - w.start_ms) * w.scores[label] for w in windows) / total_ms, SCORE_DECIMALS)
        for label in windows[0].scores
    }
    return ChannelSummary(top=top_label(scores), scores=scores)


def top_label(scores: dict[str, float]) -> str:
    """The label with the highest score; of equals, the one that the model names first."""
    return max(scores, key=lambda label: scores[label])
