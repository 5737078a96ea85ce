"""Every report that an analysis makes is one by the schema that is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.analysts import analyst_with
from tests.recordings import ALL_CALLS, BILLING
from warmline.calls.analyze import analyze_call
from warmline.calls.report import SourceFacts
from warmline.emotion.engine import Engine
from warmline.jobs.records import Options

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
VALIDATOR = Draft202012Validator(PUBLISHED, format_checker=Draft202012Validator.FORMAT_CHECKER)


def errors_in_report(path: Path, engine: Engine, options: Options) -> list[str]:
    source = SourceFacts(uri=str(path), size_bytes=path.stat().st_size)
    report = analyze_call(path, analyst_with(engine), source=source, options=options)
    return [error.message for error in VALIDATOR.iter_errors(json.loads(report.model_dump_json()))]


@pytest.mark.parametrize("granularity", ["segment", "utterance", "frame"])
@pytest.mark.parametrize("path", ALL_CALLS, ids=lambda path: path.name)
def test_the_report_of_a_sample_call_fits_the_published_schema(
    path: Path, granularity: str, engine: Engine
) -> None:
    assert errors_in_report(path, engine, Options.model_validate({"granularity": granularity})) == []


def test_so_does_one_with_every_option_that_changes_what_is_in_it(engine: Engine) -> None:
    options = Options.model_validate(
        {
            "granularity": "frame",
            "roles": ["agent", "customer"],
            "hop_seconds": 2.5,
            "exclude": [{"start_seconds": 2.0, "end_seconds": 5.5}],
        }
    )
    assert errors_in_report(BILLING, engine, options) == []
