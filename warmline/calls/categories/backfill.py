"""Categories worked out anew in a report that is stored: nothing is scored, and nothing else in it changes.

A report's JSON is read in full, but only the value of `categories` is written anew; all else stays as it was, byte
for byte.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import Categories
from warmline.calls.report_reading import NotAReport, read_report
from warmline.jobs.errors import WarmlineError

# As Warmline writes it. Inside a string its quotes would be escaped, and of the keys that others name (metadata,
# labels, stages) none has null or an object for its value.
_VALUE = re.compile(r'"categories":(?=null|\{)')
_DECODER = json.JSONDecoder()


class Change(Enum):
    """What became of a report."""

    WRITTEN = "written"
    CURRENT = "current"  # it carries the matches of these very rules
    REMEMBERED = "remembered"  # as `CURRENT`, and known without reading it
    MISSED = "missed"  # it was replaced or removed while it was worked on
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Redone:
    """A report, and the names of the categories that it had and has."""

    body: bytes | None  # to be written; None: it carries the matches of these rules already
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the report at a place."""

    place: str
    change: Change
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reason: str = ""  # of MISSED and UNREADABLE
    version: str = ""  # of the report as it is there now, where that is known


def redo(body: bytes, rules: CategoryRules) -> Redone:
    """Works out a report's categories. Raises NotAReport."""
    carried = _carried(body)
    if carried is not None and carried.digest == rules.digest:
        names = _names(carried)
        return Redone(body=None, before=names, after=names)
    report = read_report(body)
    before = () if report.categories is None else _names(report.categories)
    made = rules.match(report)
    if report.categories == made:
        return Redone(body=None, before=before, after=before)
    return Redone(body=_with(body, made), before=before, after=_names(made))


def outcome_of(
    place: str, body: bytes, rules: CategoryRules, write: Callable[[bytes], str | None] | None
) -> Outcome:
    """Works out and writes a report's categories. `write` returns its new version, or None where it was replaced.

    Without `write` nothing is written, and what would be is told of as written.
    """
    try:
        redone = redo(body, rules)
    except NotAReport as error:
        return Outcome(place=place, change=Change.UNREADABLE, reason=str(error))
    if redone.body is None:
        return Outcome(place=place, change=Change.CURRENT, before=redone.before, after=redone.after)
    version: str | None = ""
    if write is not None:
        try:
            version = write(redone.body)
        except (WarmlineError, OSError) as error:
            why = error.message if isinstance(error, WarmlineError) else str(error)
            return Outcome(place=place, change=Change.UNREADABLE, reason=f"it cannot be written: {why}")
    if version is None:
        return Outcome(place=place, change=Change.MISSED, reason="it was replaced or removed meanwhile")
    return Outcome(place=place, change=Change.WRITTEN, before=redone.before, after=redone.after, version=version)


@dataclass(kw_only=True)
class Tally:
    """How far it is, and what came of it."""

    changes: Counter[Change] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)  # reports by category
    after: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)  # reports that a category applies to now, and did not
    went: Counter[str] = field(default_factory=Counter)
    troubles: list[Outcome] = field(default_factory=list)  # the first ones; `changes` counts them all

    MOST_TROUBLES = 1000

    def add(self, outcome: Outcome) -> None:
        """Counts one report."""
        self.changes[outcome.change] += 1
        if outcome.change in {Change.MISSED, Change.UNREADABLE}:
            if len(self.troubles) < self.MOST_TROUBLES:
                self.troubles.append(outcome)
            return
        before, after = set(outcome.before), set(outcome.after)
        self.before.update(before)
        self.after.update(after)
        self.came.update(after - before)
        self.went.update(before - after)

    @property
    def reports(self) -> int:
        """How many were gone through."""
        return self.changes.total()


def _carried(body: bytes) -> Categories | None:
    """What a report says of its categories, found without reading the rest; None where that is not to be seen."""
    try:
        text = body.decode()
        found = _VALUE.search(text)
        if found is None:
            return None
        value, _ = _DECODER.raw_decode(text, found.end())
        return None if value is None else Categories.model_validate(value)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, no categories: reading all of it will say so
        return None


def _with(body: bytes, made: Categories) -> bytes:
    text = body.decode()
    found = _VALUE.search(text)
    if found is not None:
        _, end = _DECODER.raw_decode(text, found.end())
        return f"{text[: found.end()]}{made.model_dump_json()}{text[end:]}".encode()
    document = json.loads(text)  # written by another hand, or by a Warmline that had no categories
    document["categories"] = made.model_dump(mode="json")
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _names(categories: Categories) -> tuple[str, ...]:
    return tuple(match.category for match in categories.matches)
