"""Whether a condition holds for a call, and where. docs/categories.md says in words what is worked out here.

What a report does not tell is neither so nor not so: a category never applies by what nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from warmline.calls.categories.conditions import (
    AnyCondition,
    AverageCondition,
    ChangeCondition,
    DurationCondition,
    EmotionCondition,
    FlagCondition,
    InterruptionsCondition,
    LoudnessCondition,
    MetadataCondition,
    OverlapShareCondition,
    RangedCondition,
    SilenceCondition,
    SilenceShareCondition,
    TalkShareCondition,
)
from warmline.calls.categories.facts import DECIMALS, CallFacts, Step
from warmline.calls.categories.timing import between, groups, holds_moment, in_all, in_one_stretch, runs
from warmline.calls.stretches import Covered, Stretch, common, without_contained

_T = TypeVar("_T")


class Verdict(StrEnum):
    """What is to be said of a condition and a call."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNKNOWN = "is not known"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A condition and a call."""

    verdict: Verdict
    ranges: Mapping[int | None, Sequence[Stretch]] = field(default_factory=dict)  # by channel; None: all of them
    measured: float | None = None  # in the condition's own unit: seconds, a score, a share, or how many
    why: str = ""  # it is not known


class _Unknown(Exception):
    """The report does not tell."""


class Evaluation:
    """Of one category's conditions, one of which may refer to another."""

    def __init__(self, conditions: Sequence[AnyCondition], facts: CallFacts) -> None:
        self._named = {condition.name: condition for condition in conditions if condition.name}
        self._facts = facts
        self._found: dict[int, Finding] = {}

    def find(self, condition: AnyCondition) -> Finding:
        """Worked out once. A condition that refers to what is not known is not known either."""
        key = id(condition)
        if key not in self._found:
            try:
                self._found[key] = _FINDERS[type(condition)](self, condition)
            except _Unknown as unknown:
                self._found[key] = Finding(verdict=Verdict.UNKNOWN, why=str(unknown))
        return self._found[key]

    # Conditions that windows decide

    def _emotion(self, condition: EmotionCondition) -> Finding:
        def steps(channel: int) -> Sequence[Step]:
            scored, low = self._emotion_steps(channel, condition.emotion, 0.0), condition.at_least
            if condition.smooth_seconds is None or (low is not None and all(step[2] < low for step in scored)):
                return scored  # a mean is never above all that it is of: nothing fits, smoothed or not
            return self._emotion_steps(channel, condition.emotion, condition.smooth_seconds)

        return self._lasting(condition, steps, condition.at_least, condition.at_most)

    def _loudness(self, condition: LoudnessCondition) -> Finding:
        def steps(channel: int) -> Sequence[Step]:
            found = self._facts.loudness(channel)
            if found is None:
                raise _Unknown("its windows have no level")
            return found

        return self._lasting(condition, steps, condition.at_least_dbfs, condition.at_most_dbfs)

    def _lasting(
        self,
        condition: EmotionCondition | LoudnessCondition,
        steps_of: Callable[[int], Sequence[Step]],
        low: float | None,
        high: float | None,
    ) -> Finding:
        channels, reach = self._channels(condition.role), self._reach(condition)
        least_ms = round((condition.for_seconds or 0.0) * 1000)
        ranges: dict[int | None, Sequence[Stretch]] = {}
        most_ms = 0
        for channel in channels:
            found_groups = groups(steps_of(channel), low, high, round(condition.gap_seconds * 1000))
            if not found_groups:
                continue
            in_time = in_one_stretch if condition.in_one_stretch else in_all
            found, found_ms = in_time(found_groups, reach, least_ms)
            most_ms = max(most_ms, found_ms)
            if found:
                ranges[channel] = found
        return _finding(bool(ranges), most_ms / 1000, ranges)

    def _average(self, condition: AverageCondition) -> Finding:
        part = condition.part.bounds(self._facts.duration_ms)
        means = []
        for channel in self._channels(condition.role):
            weighed = [
                (min(end_ms, part[1]) - max(start_ms, part[0]), value)
                for start_ms, end_ms, value in self._emotion_steps(channel, condition.emotion, 0.0)
                if start_ms < part[1] and end_ms > part[0]
            ]
            if weighed:
                total_ms = sum(weight for weight, _ in weighed)
                means.append(round(sum(weight * value for weight, value in weighed) / total_ms, DECIMALS))
        if not means:
            raise _Unknown("nothing is scored there")
        return _bounded(means, condition.at_least, condition.at_most)

    def _change(self, condition: ChangeCondition) -> Finding:
        changes = []
        for channel in self._channels(condition.role):
            change = self._facts.report.channels[channel].summary.change
            if change and not change.keys() >= set(condition.emotion):
                raise _Unknown(f"its model does not score {' + '.join(condition.emotion)}")
            if change:
                changes.append(round(sum(change[label] for label in condition.emotion), DECIMALS))
        if not changes:
            raise _Unknown("the first or the last quarter has no windows")
        return _bounded(changes, condition.at_least, condition.at_most)

    def _emotion_steps(self, channel: int, labels: tuple[str, ...], smooth_seconds: float) -> Sequence[Step]:
        steps = self._facts.emotion(channel, labels, smooth_seconds)
        if steps is None:
            raise _Unknown(f"its model does not score {' + '.join(labels)}")
        return steps

    # Conditions that speech decides

    def _silence(self, condition: SilenceCondition) -> Finding:
        part = condition.part.bounds(self._facts.duration_ms)
        silences = common(_told(self._facts.silences), [part])
        if condition.at_least_seconds is not None:
            least_ms = round(condition.at_least_seconds * 1000)
            silences = [(a, b) for a, b in silences if b - a >= least_ms]
        if condition.other is not None:
            near = self._near(condition)
            at = 0 if condition.after is not None else 1  # where it begins is after, where it ends is before
            silences = [each for each in silences if holds_moment(near, each[at])]
        total_ms = sum(b - a for a, b in silences)
        holds = len(silences) >= condition.count and total_ms >= round((condition.total_seconds or 0) * 1000)
        measured = len(silences) if condition.total_seconds is None else total_ms / 1000
        return _finding(holds, measured, {None: silences})

    def _interruptions(self, condition: InterruptionsCondition) -> Finding:
        told = self._facts.interruptions
        if told is None:
            raise _Unknown("the call's sides were not told apart")
        for roles in (condition.by, condition.of):
            self._channels(roles)
        least_ms = round((condition.at_least_seconds or 0) * 1000)
        events = [
            each
            for each in told
            if (not condition.by or each.by in condition.by)
            and (not condition.of or each.of in condition.of)
            and each.duration_ms >= least_ms
        ]
        accepted = runs(events, self._reach(condition), condition)
        ranges: dict[int | None, list[Stretch]] = {}
        for each in accepted:
            ranges.setdefault(each.by_channel, []).append((each.start_ms, each.end_ms))
        total = sum(each.duration_ms for each in events) / 1000
        return _finding(bool(accepted), len(events) if condition.total_seconds is None else total, ranges)

    def _silence_share(self, condition: SilenceShareCondition) -> Finding:
        return self._share(_told(self._facts.silences), condition)

    def _overlap_share(self, condition: OverlapShareCondition) -> Finding:
        return self._share(_told(self._facts.overlaps), condition)

    def _share(
        self, stretches: Sequence[Stretch], condition: SilenceShareCondition | OverlapShareCondition
    ) -> Finding:
        part = condition.part.bounds(self._facts.duration_ms)
        length_ms = self._facts.length_ms(part)
        if not length_ms:
            raise _Unknown("the call has no such part")
        share = round(Covered(stretches).of(part) / length_ms, DECIMALS)
        return _bounded([share], condition.at_least, condition.at_most)

    def _talk_share(self, condition: TalkShareCondition) -> Finding:
        part = condition.part.bounds(self._facts.duration_ms)
        talks = [_told(self._facts.talk_ms(channel, part)) for channel in self._facts.channels(())]
        if not sum(talks):
            raise _Unknown("nobody speaks there")
        own_ms = sum(talks[channel] for channel in self._channels(condition.role))
        return _bounded([round(own_ms / sum(talks), DECIMALS)], condition.at_least, condition.at_most)

    # Conditions on the call as it is

    def _flag(self, condition: FlagCondition) -> Finding:
        return _finding(any(flag in self._facts.report.flags for flag in condition.flag))

    def _metadata(self, condition: MetadataCondition) -> Finding:
        value = self._facts.report.metadata.get(condition.key)
        values = condition.values
        return _finding(value is not None and (values is None or value in values))

    def _duration(self, condition: DurationCondition) -> Finding:
        seconds = self._facts.duration_ms / 1000
        return _bounded([seconds], condition.at_least_seconds, condition.at_most_seconds)

    # Where a condition is to hold

    def _channels(self, roles: Sequence[str]) -> list[int]:
        channels = self._facts.channels(roles)
        if not channels:
            there = ", ".join(self._facts.role(channel) for channel in self._facts.channels(()))
            raise _Unknown(f"no side is called {' or '.join(roles)} (there are {there})")
        return channels

    def _reach(self, condition: RangedCondition) -> list[Stretch]:
        """Stretches in each of which it may hold, in order of their starts and of their ends."""
        part = condition.part.bounds(self._facts.duration_ms)
        if condition.other is None:
            return without_contained([part])
        return without_contained((max(a, part[0]), min(b, part[1])) for a, b in self._near(condition))

    def _near(self, condition: RangedCondition) -> list[Stretch]:
        """For each stretch of the other condition: itself, and so many seconds after or before it."""
        other = self.find(self._named[condition.other or ""])
        if other.verdict is Verdict.UNKNOWN:
            raise _Unknown(f"{condition.other!r} is not known: {other.why}")
        stretches = [stretch for found in other.ranges.values() for stretch in found]
        end_ms = self._facts.duration_ms
        if condition.after is not None:
            reach_ms = end_ms if condition.after_seconds is None else round(condition.after_seconds * 1000)
            near = [(a, min(b + reach_ms, end_ms)) for a, b in stretches]
        else:
            reach_ms = end_ms if condition.before_seconds is None else round(condition.before_seconds * 1000)
            near = [(max(a - reach_ms, 0), b) for a, b in stretches]
        return without_contained(near)


def _bounded(values: Sequence[float], low: float | None, high: float | None) -> Finding:
    """Of several sides, one is enough. What was measured is the value that is nearest to what is asked."""
    holds = [value for value in values if between(value, low, high)]
    best = holds[0] if holds else max(values) if low is not None else min(values)
    return _finding(bool(holds), best)


def _finding(
    holds: bool, measured: float | None = None, ranges: Mapping[int | None, Sequence[Stretch]] | None = None
) -> Finding:
    if not holds:
        return Finding(verdict=Verdict.FAILS, measured=measured)
    found = {channel: stretches for channel, stretches in (ranges or {}).items() if stretches}
    return Finding(verdict=Verdict.HOLDS, measured=measured, ranges=found)


def _told(value: _T | None) -> _T:
    if value is None:
        raise _Unknown("the report does not say who speaks when")
    return value


_FINDERS: Mapping[type[Any], Callable[[Evaluation, Any], Finding]] = {
    EmotionCondition: Evaluation._emotion,
    LoudnessCondition: Evaluation._loudness,
    AverageCondition: Evaluation._average,
    ChangeCondition: Evaluation._change,
    SilenceCondition: Evaluation._silence,
    InterruptionsCondition: Evaluation._interruptions,
    SilenceShareCondition: Evaluation._silence_share,
    OverlapShareCondition: Evaluation._overlap_share,
    TalkShareCondition: Evaluation._talk_share,
    FlagCondition: Evaluation._flag,
    MetadataCondition: Evaluation._metadata,
    DurationCondition: Evaluation._duration,
}
