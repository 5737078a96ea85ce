"""The day that a call counts for: in an export's folders and in aggregates by day.

`analysed_at` is always there, and says when the machine was free, not when people spoke. Where the recorder puts
the call's own date into its key or its metadata, that is the better one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date

from warmline.calls.report import Report
from warmline.jobs.errors import InvalidRequest

DayOf = Callable[[Report], date | None]

METADATA = "metadata:"

# 2026-05-01, 2026/05/01, 2026_05_01, 20260501, with a time's digits behind it or not; year=2026/month=05/day=01.
_DATE = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<between>[-_/.]?|/month=)(?P<month>0[1-9]|1[0-2])"
    r"(?:(?P=between)|/day=)(?P<day>0[1-9]|[12]\d|3[01])(?=(?:\d{4}(?:\d\d(?:\d{3})?)?)?(?!\d))"
)


def day_of(text: str) -> DayOf:
    """How the day of a report is found. Raises InvalidRequest.

    `analysed_at`: the UTC day of the analysis. `key`: the first date in the call's key. `metadata:NAME`: the first
    date in this metadata, as it is written there, whatever time zone its writer meant. None: there is none.
    """
    if text == "analysed_at":
        return _analysed
    if text == "key":
        return lambda report: find_date(report.source.key or report.source.uri)
    name = text.removeprefix(METADATA)
    if text.startswith(METADATA) and name:
        return lambda report: find_date(report.metadata.get(name, ""))
    raise InvalidRequest(f"the date is analysed_at, key or metadata:NAME, not {text!r}")


def _analysed(report: Report) -> date | None:
    try:
        return report.provenance.analysed_at.astimezone(UTC).date()
    except OverflowError:  # the first or the last day that there is, in another time zone
        return None


def find_date(text: str) -> date | None:
    """The first date in a text, written year, month, day with any or no separator; None where there is none."""
    for found in _DATE.finditer(text):
        try:
            return date(int(found["year"]), int(found["month"]), int(found["day"]))
        except ValueError:  # 2026-02-30
            continue
    return None
