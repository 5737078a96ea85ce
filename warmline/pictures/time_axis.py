"""Time on a picture: where a moment is, which moments have a label, and how those read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

# What people count time in, in milliseconds.
_STEPS: Final = (
    *(100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000),
    *(60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000),
    *(3_600_000, 7_200_000, 14_400_000, 21_600_000, 43_200_000, 86_400_000),
)
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True)
class TimeScale:
    """A call's time from left to right, so many pixels wide."""

    left: int
    pixels: int
    duration_ms: int

    @property
    def right(self) -> int:
        """Where the call ends."""
        return self.left + self.pixels

    @property
    def pixel_ms(self) -> float:
        """How long a pixel is."""
        return max(self.duration_ms, 1) / self.pixels

    def x(self, ms: float) -> float:
        """Where a moment is; what lies outside the call is at its edge."""
        return self.left + min(max(ms / self.pixel_ms, 0.0), self.pixels)

    def ticks(self, apart: float = 66.0) -> list[tuple[float, str]]:
        """The moments that have a label, at least so many pixels apart: where they are and how they read."""
        step = next((step for step in _STEPS if step / self.pixel_ms >= apart), None)
        while step is None or step / self.pixel_ms < apart:  # beyond some days: whole days
            step = 2 * (step or _STEPS[-1])
        moments = range(0, self.duration_ms + 1, step)
        return [(self.x(ms), moment(ms, self.duration_ms, step)) for ms in moments]


def moment(ms: int, duration_ms: int, step_ms: int = 1000) -> str:
    """A moment of a call as a player shows it: m:ss, in a call of an hour and more h:mm:ss; m:ss.t by tenths."""
    if step_ms < 1000:
        return f"{ms // 60_000}:{ms % 60_000 // 1000:02d}.{ms % 1000 // 100}"
    seconds = ms // 1000
    if duration_ms >= HOUR_MS:
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{seconds // 60}:{seconds % 60:02d}"


def length(ms: float) -> str:
    """How long something is: 0.4 s, 12 s, 3:05 min, 1:02:03 h."""
    seconds = ms / 1000
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"


def on_pixels(spans: list[tuple[int, int]], scale: TimeScale) -> list[tuple[float, float]]:
    """Spans in order, in milliseconds, as (left, right) in pixels: at least one wide, joined where none is free.

    So their number is bounded by the picture's width, whatever the call's length.
    """
    placed: list[tuple[float, float]] = []
    for start_ms, end_ms in spans:
        left, right = scale.x(start_ms), scale.x(end_ms)
        right = max(right, left + 1.0)
        if placed and left - placed[-1][1] < 1.0:
            placed[-1] = placed[-1][0], max(right, placed[-1][1])
        else:
            placed.append((left, right))
    return placed


def gaps(spans: Iterable[tuple[int, int]], duration_ms: int) -> list[tuple[int, int]]:
    """The stretches of a call that none of the spans covers; these may be in any order."""
    found, end = [], 0
    for start, stop in sorted(spans):
        if start > end:
            found.append((end, start))
        end = max(end, stop)
    return [*found, (end, duration_ms)] if end < duration_ms else found


def overlaps(speech: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Where two or more of the channels speak at once, given where each does: in order, in milliseconds."""
    turns = sorted(turn for spans in speech for start, end in spans for turn in ((start, 1), (end, -1)))
    found: list[tuple[int, int]] = []
    speaking = 0
    for (at, change), (following, _) in pairwise(turns):
        speaking += change
        if speaking < 2 or following <= at:
            continue
        if found and found[-1][1] == at:
            found[-1] = found[-1][0], following
        else:
            found.append((at, following))
    return found
