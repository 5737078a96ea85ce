"""The report's JSON Schema, for those who read reports with something else than Warmline.

`warmline schema` and `GET /v1/schemas/report` hand it out, and docs/report.schema.json is a copy that a test
compares. It is made from `warmline.calls.report`, so that there is one truth.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from warmline.calls.report import REPORT_VERSION, Report

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID: Final = (
    f"urn:warmline:schema:report:{REPORT_VERSION}"  # a name and no address: each installation serves it itself
)
MEDIA_TYPE: Final = "application/schema+json"


class _WithoutFieldTitles(GenerateJsonSchema):
    """A title that only repeats a field's name ("Talk Ms") helps no reader."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """See pydantic."""
        return False


def report_schema() -> dict[str, Any]:
    """The schema of report version 1, JSON Schema draft 2020-12.

    It describes what Warmline reads, not only what it writes now: fields that came later than a stored report are
    not required. `version` is, for it says which schema to take.
    """
    made = Report.model_json_schema(mode="validation", schema_generator=_WithoutFieldTitles)
    made["required"] = ["version", *made["required"]]
    head = {"$schema": DIALECT, "$id": SCHEMA_ID, "title": f"Warmline report, version {REPORT_VERSION}"}
    del made["title"]
    return head | {"description": made.pop("description")} | made


def report_schema_text() -> str:
    """The schema as it is published: JSON for people and machines, with a newline at its end."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"
