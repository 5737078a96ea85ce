"""Checks of the rules that make jobs of uploads."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Settings, SettingsError
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
