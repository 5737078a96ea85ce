"""Arithmetic on stretches of time: pairs of milliseconds, from and to, the end not included.

Pairs and not `Span`: a report is matched with thousands of them while many reports are done anew. `spans` is for
who has `Span`, by the same arithmetic.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

Stretch = tuple[int, int]


def join(stretches: Iterable[Stretch], *, gap_ms: int = 0) -> list[Stretch]:
    """In order, without overlaps; those that lie at most `gap_ms` apart are one. Empty ones are left out."""
    joined: list[Stretch] = []
    for start_ms, end_ms in sorted(stretches):
        if end_ms <= start_ms:
            continue
        if joined and start_ms - joined[-1][1] <= gap_ms:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_ms))
        else:
            joined.append((start_ms, end_ms))
    return joined


def common(first: Sequence[Stretch], second: Sequence[Stretch]) -> list[Stretch]:
    """What lies in both. Each is in order, without overlaps."""
    found: list[Stretch] = []
    a = b = 0
    while a < len(first) and b < len(second):
        start_ms, end_ms = max(first[a][0], second[b][0]), min(first[a][1], second[b][1])
        if start_ms < end_ms:
            found.append((start_ms, end_ms))
        if first[a][1] <= second[b][1]:
            a += 1
        else:
            b += 1
    return found


def without_contained(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Those that lie in no other one, in order of their starts, and so of their ends; empty ones are left out."""
    kept: list[Stretch] = []
    for start_ms, end_ms in sorted(stretches, key=lambda each: (each[0], -each[1])):
        if start_ms < end_ms and (not kept or end_ms > kept[-1][1]):
            kept.append((start_ms, end_ms))
    return kept


class Covered:
    """How much of a stretch is covered by others, which are in order and do not overlap."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._starts = [start_ms for start_ms, _ in stretches]
        self._ends = [end_ms for _, end_ms in stretches]
        self._before = [0, *accumulate(end_ms - start_ms for start_ms, end_ms in stretches)]

    def of(self, stretch: Stretch) -> int:
        """Milliseconds."""
        start_ms, end_ms = stretch
        if end_ms <= start_ms:
            return 0
        return self._until(end_ms) - self._until(start_ms)

    def _until(self, at_ms: int) -> int:
        place = bisect_right(self._starts, at_ms) - 1
        if place < 0:
            return 0
        return self._before[place] + min(at_ms, self._ends[place]) - self._starts[place]
