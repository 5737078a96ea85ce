"""The arithmetic of a channel: from windows' scores to its distribution, its parts, its change and its unrest.

Every mean is weighted by duration, so that a window of a second counts a fifth of one of five.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from warmline.calls.report import ChannelSummary, PartSummary, ScoredWindow, Scores

# What float32 can tell apart between 0 and 1; more digits would only make reports longer.
SCORE_DECIMALS = 7
# Of means, which nobody compares with an engine's output.
MEAN_DECIMALS = 5


def summarise(windows: Sequence[ScoredWindow], duration_ms: int) -> ChannelSummary:
    """A channel in one line; without windows, no scores and no top. `duration_ms` is the call's.

    score[label] = sum over windows of duration x score[label], divided by the sum of durations. Rows that sum to 1
    give a mean that sums to 1. Volatility is the mean over neighbours of the total variation distance,
    half the sum over labels of |p - q| (Levin, Peres, Wilmer: Markov Chains and Mixing Times, 4.1).
    """
    quarters, tenths = (in_parts(windows, duration_ms, count) for count in (4, 10))
    scores = _mean((window.duration_ms, window.scores) for window in windows)
    if not scores:
        return ChannelSummary(top=None, scores={}, quarters=quarters, tenths=tenths)
    scores = {label: round(score, SCORE_DECIMALS) for label, score in scores.items()}
    top = top_label(scores)
    scored_ms = sum(window.duration_ms for window in windows)
    on_top = [(window.duration_ms, window.scores) for window in windows if window.top == top]
    return ChannelSummary(
        top=top,
        # An emotion may have the highest mean and never be on top, as a party may win without a constituency.
        confidence=round(_mean(on_top)[top], MEAN_DECIMALS) if on_top else scores[top],
        top_share=round(sum(weight for weight, _ in on_top) / scored_ms, MEAN_DECIMALS),
        scores=scores,
        quarters=quarters,
        tenths=tenths,
        change=_change(quarters[0].scores, quarters[-1].scores),
        volatility=_volatility(windows),
    )


def in_parts(windows: Sequence[ScoredWindow], duration_ms: int, count: int) -> tuple[PartSummary, ...]:
    """The call in `count` equal parts. Of a window that lies across an edge, each part gets its own share."""
    edges = [round(duration_ms * place / count) for place in range(count + 1)]
    inside: list[list[tuple[int, Scores]]] = [[] for _ in range(count)]
    for window in windows:
        first = min(window.start_ms * count // max(duration_ms, 1), count - 1)
        for part in range(first, count):
            if edges[part] >= window.end_ms:
                break
            overlap_ms = min(window.end_ms, edges[part + 1]) - max(window.start_ms, edges[part])
            if overlap_ms > 0:
                inside[part].append((overlap_ms, window.scores))
    return tuple(
        _part(start_ms, end_ms, weighted)
        for (start_ms, end_ms), weighted in zip(pairwise(edges), inside, strict=True)
    )


def top_label(scores: Scores) -> str:
    """The label with the highest score; of equals, the one that the model names first."""
    return max(scores, key=lambda label: scores[label])


def margin(scores: Scores) -> float:
    """How far the highest score is above the second; the score itself where there is one label."""
    ranked = sorted(scores.values(), reverse=True)
    return round(ranked[0] - ranked[1], SCORE_DECIMALS) if len(ranked) > 1 else ranked[0]


def _part(start_ms: int, end_ms: int, weighted: Sequence[tuple[int, Scores]]) -> PartSummary:
    scores = {label: round(score, MEAN_DECIMALS) for label, score in _mean(weighted).items()}
    return PartSummary(
        start_ms=start_ms,
        end_ms=end_ms,
        scored_ms=sum(weight for weight, _ in weighted),
        top=top_label(scores) if scores else None,
        scores=scores,
    )


def _mean(weighted: Iterable[tuple[int, Scores]]) -> Scores:
    total = 0
    sums: Scores = {}
    for weight, scores in weighted:
        total += weight
        for label, score in scores.items():
            sums[label] = sums.get(label, 0.0) + weight * score
    return {label: score / total for label, score in sums.items()} if total else {}


def _change(first: Scores, last: Scores) -> Scores:
    if not first or not last:
        return {}
    return {label: round(last[label] - first[label], MEAN_DECIMALS) for label in first}


def _volatility(windows: Sequence[ScoredWindow]) -> float | None:
    if len(windows) < 2:
        return None
    total = sum(
        sum(abs(score - after.scores[label]) for label, score in before.scores.items()) / 2
        for before, after in pairwise(windows)
    )
    return round(total / (len(windows) - 1), MEAN_DECIMALS)
