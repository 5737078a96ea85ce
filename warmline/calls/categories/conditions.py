"""What a category can ask of a report: one class a kind of condition, with the keys that it has in the file.

Sets of roles, labels and flags are kept sorted, each value once, so that two files that ask the same are the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

from warmline.calls.categories.parts import WHOLE, Part
from warmline.calls.report import STANDARD_LABELS, Flag

MAX_SECONDS = 1e6
DEFAULT_GAP_SECONDS = 2.0

NAME_PATTERN = r"^[\w](?:[\w \-]{0,62}[\w])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, strict=True)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
# Of several emotions summed, too: scores are probabilities, and those of one window sum to 1.
Score = Share
Change = Annotated[float, Field(strict=True, ge=-1, le=1, allow_inf_nan=False)]
Decibels = Annotated[float, Field(strict=True, ge=-120, le=0, allow_inf_nan=False)]


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _sorted_once(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _is_flag(name: str) -> str:
    known = get_args(Flag)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"{name!r} is no flag of a report{f'; did you mean {near[0]}?' if near else ''} "
            f"(there are {', '.join(known)})"
        )
    return name


_Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64)]
_Role = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z][a-z0-9_]{0,31}$")]
_Line = Annotated[str, StringConstraints(strict=True, max_length=1024)]
Roles = Annotated[
    tuple[_Role, ...], BeforeValidator(_one_or_more), Field(max_length=16), AfterValidator(_sorted_once)
]
Emotions = Annotated[
    tuple[_Text, ...],
    BeforeValidator(_one_or_more),
    Field(min_length=1, max_length=16),
    AfterValidator(_sorted_once),
]
Flags = Annotated[
    tuple[Annotated[_Text, AfterValidator(_is_flag)], ...],
    BeforeValidator(_one_or_more),
    Field(min_length=1),
    AfterValidator(_sorted_once),
]
Lines = Annotated[
    tuple[_Line, ...],
    BeforeValidator(_one_or_more),
    Field(min_length=1, max_length=100),
    AfterValidator(_sorted_once),
]


class Condition(BaseModel):
    """What all of them have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: Name | None = None  # that another condition's `after` or `before` means it by
    BOUNDS: ClassVar[tuple[str, str] | None] = None  # keys of which one at least is needed, the lower bound first

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.BOUNDS is not None:
            low, high = (getattr(self, key) for key in self.BOUNDS)
            if low is None and high is None:
                raise ValueError(f"it has neither {self.BOUNDS[0]} nor {self.BOUNDS[1]}; give one, or both")
            if low is not None and high is not None and low > high:
                raise ValueError(f"{self.BOUNDS[0]} is above {self.BOUNDS[1]}: nothing is between them")
        return self


class RangedCondition(Condition):
    """One that holds at certain times of the call: what is matched has ranges."""

    part: Part = WHOLE
    after: Name | None = None
    after_seconds: Seconds | None = None  # None: until the call's end
    before: Name | None = None
    before_seconds: Seconds | None = None  # None: from the call's start

    @property
    def other(self) -> str | None:
        """The condition that this one is before or after."""
        return self.after or self.before

    @model_validator(mode="after")
    def _relates_to_one(self) -> Self:
        if self.after is not None and self.before is not None:
            raise ValueError("give after or before, not both")
        for key in ("after", "before"):
            if getattr(self, f"{key}_seconds") is not None and getattr(self, key) is None:
                raise ValueError(f"{key}_seconds needs {key}: the name of the condition that it is {key}")
        return self


class LastingCondition(RangedCondition):
    """One about what windows say, for so long."""

    role: Roles = ()  # none: any side
    for_seconds: Seconds | None = None  # None: any time at all
    in_one_stretch: StrictBool = False
    gap_seconds: Annotated[float, Field(strict=True, ge=0, le=MAX_SECONDS, allow_inf_nan=False)] = (
        DEFAULT_GAP_SECONDS
    )

    @model_validator(mode="after")
    def _stretches_last(self) -> Self:
        if self.in_one_stretch and self.for_seconds is None:
            raise ValueError("in_one_stretch needs for_seconds: how long the stretch is to be")
        if "gap_seconds" in self.model_fields_set and not self.in_one_stretch:
            raise ValueError("gap_seconds is for in_one_stretch: it says which pauses do not end a stretch")
        return self


class EmotionCondition(LastingCondition):
    """A side sounds so."""

    kind: Literal["emotion"]
    emotion: Emotions  # several: their scores summed
    at_least: Score | None = None
    at_most: Score | None = None
    smooth_seconds: Seconds | None = None
    BOUNDS = ("at_least", "at_most")


class LoudnessCondition(LastingCondition):
    """A side's windows are so loud."""

    kind: Literal["loudness"]
    at_least_dbfs: Decibels | None = None
    at_most_dbfs: Decibels | None = None
    BOUNDS = ("at_least_dbfs", "at_most_dbfs")


class AverageCondition(Condition):
    """A side sounds so on average, over its windows' time in a part."""

    kind: Literal["average"]
    emotion: Emotions
    role: Roles = ()
    part: Part = WHOLE
    at_least: Score | None = None
    at_most: Score | None = None
    BOUNDS = ("at_least", "at_most")


class ChangeCondition(Condition):
    """A side's mean score in the last quarter minus the one in the first."""

    kind: Literal["change"]
    emotion: Emotions
    role: Roles = ()
    at_least: Change | None = None
    at_most: Change | None = None
    BOUNDS = ("at_least", "at_most")


class SilenceCondition(RangedCondition):
    """Nobody speaks for so long."""

    kind: Literal["silence"]
    at_least_seconds: Seconds | None = None  # each; None: any
    count: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1
    total_seconds: Seconds | None = None  # together

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.at_least_seconds is None and self.total_seconds is None:
            raise ValueError(
                "it has neither at_least_seconds (of each silence) nor total_seconds; give one, or both"
            )
        return self


class InterruptionsCondition(RangedCondition):
    """One side cuts in on another, so often or for so long."""

    kind: Literal["interruptions"]
    by: Roles = ()
    of: Roles = ()
    at_least_seconds: Seconds | None = None  # each
    count: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1
    within_seconds: Seconds | None = None  # from the first's start to the last's; None: in all
    total_seconds: Seconds | None = None  # together

    @model_validator(mode="after")
    def _within_is_of_several(self) -> Self:
        if self.within_seconds is not None and self.count == 1:
            raise ValueError("within_seconds needs a count above 1: it is from the first interruption to the last")
        return self


class SilenceShareCondition(Condition):
    """How much of the call nobody speaks."""

    kind: Literal["silence_share"]
    part: Part = WHOLE
    at_least: Share | None = None
    at_most: Share | None = None
    BOUNDS = ("at_least", "at_most")


class OverlapShareCondition(Condition):
    """How much of the call two or more speak at once."""

    kind: Literal["overlap_share"]
    part: Part = WHOLE
    at_least: Share | None = None
    at_most: Share | None = None
    BOUNDS = ("at_least", "at_most")


class TalkShareCondition(Condition):
    """A side's part of all sides' talk time."""

    kind: Literal["talk_share"]
    role: Annotated[Roles, Field(min_length=1)]
    part: Part = WHOLE
    at_least: Share | None = None
    at_most: Share | None = None
    BOUNDS = ("at_least", "at_most")


class FlagCondition(Condition):
    """The report has one of these flags."""

    kind: Literal["flag"]
    flag: Flags


class MetadataCondition(Condition):
    """The call's metadata say so."""

    kind: Literal["metadata"]
    key: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64)]
    one_of: Lines | None = None  # None: anything, if it is there
    equals: _Line | None = None

    @property
    def values(self) -> tuple[str, ...] | None:
        """One of these; None: any."""
        return (self.equals,) if self.equals is not None else self.one_of

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.one_of is not None and self.equals is not None:
            raise ValueError("give equals or one_of, not both")
        return self


class DurationCondition(Condition):
    """The call is so long."""

    kind: Literal["duration"]
    at_least_seconds: Seconds | None = None
    at_most_seconds: Seconds | None = None
    BOUNDS = ("at_least_seconds", "at_most_seconds")


AnyCondition = (
    EmotionCondition
    | LoudnessCondition
    | AverageCondition
    | ChangeCondition
    | SilenceCondition
    | InterruptionsCondition
    | SilenceShareCondition
    | OverlapShareCondition
    | TalkShareCondition
    | FlagCondition
    | MetadataCondition
    | DurationCondition
)

KINDS: Mapping[str, type[AnyCondition]] = {
    get_args(cls.model_fields["kind"].annotation)[0]: cls for cls in get_args(AnyCondition)
}


def labels_of(condition: AnyCondition) -> tuple[str, ...]:
    """The emotions that it names."""
    return (
        condition.emotion if isinstance(condition, EmotionCondition | AverageCondition | ChangeCondition) else ()
    )


def unknown_label(condition: AnyCondition, known: tuple[str, ...]) -> str | None:
    """A label it names that no model has: neither one of the standard nine nor one of `known`."""
    return next((label for label in labels_of(condition) if label not in {*STANDARD_LABELS, *known}), None)
