"""Checks of the rules: those that make jobs of uploads, and those that reports are matched with."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Settings, SettingsError
from warmline.calls.categories.rules import CategoryRules
from warmline.local.checks.findings import Finding, fail, ok, warn
from warmline.triggers.rules import Rules


def triggers(settings: Settings) -> Iterator[Finding]:
    """The rules' file: it can be used, and each rule applies to something."""
    try:
        rules = Rules.load(settings)
    except SettingsError as error:
        yield fail("triggers", str(error), "Mend the file, then look at it with `warmline triggers check`.")
        return
    warnings = rules.warnings()
    for warning in warnings:
        yield warn("triggers", warning, "Remove it, or change what is before it: the first that applies decides.")
    if not warnings:
        count = f"{len(rules.rules)} rules" if len(rules.rules) != 1 else "one rule"
        yield ok("triggers", f"{count}, {settings.triggers.file or 'without a file'}")


def categories(settings: Settings) -> Iterator[Finding]:
    """The categories' file can be used, if there is one."""
    try:
        rules = CategoryRules.load(settings)
    except SettingsError as error:
        yield fail("categories", str(error), "Mend the file, then look at it with `warmline rules check`.")
        return
    if rules is None:
        yield ok("categories", "none: WARMLINE_CATEGORIES_FILE is not set")
        return
    count = f"{len(rules.categories)} categories" if len(rules.categories) != 1 else "one category"
    yield ok("categories", f"{count}, {settings.categories.file}")
