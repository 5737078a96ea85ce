"""`warmline schema`: the report's JSON Schema, for validators and for generators of code."""

from __future__ import annotations


def schema() -> None:
    """Prints the JSON Schema of the report, version 1 (draft 2020-12)."""
    from warmline.calls.report_schema import report_schema_text

    print(report_schema_text(), end="")
