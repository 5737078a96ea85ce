"""Figures over many calls: by agent, queue, day, category or whatever their metadata say. One pass, read once.

Emotions are weighed by scored time, so a long call counts for more than a short one; flags and categories count
calls. Memory grows with the number of groups, of which there is a limit, and not with the calls. The API uses this
too, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final, get_args

from pydantic import Field

from warmline.calls.report import ChannelReport, Flag, Report, Scores
from warmline.calls.stored_reports import StoredReport, Unreadable
from warmline.exports.dates import day_of
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import Record

MAX_DIMENSIONS: Final = 4
MAX_LISTED: Final = 20  # of what could not be read
ROLES_A_GROUP: Final = 16  # on average: what is counted for a role takes room as a group does
MS_AN_HOUR: Final = 3_600_000
FLAGS: Final[tuple[str, ...]] = get_args(Flag)
METADATA: Final = "metadata:"


class RoleFigures(Record):
    """What one role's voices sound like in a group."""

    role: str
    channels: int = Field(description="how many: one for each call, as a rule")
    talk_hours: float = Field(description="how long they speak")
    scored_hours: float = Field(description="how much of it windows cover: what the scores are weighed by")
    dominant: str | None = Field(description="the label with the highest mean score; null: nothing was scored")
    dominant_score: float | None = Field(description="its mean score, 0 to 1")
    scores: Scores = Field(description="mean score by label, weighed by scored time; sums to 1")
    change: Scores = Field(
        description="by label: mean of the channels' changes from the first to the last quarter of their calls; "
        "each counts once"
    )
    changes: int = Field(
        description="in how many channels both quarters have windows: what `change` is the mean of"
    )


class Group(Record):
    """The calls that have these values in common."""

    group: dict[str, str | None] = Field(description="by name of `by`; null: the call has none")
    calls: int
    hours: float = Field(description="length of the calls")
    talk_share: float | None = Field(
        description="share of their time in which exactly one side speaks; null: none were looked at for speech"
    )
    overlap_share: float | None = Field(description="two or more speak at once")
    silence_share: float | None = Field(description="nobody speaks")
    excluded_share: float | None = Field(description="left out; the four add up to 1")
    interruptions_per_hour: float | None = Field(description="of calls with two sides or more")
    flags: dict[str, float] = Field(description="by flag: share of the calls that have it")
    categorised_calls: int = Field(description="calls that rules were applied to")
    categories: dict[str, float] = Field(description="by category: share of those calls that it applies to")
    roles: tuple[RoleFigures, ...] = Field(description="in the order of their names")


class Aggregate(Record):
    """Groups of calls, in the order of their values."""

    by: tuple[str, ...]
    calls: int = Field(description="reports that were read")
    groups: tuple[Group, ...]
    unreadable: int = Field(0, description="reports that could not be read, and count nowhere")
    unreadable_places: tuple[str, ...] = Field((), description="the first of them, and why")


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """By what calls are grouped: each dimension's name, and how its values are found."""

    names: tuple[str, ...]
    values: tuple[Callable[[Report], Sequence[str | None]], ...]
    by_role: bool

    @classmethod
    def parse(cls, by: str, date: str = "analysed_at") -> Grouping:
        """From a comma-separated list of day, batch, category, role, model, metadata keys; raises InvalidRequest.

        `NAME=KEY` calls the metadata key KEY by another name, and `metadata:KEY` means one that is called like one
        of those words. `date` says what a call's day is (see `warmline.exports.dates`).
        """
        parts = tuple(dict.fromkeys(part.strip() for part in by.split(",") if part.strip()))
        if not 1 <= len(parts) <= MAX_DIMENSIONS:
            raise InvalidRequest(
                f"group by 1 to {MAX_DIMENSIONS} of day, batch, category, role, model, metadata keys"
            )
        named = [_dimension(part, date) for part in parts]
        names = tuple(name for name, _ in named)
        if len(set(names)) < len(names):
            raise InvalidRequest(f"two of {', '.join(parts)} have the same name")
        return cls(names=names, values=tuple(values for _, values in named), by_role="role" in parts)


def aggregate(reports: Iterable[StoredReport | Unreadable], grouping: Grouping, *, max_groups: int) -> Aggregate:
    """Reads the reports once and returns their groups. Raises InvalidRequest when there are more than that."""
    groups: dict[tuple[str | None, ...], _Sums] = {}
    calls = unreadable = cells = 0
    places: list[str] = []
    for found in reports:
        if isinstance(found, Unreadable):
            unreadable += 1
            if len(places) < MAX_LISTED:
                places.append(f"{found.place}: {found.reason}")
            continue
        calls += 1
        for key in product(*(values(found.report) for values in grouping.values)):
            sums = groups.get(key)
            if sums is None:
                sums = groups[key] = _Sums()
            role = key[grouping.names.index("role")] if grouping.by_role else None
            cells += sums.add(found.report, role)
        if len(groups) > max_groups or cells > max_groups * ROLES_A_GROUP:
            raise InvalidRequest(
                f"there are more than {max_groups:,} groups of {', '.join(grouping.names)}; group by something "
                "with fewer values"
            )
    return Aggregate(
        by=grouping.names,
        calls=calls,
        groups=tuple(
            sums.group(dict(zip(grouping.names, key, strict=True)))
            for key, sums in sorted(groups.items(), key=lambda item: [(v is None, v or "") for v in item[0]])
        ),
        unreadable=unreadable,
        unreadable_places=tuple(places),
    )


def _dimension(part: str, date: str) -> tuple[str, Callable[[Report], Sequence[str | None]]]:
    if part == "day":
        day = day_of(date)

        def days(report: Report) -> Sequence[str | None]:
            found = day(report)
            return (None if found is None else found.isoformat(),)

        return part, days
    if part in _OF_THE_REPORT:
        return part, _OF_THE_REPORT[part]
    name, equals, key = part.partition("=")
    key = (key if equals else name).removeprefix(METADATA)
    name = name.removeprefix(METADATA)
    if not name or not key:
        raise InvalidRequest(f"{part!r} is no metadata key; write KEY, NAME=KEY or metadata:KEY")
    return name, lambda report: (report.metadata.get(key),)


def _categories(report: Report) -> Sequence[str | None]:
    matches = report.categories.matches if report.categories else ()
    return tuple(match.category for match in matches) or (None,)


def _roles(report: Report) -> Sequence[str | None]:
    return tuple(dict.fromkeys(channel.role for channel in report.channels)) or (None,)


_OF_THE_REPORT: dict[str, Callable[[Report], Sequence[str | None]]] = {
    "batch": lambda report: (report.batch_id,),
    "category": _categories,
    "role": _roles,
    "model": lambda report: (report.provenance.model.name,),
}


@dataclass(kw_only=True)
class _RoleSums:
    channels: int = 0
    talk_ms: float = 0.0
    scored_ms: int = 0
    weighed: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # score x ms, by label
    changes: int = 0
    change: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, channel: ChannelReport) -> None:
        self.channels += 1
        self.talk_ms += channel.speech_seconds * 1000
        scored = sum(window.end_ms - window.start_ms for window in channel.windows)
        self.scored_ms += scored
        for label, score in channel.summary.scores.items():
            self.weighed[label] += score * scored
        if channel.summary.change:
            self.changes += 1
            for label, change in channel.summary.change.items():
                self.change[label] += change

    def figures(self, role: str) -> RoleFigures:
        scores = (
            {label: weight / self.scored_ms for label, weight in self.weighed.items()} if self.scored_ms else {}
        )
        dominant = max(scores, key=scores.__getitem__) if scores else None
        return RoleFigures(
            role=role,
            channels=self.channels,
            talk_hours=round(self.talk_ms / MS_AN_HOUR, 4),
            scored_hours=round(self.scored_ms / MS_AN_HOUR, 4),
            dominant=dominant,
            dominant_score=None if dominant is None else round(scores[dominant], 4),
            scores={label: round(score, 4) for label, score in scores.items()},
            change={label: round(change / self.changes, 4) for label, change in self.change.items()},
            changes=self.changes,
        )


@dataclass(kw_only=True)
class _Sums:
    calls: int = 0
    ms: int = 0
    parts_ms: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # talk, overlap, silence, excluded
    interruptions: int = 0
    two_sided_ms: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    categorised: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    roles: dict[str, _RoleSums] = field(default_factory=dict)

    def add(self, report: Report, role: str | None) -> int:
        """Counts a call, of its channels only those of `role` if that is one; says how many roles are new."""
        self.calls += 1
        self.ms += report.duration_ms
        self._add_conversation(report)
        self.flags.update(report.flags)
        if report.categories is not None:
            self.categorised += 1
            self.categories.update({match.category for match in report.categories.matches})
        before = len(self.roles)
        for channel in report.channels:
            if role is None or channel.role == role:
                self.roles.setdefault(channel.role, _RoleSums()).add(channel)
        return len(self.roles) - before

    def _add_conversation(self, report: Report) -> None:
        if report.conversation is None:
            return
        breakdown = report.conversation.breakdown
        parts = (breakdown.talk_ms, breakdown.overlap_ms, breakdown.silence_ms, breakdown.excluded_ms)
        self.parts_ms = [sum(pair) for pair in zip(self.parts_ms, parts, strict=True)]
        if len(report.channels) > 1:
            self.interruptions += len(report.conversation.interruptions)
            self.two_sided_ms += report.duration_ms

    def group(self, values: dict[str, str | None]) -> Group:
        looked_at = sum(self.parts_ms)
        talk, overlap, silence, excluded = (
            round(part / looked_at, 4) if looked_at else None for part in self.parts_ms
        )
        hours = self.two_sided_ms / MS_AN_HOUR
        return Group(
            group=values,
            calls=self.calls,
            hours=round(self.ms / MS_AN_HOUR, 4),
            talk_share=talk,
            overlap_share=overlap,
            silence_share=silence,
            excluded_share=excluded,
            interruptions_per_hour=round(self.interruptions / hours, 2) if hours else None,
            flags={flag: round(self.flags[flag] / self.calls, 4) for flag in FLAGS},
            categorised_calls=self.categorised,
            categories={
                name: round(count / self.categorised, 4) for name, count in sorted(self.categories.items())
            },
            roles=tuple(sums.figures(role) for role, sums in sorted(self.roles.items())),
        )
