"""A stored report, read: by any version of Warmline, as far as this one knows its form.

Fields that a newer Warmline has added to version 1 are left aside, as docs/upgrades.md promises its readers. A
report of another version is none that this Warmline can read, and is told of as that.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from warmline.calls.report import REPORT_VERSION, Report


class NotAReport(ValueError):
    """What was read is no report that this version knows; the message says why."""


def read_report(body: str | bytes) -> Report:
    """The report in this JSON. Raises NotAReport."""
    try:
        return Report.read(body)
    except ValidationError as error:
        raise NotAReport(_reason(body, error)) from None


def other_version(body: str | bytes) -> str | None:
    """Why a report cannot be read, where it is of another version than this Warmline's; else None."""
    try:
        document: Any = from_json(body)
        said = document["version"]
        by = document.get("provenance", {}).get("warmline_version", "another version")
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    if said == REPORT_VERSION:
        return None
    return (
        f"a report of version {str(said)[:20]}, made by Warmline {str(by)[:40]}; "
        f"this is Warmline {version('warmline')}, which reads version {REPORT_VERSION}: upgrade it"
    )


def _reason(body: str | bytes, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    return other_version(body) or f"no report: {where}: {first['msg']}"
