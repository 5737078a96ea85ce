"""`warmline rules`: as a person at a terminal has it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from config.settings import RedisSettings, S3Settings, Settings, to_variables
from tests.cli.conftest import SAMPLES, Warmline
from tests.made_reports import made_side, make_report
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report import Report
from warmline.jobs import keys
from warmline.jobs.records import ReportLocation
from warmline.objects.store import ObjectStore

RULES = """
[[category]]
name = "angry"
description = "Somebody is angry."
[[category.all]]
kind = "emotion"
emotion = "angry"
at_least = 0.5
for_seconds = 4
part = "last half"
[[category.none]]
kind = "duration"
at_most_seconds = 5
[[category]]
name = "always"
[[category.all]]
kind = "duration"
at_least_seconds = 0.001
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "categories.toml"
    file.write_text(RULES)
    return file


def report(number: int) -> Report:
    """The odd ones are angry."""
    windows = [(5000, 10_000, {"angry": 0.7 if number % 2 else 0.1})]
    sides = made_side("agent", windows=[]), made_side("customer", windows=windows)
    return make_report(*sides, duration_ms=10_000, key=f"{number}.wav", job_id=f"{number:032x}")


def test_rules_are_said_in_words(warmline: Warmline, rules: Path) -> None:
    digest = CategoryRules.read(rules).digest
    done = warmline("rules", "check", WARMLINE_CATEGORIES_FILE=str(rules))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.strip() for line in done.stdout.splitlines()] == [
        "angry",
        "Somebody is angry.",
        "where all of these hold:",
        "any side angry at least 0.5, for 4 s in all, in the last half",
        "and none of these:",
        "the call has at most 5 s",
        "always",
        "where all of these hold:",
        "the call has at least 0.001 s",
        f"2 categories, digest {digest}",
    ]


def test_rules_that_cannot_be_used_end_a_command_in_one_line(warmline: Warmline, rules: Path) -> None:
    rules.write_text(RULES.replace("last half", "last bit"))
    sentence = "category 1 ('angry'): all 1: part: 'last bit' is no part of a call"
    done = warmline("analyze", SAMPLES[0], WARMLINE_CATEGORIES_FILE=str(rules))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"warmline: WARMLINE_CATEGORIES_FILE {rules}: {sentence}")
    none = warmline("rules", "apply")
    assert none.returncode == 2
    assert "there are no rules: set WARMLINE_CATEGORIES_FILE" in none.stderr


def test_why_a_category_applies_or_not(warmline: Warmline, rules: Path, tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(report(1).model_dump_json(indent=1))
    lines = tmp_path / "more.jsonl"
    lines.write_text(f"{report(2).model_dump_json()}\nno report\n")
    done = warmline("rules", "test", tmp_path / "1.json", lines, tmp_path / "none.json", "--file", rules)
    assert done.returncode == 1
    shown = done.stdout
    assert "angry applies: 0:05.0 to 0:10.0 (customer)" in shown
    assert "+ all: any side angry at least 0.5, for 4 s in all, in the last half: holds: there are 5.0 s" in shown
    assert "angry does not apply" in shown
    assert (
        "- all: any side angry at least 0.5, for 4 s in all, in the last half: does not hold: there are 0.0 s"
        in shown
    )
    assert "+ none: the call has at most 5 s: does not hold: 10.0 s" in shown
    assert f"{lines}:2: no report: " in done.stderr
    assert "none.json: " in done.stderr


def test_reports_of_a_folder_are_rewritten_where_they_lie(warmline: Warmline, rules: Path, tmp_path: Path) -> None:
    folder, old = tmp_path / "reports", tmp_path / "old.toml"
    folder.mkdir()
    old.write_text(RULES.replace('"always"', '"ever"'))
    for number in range(4):
        made = CategoryRules.read(old).match(report(number))
        had = report(number).model_copy(update={"categories": made})
        (folder / f"{number}.json").write_text(had.model_dump_json())
    dry = warmline("rules", "apply", "--reports", folder, "--file", rules, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    first, *table = dry.stdout.splitlines()
    assert first == "the folder: 4 reports, 4 would be rewritten, 0 had these rules' matches"
    assert [line.split() for line in table] == [
        ["category", "before", "now", "new", "gone"],
        ["angry", "2", "2", "0", "0"],
        ["always", "0", "4", "4", "0"],
        ["ever", "4", "0", "0", "4"],
    ]
    assert '"ever"' in (folder / "1.json").read_text()
    (folder / "broken.json").write_text("{}")
    done = warmline("rules", "apply", "--reports", folder, "--file", rules)
    assert done.returncode == 1
    assert "5 reports, 4 rewritten, 0 had these rules' matches, 1 not readable" in done.stdout
    assert "broken.json: no report: " in done.stdout
    matches = json.loads((folder / "1.json").read_text())["categories"]["matches"]
    assert [match["category"] for match in matches] == ["angry", "always"]


def test_lines_come_to_stdout_and_never_into_the_file_that_is_read(
    warmline: Warmline, rules: Path, tmp_path: Path
) -> None:
    file = tmp_path / "reports.jsonl"
    file.write_text("".join(f"{report(number).model_dump_json()}\n" for number in range(3)))
    done = warmline("rules", "apply", "--reports", file, "--file", rules)
    reports = [Report.model_validate_json(line) for line in done.stdout.splitlines()]
    assert [each.categories for each in reports] == [CategoryRules.read(rules).match(report(n)) for n in range(3)]
    assert "the lines: 3 reports, 3 rewritten" in done.stderr
    refused = warmline("rules", "apply", "--reports", file, "--file", rules, "--to", file)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "[invalid_request]" in refused.stderr
    assert len(file.read_text().splitlines()) == 3


def test_all_that_is_stored_in_s3_and_in_redis(
    warmline: Warmline, rules: Path, s3_settings: S3Settings, s3_prefix: str, redis_url: str
) -> None:
    s3 = s3_settings.model_copy(update={"results_prefix": s3_prefix})
    key = f"{s3_prefix}calls/1.wav@e-d.json"
    variables = to_variables(Settings(s3=s3, redis=RedisSettings(url=SecretStr(redis_url))))
    named = {
        name: value for name, value in variables.items() if name.startswith(("WARMLINE_S3_", "WARMLINE_REDIS_"))
    }
    named["WARMLINE_CATEGORIES_FILE"] = str(rules)
    with closing(ObjectStore(s3)) as store, closing(redis.Redis.from_url(redis_url)) as client:
        store.put_report(key, report(1).model_dump_json().encode())
        client.set(keys.report(f"{1:032x}"), report(1).model_dump_json(), ex=1000)
        done = warmline("rules", "apply", **named)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"s3://reports/{s3_prefix}: 1 reports, 1 rewritten" in done.stdout
        assert "Redis: 1 reports, 1 rewritten" in done.stdout
        expected = CategoryRules.read(rules).match(report(1))
        body = store.get_report(ReportLocation(bucket=s3.results_bucket, key=key))
        assert Report.model_validate_json(body).categories == expected
        assert Report.model_validate_json(client.get(keys.report(f"{1:032x}")) or b"").categories == expected
        # Where only Redis keeps reports, S3 is not asked
        no_s3 = named | {"WARMLINE_RESULTS": "redis", "WARMLINE_S3_ENDPOINT_URL": "http://127.0.0.1:9"}
        alone = warmline("rules", "apply", **no_s3)
        assert (alone.returncode, alone.stderr) == (0, "")
        assert "Redis: 1 reports, 0 rewritten, 1 had these rules' matches" in alone.stdout
        # and the other way round
        rules.write_text(RULES.replace('"always"', '"ever"'))
        no_redis = named | {"WARMLINE_RESULTS": "s3", "WARMLINE_REDIS_URL": "redis://127.0.0.1:9"}
        only_s3 = warmline("rules", "apply", "--reports", f"s3://reports/{s3_prefix}calls/", **no_redis)
        assert (only_s3.returncode, only_s3.stderr) == (0, "")
        assert f"s3://reports/{s3_prefix}calls/: 1 reports, 1 rewritten" in only_s3.stdout
        assert "Redis" not in only_s3.stdout


def test_a_recording_is_matched_as_it_is_analysed(warmline: Warmline, rules: Path) -> None:
    done = warmline("analyze", SAMPLES[0], "--json", "--categories", rules)
    assert done.returncode == 0
    found = Report.model_validate_json(done.stdout)
    assert found.categories == CategoryRules.read(rules).match(found)
    assert found.categories is not None
    assert "always" in {match.category for match in found.categories.matches}
