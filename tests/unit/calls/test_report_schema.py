"""The published schema is the one of the code, and takes what Warmline takes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from warmline.calls.report import Report
from warmline.calls.report_schema import DIALECT, SCHEMA_ID, report_schema, report_schema_text

PUBLISHED = Path(__file__).parents[3] / "docs" / "report.schema.json"

# A report as it was stored before the fields that came later, with one window left of each channel.
STORED_EARLIER = """
{
  "version": "1", "job_id": null, "metadata": {},
  "source": {
    "uri": "samples/calls/call-001-billing.wav", "bucket": null, "key": null, "etag": null, "version_id": null,
    "size_bytes": 389436, "container": "WAV", "codec": "ULAW", "sample_rate_hz": 8000, "channels": 2,
    "duration_seconds": 24.336
  },
  "provenance": {
    "warmline_version": "0.1.0",
    "model": {
      "name": "mini", "hash": "7328086091823c5e834d10095ba484a387f79999c416235f83452438b0189c1c",
      "mini": true, "engine": "torch", "device": "cpu", "precision": "fp32"
    },
    "options": {"granularity": "segment", "roles": ["agent", "customer"]},
    "stage_seconds": {"decode": 0.0114, "speech": 0.1734, "score": 0.2651},
    "rtfx": 46.02, "analysed_at": "2026-11-23T06:11:39.005293Z"
  },
  "channels": [
    {
      "index": 0, "role": "agent", "speech_seconds": 8.48,
      "summary": {
        "top": "disgusted",
        "scores": {
          "angry": 0.0531281, "disgusted": 0.2873008, "fearful": 0.0715305, "happy": 0.1037417,
          "neutral": 0.267628, "other": 0.1956764, "sad": 0.0191805, "surprised": 0.0009787, "unknown": 0.0008352
        }
      },
      "windows": [
        {
          "start_ms": 1244, "end_ms": 4228, "top": "neutral",
          "scores": {
            "angry": 0.0327533, "disgusted": 0.0437872, "fearful": 0.0576121, "happy": 0.0844583,
            "neutral": 0.4964541, "other": 0.2738316, "sad": 0.0100855, "surprised": 0.0004941,
            "unknown": 0.0005238
          }
        }
      ]
    },
    {
      "index": 1, "role": "customer", "speech_seconds": 0.0,
      "summary": {"top": null, "scores": {}}, "windows": []
    }
  ],
  "flags": []
}
"""


def validator() -> Draft202012Validator:
    return Draft202012Validator(
        json.loads(PUBLISHED.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def stored() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(STORED_EARLIER)
    return document


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert PUBLISHED.read_text() == report_schema_text(), (
        "the report has changed: write `.venv/bin/warmline schema > docs/report.schema.json`"
    )


def test_it_is_a_schema_of_its_dialect_and_says_what_each_field_is() -> None:
    made = report_schema()
    Draft202012Validator.check_schema(made)
    assert (made["$schema"], made["$id"]) == (DIALECT, SCHEMA_ID)
    assert made["properties"]["version"]["const"] == "1"
    # No object takes fields that nobody described, at any depth
    for name, part in {"Report": made, **made["$defs"]}.items():
        assert part["additionalProperties"] is False, name
        assert part["description"], name


def test_a_report_that_was_stored_before_the_later_fields_is_still_one() -> None:
    report = Report.model_validate_json(STORED_EARLIER)
    validator().validate(stored())
    # And what the code makes of it, its defaults filled in, is one too
    validator().validate(report.model_dump(mode="json"))
    assert report.conversation is None
    assert report.channels[0].speech == ()
    assert report.channels[0].summary.confidence is None


@pytest.mark.parametrize("name", ["version", "job_id", "source", "provenance", "channels"])
def test_a_report_without_one_of_its_fields_is_none(name: str) -> None:
    document = stored()
    del document[name]
    assert [error.validator for error in validator().iter_errors(document)] == ["required"]


@pytest.mark.parametrize(
    "path",
    [(), ("source",), ("provenance",), ("provenance", "options"), ("channels", 0), ("channels", 0, "windows", 0)],
    ids=lambda path: ".".join(map(str, path)) or "report",
)
def test_a_report_with_one_field_more_is_none(path: tuple[str | int, ...]) -> None:
    document = copy.deepcopy(stored())
    part: Any = document
    for step in path:
        part = part[step]
    part["mood"] = "good"
    assert [error.validator for error in validator().iter_errors(document)] == ["additionalProperties"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), "2"),
        (("flags",), ["loud"]),
        (("channels", 0, "speech_seconds"), "8.48"),
        (("channels", 0, "windows", 0, "start_ms"), 1244.5),
        (("provenance", "options", "granularity"), "word"),
    ],
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else None,
)
def test_a_report_with_a_wrong_value_is_none(path: tuple[str | int, ...], value: object) -> None:
    document = stored()
    part: Any = document
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    assert not validator().is_valid(document)
