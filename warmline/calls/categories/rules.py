"""The categories of WARMLINE_CATEGORIES_FILE, and what they make of a report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from config.settings import Settings
from warmline.calls.categories.evaluation import Evaluation, Finding, Verdict
from warmline.calls.categories.facts import CallFacts
from warmline.calls.categories.rules_file import LISTS, Category, categories_file, read_categories
from warmline.calls.categories.stretches import join
from warmline.calls.report import Categories, CategoryMatch, MatchedRange, Report

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
        return Categories(
            digest=self.digest,
            matches=tuple(
                CategoryMatch(category=examined.category.name, ranges=examined.ranges)
                for examined in (_examine(category, facts) for category in self.categories)
                if examined.applies
            ),
        )

    def examine(self, report: Report) -> Sequence[Examined]:
        """Each category with what was found of its conditions."""
        facts = CallFacts(report)
        return tuple(_examine(category, facts) for category in self.categories)


def _examine(category: Category, facts: CallFacts) -> Examined:
    evaluation = Evaluation(category.conditions, facts)
    findings = {key: tuple(evaluation.find(condition) for condition in getattr(category, key)) for key in LISTS}
    applies = (
        all(finding.verdict is Verdict.HOLDS for finding in findings["all"])
        and (not findings["any"] or any(finding.verdict is Verdict.HOLDS for finding in findings["any"]))
        and all(finding.verdict is Verdict.FAILS for finding in findings["none"])
    )
    ranges = _ranges([*findings["all"], *findings["any"]], facts) if applies else ()
    return Examined(category=category, applies=applies, findings=findings, ranges=ranges)


def _ranges(findings: Sequence[Finding], facts: CallFacts) -> tuple[MatchedRange, ...]:
    """Where the conditions that hold do so, joined in each channel, in order."""
    by_channel: dict[int | None, list[tuple[int, int]]] = {}
    for finding in findings:
        if finding.verdict is Verdict.HOLDS:
            for channel, stretches in finding.ranges.items():
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
