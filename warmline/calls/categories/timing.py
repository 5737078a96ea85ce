"""When a condition holds long enough, or often enough: arithmetic on steps of a value and on events.

The reach of a condition is where it may hold: stretches in order of their starts and of their ends, which may
overlap. In one of them it has to hold by itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from warmline.calls.categories.conditions import InterruptionsCondition
from warmline.calls.categories.facts import Step
from warmline.calls.report import Interruption
from warmline.calls.stretches import Covered, Stretch, common, join


def between(value: float, low: float | None, high: float | None) -> bool:
    """Whether a value is; both bounds are in."""
    return (low is None or value >= low) and (high is None or value <= high)


def groups(steps: Sequence[Step], low: float | None, high: float | None, gap_ms: int) -> list[list[Stretch]]:
    """Stretches of steps whose value lies between the bounds, each with the steps that it is made of.

    One ends before a step whose value does not, and before a pause of more than `gap_ms` where nothing is scored.
    """
    groups: list[list[Stretch]] = []
    open_until_ms: int | None = None
    for start_ms, end_ms, value in steps:
        if not between(value, low, high):
            open_until_ms = None
        elif open_until_ms is not None and start_ms <= open_until_ms:
            groups[-1].append((start_ms, end_ms))
            open_until_ms = end_ms + gap_ms
        else:
            groups.append([(start_ms, end_ms)])
            open_until_ms = end_ms + gap_ms
    return groups


def in_all(
    groups: Sequence[Sequence[Stretch]], reach: Sequence[Stretch], least_ms: int
) -> tuple[list[Stretch], int]:
    """What lies in a stretch of the reach that holds enough of it; and how much the fullest holds."""
    spans = join(step for group in groups for step in group)
    covered = Covered(spans)
    held = [(covered.of(each), each) for each in reach]
    most_ms = max((held_ms for held_ms, _ in held), default=0)
    accepted = [each for held_ms, each in held if held_ms >= max(least_ms, 1)]
    return common(spans, join(accepted)) if accepted else [], most_ms


def in_one_stretch(
    groups: Sequence[Sequence[Stretch]], reach: Sequence[Stretch], least_ms: int
) -> tuple[list[Stretch], int]:
    """The stretches of which enough lies in one of the reach, as far as it does; and how long the longest is.

    Pauses inside one are in the range, and do not count for its length.
    """
    reached, places = Covered(join(reach)), _Places(reach)
    found: list[Stretch] = []
    most_ms = 0
    for group in groups:
        inside_ms = sum(reached.of(step) for step in group)
        if inside_ms < max(least_ms, 1):
            most_ms = max(most_ms, inside_ms)
            continue
        covered = Covered(group)
        for place in places.touching((group[0][0], group[-1][1])):
            held_ms = covered.of(reach[place])
            most_ms = max(most_ms, held_ms)
            if held_ms >= max(least_ms, 1):
                inside = common(group, [reach[place]])
                found.append((inside[0][0], inside[-1][1]))
    return join(found), most_ms


class _Places:
    """Finds stretches that are in order of their starts and of their ends, overlapping or not."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._starts = [start_ms for start_ms, _ in stretches]
        self._ends = [end_ms for _, end_ms in stretches]

    def touching(self, stretch: Stretch) -> range:
        """The places of those that have time in common with it."""
        return range(bisect_right(self._ends, stretch[0]), bisect_left(self._starts, stretch[1]))

    def last_begun(self, at_ms: int) -> int | None:
        """The place of the last one that has begun by then: of those, it ends last."""
        place = bisect_right(self._starts, at_ms) - 1
        return None if place < 0 else place


def holds_moment(stretches: Sequence[Stretch], at_ms: int) -> bool:
    """Whether one of them, both of its edges included, holds the moment."""
    place = _Places(stretches).last_begun(at_ms)
    return place is not None and at_ms <= stretches[place][1]


def runs(
    events: Sequence[Interruption], reach: Sequence[Stretch], condition: InterruptionsCondition
) -> list[Interruption]:
    """Those of the events that are part of a run of enough of them, close enough, in one stretch of the reach."""
    if condition.total_seconds is not None:
        least_ms = round(condition.total_seconds * 1000)
        reach = [
            (a, b)
            for a, b in reach
            if sum(each.duration_ms for each in events if a <= each.start_ms < b) >= least_ms
        ]
    places, count = _Places(reach), condition.count
    most_ms = None if condition.within_seconds is None else round(condition.within_seconds * 1000)
    taken: set[int] = set()
    for first in range(len(events) - count + 1):
        begin_ms, last_ms = events[first].start_ms, events[first + count - 1].start_ms
        place = places.last_begun(begin_ms)
        if place is None or last_ms >= reach[place][1]:
            continue
        if most_ms is None or last_ms - begin_ms <= most_ms:
            taken.update(range(first, first + count))
    return [events[place] for place in sorted(taken)]
