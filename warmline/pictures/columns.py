"""Scored windows as columns of a picture, however many windows there are: its size is bounded by its width.

A column is a pixel wide. Where most windows are narrower than four pixels nobody could tell them apart: there a
column is four pixels wide, and the windows in it are averaged, each weighted by its time there. Windows that
overlap, as a sliding window's do, meet halfway between their middles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from warmline.calls.report import ScoredWindow, Scores
from warmline.pictures.time_axis import TimeScale

COARSE: Final = 4  # pixels

_Column = list[tuple[float, ScoredWindow]]  # the windows in it, each with its milliseconds there


@dataclass(frozen=True)
class Run:
    """Neighbouring columns that show the same: from pixel `start` of the scale up to and without pixel `end`."""

    start: int
    end: int
    top: str
    scores: Scores

    @property
    def width(self) -> int:
        """In pixels."""
        return self.end - self.start

    @property
    def score(self) -> float:
        """The top label's."""
        return self.scores.get(self.top, 0.0)


def runs(windows: Sequence[ScoredWindow], scale: TimeScale) -> list[Run]:
    """The windows of one channel, in order, as runs of columns; columns without any are left out."""
    owned = list(_owned(windows))
    pixels = grain(windows, scale)
    column_ms = scale.pixel_ms * pixels
    columns: list[_Column | None] = [None] * -(-scale.pixels // pixels)
    for window, start_ms, end_ms in owned:
        first = max(int(start_ms / column_ms), 0)
        last = min(int(end_ms / column_ms), len(columns) - 1)
        for place in range(first, last + 1):
            left = place * column_ms
            covered = min(end_ms, left + column_ms) - max(start_ms, left)
            if covered > 0:
                held = columns[place]
                if held is None:
                    columns[place] = [(covered, window)]
                else:
                    held.append((covered, window))
    joined = _joined(columns, column_ms / 2 if pixels == 1 else column_ms)
    return [Run(a * pixels, min(b * pixels, scale.pixels), top, scores) for a, b, top, scores in joined]


def grain(windows: Sequence[ScoredWindow], scale: TimeScale) -> int:
    """How many pixels wide a column is."""
    owned = [end_ms - start_ms for _, start_ms, end_ms in _owned(windows)]
    return COARSE if owned and median(owned) < COARSE * scale.pixel_ms else 1


def _owned(windows: Sequence[ScoredWindow]) -> Iterator[tuple[ScoredWindow, float, float]]:
    """Each window with the time that is shown as its own."""
    starts: list[float] = [window.start_ms for window in windows]
    ends: list[float] = [window.end_ms for window in windows]
    for place in range(1, len(windows)):
        before, after = windows[place - 1], windows[place]
        if before.end_ms > after.start_ms:
            halfway = (before.start_ms + before.end_ms + after.start_ms + after.end_ms) / 4
            ends[place - 1] = starts[place] = halfway
    return zip(windows, starts, ends, strict=True)


def _joined(columns: list[_Column | None], enough_ms: float) -> Iterator[tuple[int, int, str, Scores]]:
    """Runs as (first column, column after the last, top label, scores).

    A column with several windows shows the one that covers `enough_ms` of it: where a pixel lies across an edge.
    """
    first = 0
    shown: ScoredWindow | None = None
    for place, held in enumerate([*columns, None]):
        window = None if held is None else _most_of(held, enough_ms)
        if shown is not None and window is not shown:
            yield first, place, shown.top, shown.scores
        if window is not None and window is not shown:
            first = place
        if held is not None and window is None:
            yield place, place + 1, *_averaged(held)
        shown = window


def _most_of(held: _Column, enough_ms: float) -> ScoredWindow | None:
    covered, widest = max(held, key=lambda part: part[0])
    return widest if covered >= enough_ms or len(held) == 1 else None


def _averaged(held: _Column) -> tuple[str, Scores]:
    total = sum(covered for covered, _ in held)
    scores = {
        label: sum(covered * window.scores.get(label, 0.0) for covered, window in held) / total
        for label in held[0][1].scores
    }
    return max(scores, key=scores.__getitem__), scores
