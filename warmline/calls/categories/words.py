"""What a condition means, and what was found of it, in words for a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from warmline.calls.categories.conditions import (
    AnyCondition,
    AverageCondition,
    ChangeCondition,
    DurationCondition,
    EmotionCondition,
    FlagCondition,
    InterruptionsCondition,
    LastingCondition,
    LoudnessCondition,
    MetadataCondition,
    OverlapShareCondition,
    RangedCondition,
    SilenceCondition,
    SilenceShareCondition,
    TalkShareCondition,
)
from warmline.calls.categories.evaluation import Finding, Verdict
from warmline.calls.categories.parts import Part
from warmline.calls.categories.rules_file import Category


def meaning(condition: AnyCondition) -> str:
    """In one line: `customer angry at least 0.6, for 8 s in all, in the last third`."""
    said: str = _MEANINGS[type(condition)](condition)
    relation = _relation(condition) if isinstance(condition, RangedCondition) else ""
    name = f" ({condition.name})" if condition.name else ""
    return f"{said}{relation}{name}"


def found(condition: AnyCondition, finding: Finding) -> str:
    """In one line: `holds: 9.5 s`, `does not hold: 3.2 s`, `is not known: no side is called agent`."""
    if finding.verdict is Verdict.UNKNOWN:
        return f"{finding.verdict}: {finding.why}"
    if finding.measured is None:
        return str(finding.verdict)
    return f"{finding.verdict}: {_measured(condition, finding.measured)}"


def lists(category: Category) -> Sequence[tuple[str, Sequence[AnyCondition]]]:
    """A category's conditions under what is asked of them; lists without any are left out."""
    every = ("where all of these hold", category.all)
    some = ("and one of these" if category.all else "where one of these holds", category.any)
    none = ("and none of these" if category.all or category.any else "where none of these holds", category.none)
    return [each for each in (every, some, none) if each[1]]


def _emotion(condition: EmotionCondition) -> str:
    bounds = _bounds(condition.at_least, condition.at_most)
    smooth = "" if condition.smooth_seconds is None else f", smoothed over {condition.smooth_seconds:g} s"
    return f"{_who(condition.role)} {'+'.join(condition.emotion)} {bounds}{smooth}{_lasting(condition)}"


def _loudness(condition: LoudnessCondition) -> str:
    bounds = _bounds(condition.at_least_dbfs, condition.at_most_dbfs, " dBFS")
    return f"{_who(condition.role)} {bounds}{_lasting(condition)}"


def _average(condition: AverageCondition) -> str:
    bounds = _bounds(condition.at_least, condition.at_most)
    return f"{_who(condition.role)} {'+'.join(condition.emotion)} {bounds} on average{_part(condition.part)}"


def _change(condition: ChangeCondition) -> str:
    bounds = _bounds(condition.at_least, condition.at_most)
    what = f"{_who(condition.role)} {'+'.join(condition.emotion)}"
    return f"{what}: last quarter's mean minus the first's {bounds}"


def _silence(condition: SilenceCondition) -> str:
    many = "a silence" if condition.count == 1 else f"{condition.count} silences"
    each = "" if condition.at_least_seconds is None else f" of at least {condition.at_least_seconds:g} s"
    total = "" if condition.total_seconds is None else f", together at least {condition.total_seconds:g} s"
    return f"{many}{each}{total}{_part(condition.part)}"


def _interruptions(condition: InterruptionsCondition) -> str:
    often = "once" if condition.count == 1 else f"{condition.count} times"
    of = f" {' or '.join(condition.of)}" if condition.of else ""
    each = "" if condition.at_least_seconds is None else f", each for at least {condition.at_least_seconds:g} s"
    close = "" if condition.within_seconds is None else f" within {condition.within_seconds:g} s"
    total = "" if condition.total_seconds is None else f", together at least {condition.total_seconds:g} s"
    return f"{_who(condition.by)} interrupts{of} {often}{close}{each}{total}{_part(condition.part)}"


def _silence_share(condition: SilenceShareCondition) -> str:
    return f"silence is {_bounds(condition.at_least, condition.at_most)} of the call{_part(condition.part)}"


def _overlap_share(condition: OverlapShareCondition) -> str:
    return f"both at once are {_bounds(condition.at_least, condition.at_most)} of the call{_part(condition.part)}"


def _talk_share(condition: TalkShareCondition) -> str:
    bounds = _bounds(condition.at_least, condition.at_most)
    return f"{_who(condition.role)} has {bounds} of all talk time{_part(condition.part)}"


def _flag(condition: FlagCondition) -> str:
    return f"flagged {' or '.join(condition.flag)}"


def _metadata(condition: MetadataCondition) -> str:
    if condition.values is None:
        return f"the metadata have {condition.key}"
    return f"the metadata's {condition.key} is {' or '.join(repr(value) for value in condition.values)}"


def _duration(condition: DurationCondition) -> str:
    return f"the call has {_bounds(condition.at_least_seconds, condition.at_most_seconds, ' s')}"


_MEANINGS: Mapping[type[Any], Callable[[Any], str]] = {
    EmotionCondition: _emotion,
    LoudnessCondition: _loudness,
    AverageCondition: _average,
    ChangeCondition: _change,
    SilenceCondition: _silence,
    InterruptionsCondition: _interruptions,
    SilenceShareCondition: _silence_share,
    OverlapShareCondition: _overlap_share,
    TalkShareCondition: _talk_share,
    FlagCondition: _flag,
    MetadataCondition: _metadata,
    DurationCondition: _duration,
}


def _measured(condition: AnyCondition, value: float) -> str:
    match condition:
        case EmotionCondition() | LoudnessCondition():
            what = "the longest stretch has" if condition.in_one_stretch else "there are"
            return f"{what} {value:.1f} s"
        case SilenceCondition() | InterruptionsCondition():
            return f"{value:.1f} s in all" if condition.total_seconds is not None else f"{value:.0f} there"
        case DurationCondition():
            return f"{value:.1f} s"
        case _:
            return f"{value:.3f}"


def _who(roles: Sequence[str]) -> str:
    return " or ".join(roles) or "any side"


def _bounds(low: float | None, high: float | None, unit: str = "") -> str:
    if low is not None and high is not None:
        return f"{low:g} to {high:g}{unit}"
    return f"at least {low:g}{unit}" if low is not None else f"at most {high:g}{unit}"


def _lasting(condition: LastingCondition) -> str:
    if condition.for_seconds is None:
        return f", at any time{_part(condition.part)}"
    how = f"in one stretch (pauses up to {condition.gap_seconds:g} s)" if condition.in_one_stretch else "in all"
    return f", for {condition.for_seconds:g} s {how}{_part(condition.part)}"


def _part(part: Part) -> str:
    if part.whole:
        return ""
    return f", in the {part.text}" if part.text[0] in "fl" else f", from {part.text}"


def _relation(condition: RangedCondition) -> str:
    if condition.after is not None:
        within = "" if condition.after_seconds is None else f"within {condition.after_seconds:g} s "
        return f", {within}after {condition.after!r}"
    if condition.before is not None:
        within = "" if condition.before_seconds is None else f"within {condition.before_seconds:g} s "
        return f", {within}before {condition.before!r}"
    return ""
