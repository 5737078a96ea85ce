"""Categories written down in a test, as a file has them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import CategoryMatch, Report


def rules_of(text: str) -> CategoryRules:
    """Of a file with this text."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "categories.toml"
        file.write_text(text)
        return CategoryRules.read(file)


def one(conditions: str) -> CategoryRules:
    """A category `c` with these conditions: TOML whose tables are `[[all]]`, `[[any]]`, `[[none]]`."""
    for key in ("all", "any", "none"):
        conditions = conditions.replace(f"[[{key}]]", f"[[category.{key}]]")
    return rules_of(f'[[category]]\nname = "c"\n{conditions}')


def match_of(conditions: str, report: Report) -> CategoryMatch | None:
    """The match of such a category; None where it does not apply."""
    return next(iter(one(conditions).match(report).matches), None)


def ranges_of(conditions: str, report: Report) -> list[tuple[int, int, str | None]] | None:
    """Its ranges as (start, end, role); None where it does not apply."""
    found = match_of(conditions, report)
    return None if found is None else [(each.start_ms, each.end_ms, each.role) for each in found.ranges]
