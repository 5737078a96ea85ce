"""The categories of WARMLINE_CATEGORIES_FILE, and what they make of a report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from config.settings import Settings
from warmline.calls.categories.conditions import AnyCondition, RangedCondition
from warmline.calls.categories.evaluation import Evaluation, Finding, Verdict
from warmline.calls.categories.facts import CallFacts
from warmline.calls.categories.rules_file import LISTS, Category, categories_file, read_categories
from warmline.calls.report import Categories, CategoryMatch, MatchedRange, Report
from warmline.calls.stretches import Stretch, join

VARIABLE = "WARMLINE_CATEGORIES_FILE"
# Part of the digest: to be raised when the same rules come to match otherwise, so that reports are done anew.
MEANING = 1
MAX_RANGES = 500  # of a category in one report; what comes later in the call is left out


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A category and a report: whether it applies, and what was found of each condition."""

    category: Category
    applies: bool
    findings: dict[str, tuple[Finding, ...]]  # by list: all, any, none
    ranges: tuple[MatchedRange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CategoryRules:
    """All categories, in the file's order."""

    categories: tuple[Category, ...]

    @classmethod
    def load(cls, settings: Settings) -> Self | None:
        """From the file in the settings; None where there is none. Raises SettingsError."""
        if not settings.categories.file:
            return None
        return cls.read(Path(settings.categories.file).expanduser(), variable=VARIABLE)

    @classmethod
    def read(cls, path: Path, *, variable: str = "") -> Self:
        """From a file; a mistake is told of under the variable that names it. Raises SettingsError."""
        return cls(categories=tuple(read_categories(categories_file(path, variable=variable))))

    @cached_property
    def digest(self) -> str:
        """16 hex digits over what the rules ask: not comments, descriptions, or the order of keys."""
        asked = [
            {"name": category.name}
            | {key: [condition.model_dump(mode="json") for condition in getattr(category, key)] for key in LISTS}
            for category in self.categories
        ]
        canonical = json.dumps({"meaning": MEANING, "categories": asked}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def match(self, report: Report) -> Categories:
        """Which categories apply, in the file's order, and where. What the report has already is not looked at."""
        facts = CallFacts(report)
        matches = []
        for category in self.categories:
            evaluation = Evaluation(category.conditions, facts)
            if _applies(category, evaluation):
                matches.append(CategoryMatch(category=category.name, ranges=_ranges(category, evaluation, facts)))
        return Categories(digest=self.digest, matches=tuple(matches))

    def examine(self, report: Report) -> Sequence[Examined]:
        """Each category with what was found of its conditions."""
        facts = CallFacts(report)
        examined = []
        for category in self.categories:
            evaluation = Evaluation(category.conditions, facts)
            applies = _applies(category, evaluation)
            examined.append(
                Examined(
                    category=category,
                    applies=applies,
                    findings={key: tuple(map(evaluation.find, getattr(category, key))) for key in LISTS},
                    ranges=_ranges(category, evaluation, facts) if applies else (),
                )
            )
        return tuple(examined)


def _applies(category: Category, evaluation: Evaluation) -> bool:
    """Asks no more than it takes to know, and first what is known at once: most categories apply to few calls."""

    def verdicts(conditions: Sequence[AnyCondition]) -> Iterator[Verdict]:
        in_order = sorted(conditions, key=lambda condition: isinstance(condition, RangedCondition))
        return (evaluation.find(condition).verdict for condition in in_order)

    return (
        all(verdict is Verdict.HOLDS for verdict in verdicts(category.all))
        and all(verdict is Verdict.FAILS for verdict in verdicts(category.none))
        and (not category.any or any(verdict is Verdict.HOLDS for verdict in verdicts(category.any)))
    )


def _ranges(category: Category, evaluation: Evaluation, facts: CallFacts) -> tuple[MatchedRange, ...]:
    """Where the conditions that hold do so, joined in each channel, in order."""
    by_channel: dict[int | None, list[Stretch]] = {}
    for condition in (*category.all, *category.any):
        for channel, stretches in evaluation.find(condition).ranges.items():
            by_channel.setdefault(channel, []).extend(stretches)
    found = [
        MatchedRange(
            start_ms=start_ms,
            end_ms=end_ms,
            channel=channel,
            role=None if channel is None else facts.role(channel),
        )
        for channel, stretches in by_channel.items()
        for start_ms, end_ms in join(stretches)
    ]
    found.sort(key=lambda each: (each.start_ms, -1 if each.channel is None else each.channel))
    return tuple(found[:MAX_RANGES])
