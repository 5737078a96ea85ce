"""`warmline triggers`: what the rules make of keys and events, against a real store and a real Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import boto3
import pytest
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, S3Settings, Settings, TriggersSettings
from tests.api_process import s3_variables
from tests.cli.conftest import ROOT, Warmline
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Source
from warmline.local.checks.rules import triggers as checked
from warmline.objects.events import Upload
from warmline.triggers.intake import Intake

EXAMPLE = ROOT / "config" / "triggers.example.toml"
Triggers = Callable[..., CompletedProcess[str]]


@pytest.fixture
def triggers(warmline: Warmline, s3_settings: S3Settings, module_redis_url: str, tmp_path: Path) -> Triggers:
    """The command with the example's rules, at a real store and a real Redis."""

    def run(*arguments: str | Path, **variables: str) -> CompletedProcess[str]:
        place = {"WARMLINE_REDIS_URL": module_redis_url, "WARMLINE_STACK_DATA_DIR": str(tmp_path)}
        file = {"WARMLINE_TRIGGERS_FILE": str(EXAMPLE)}
        return warmline("triggers", *arguments, **(s3_variables(s3_settings) | place | file | variables))

    return run


@pytest.fixture
def upload(s3_settings: S3Settings) -> Callable[[str], None]:
    """Puts a recording that says of itself what the example's rules ask for."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_settings.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=s3_settings.access_key.get_secret_value(),
        aws_secret_access_key=s3_settings.secret_key.get_secret_value(),
    )

    def put(key: str) -> None:
        client.put_object(
            Bucket="calls", Key=key, Body=key.encode(), Metadata={"campaign": "spring"}, Tagging="team=red"
        )

    return put


def lines(done: CompletedProcess[str]) -> list[str]:
    return [re.sub(" +", " ", line).strip() for line in done.stdout.splitlines()]


def test_a_key_is_shown_with_its_rule_its_metadata_and_its_job(
    triggers: Triggers, upload: Callable[[str], None], s3_settings: S3Settings, module_redis_url: str
) -> None:
    # Given a recording that nobody has announced yet
    key = "live/2026-05-01/mia_sales_4711.wav"
    upload(key)
    # When it is asked about, then the rule, all that comes of it, and its job to be are shown
    done = triggers("test", f"s3://calls/{key}")
    assert (done.returncode, done.stderr) == (0, "")
    said = lines(done)
    assert said[:2] == [f"The rules of {EXAMPLE}", f"s3://calls/{key}"]
    assert said[3:7] == [
        "not the tests no, it is for keys below live/test/", "live calls yes", "archive not asked",
        "voice mail not asked",
    ]  # fmt: skip
    assert said[7:-1] == [
        "A job, by the rule 'live calls':",
        "lane live, at once",
        "options granularity segment; roles agent, customer",
        "metadata agent = mia",
        "metadata queue = sales",
        "metadata call_id = 2026-05-01-4711",
        "metadata campaign = spring",
        "metadata team = red",
        "object there",
    ]
    job_id, comma, status = said[-1].removeprefix("job ").partition(", ")
    assert (comma, status) == (", ", "to be entered")
    # and nothing was entered
    redis = RedisSettings(url=SecretStr(module_redis_url))
    with closing(Ledger.connect(redis, JobsSettings())) as ledger:
        assert ledger.list() == ()
    # When it is announced, then the job is this one, and its status is shown
    settings = Settings(triggers=TriggersSettings(file=str(EXAMPLE)), s3=s3_settings, redis=redis)
    with closing(Intake.connect(settings)) as intake:
        outcome = intake.accept([Upload(source=Source(bucket="calls", key=key), dialect="aws", name="Put")])
    assert outcome.job_ids == (job_id,)
    assert lines(triggers("test", key))[-1] == f"job {job_id}, queued"


def test_a_key_without_a_job_says_why(triggers: Triggers) -> None:
    skipped = triggers("test", "live/test/x.wav", "--no-look")
    assert skipped.returncode == 1
    assert "not the tests yes, and makes no job" in lines(skipped)
    assert lines(skipped)[-1] == "No job: the rule 'not the tests' skips it."
    nobody = triggers("test", "demo/\x1b[31mx.wav", "--no-look")
    assert nobody.returncode == 1
    assert r"s3://calls/demo/\x1b[31mx.wav" in lines(nobody)
    assert lines(nobody)[-1] == "No job: WARMLINE_TRIGGERS_IGNORE_PREFIXES has demo/."
    foreign = triggers("test", "x.wav", "--bucket", "payroll")
    assert foreign.returncode == 1
    assert "'payroll' is not on the allow-list WARMLINE_S3_SOURCE_BUCKETS" in lines(foreign)[-1]


def test_what_is_not_there_yet_is_shown_as_far_as_it_is_known(triggers: Triggers) -> None:
    done = triggers("test", "live/2026-05-01/mia_sales_4712.wav")
    assert done.returncode == 0
    assert lines(done)[-3:] == [
        "metadata campaign: {object.campaign}, known when it is uploaded",
        "metadata team: {tag.team}, known when it is uploaded",
        "object not there now",
    ]
    # and so is it where the store does not answer
    away = triggers("test", "archive/x.wav", WARMLINE_S3_ENDPOINT_URL="http://127.0.0.1:9")
    assert (away.returncode, "metadata origin = archive" in lines(away)) == (0, True)
    assert lines(away)[-1].startswith("object not known: ")


def test_a_rule_that_runs_again_has_no_one_job(
    triggers: Triggers, upload: Callable[[str], None], tmp_path: Path
) -> None:
    upload("again.wav")
    file = tmp_path / "triggers.toml"
    file.write_text('[[rule]]\nname = "again"\nrerun = true\n')
    done = triggers("test", "again.wav", WARMLINE_TRIGGERS_FILE=str(file))
    assert lines(done)[-2:] == ["object there", "job each upload gets its own, even of what was there before"]
    # and nobody is asked where that is not wanted
    unasked = triggers("test", "archive/again.wav", "--no-look")
    assert lines(unasked)[-1] == "object not asked for"


def record(key: str, name: str = "ObjectCreated:Put", **of_object: Any) -> Mapping[str, Any]:
    stored = {"key": key, "size": 5, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0A1B", **of_object}
    return {
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-05-04T10:00:00.000Z", "eventName": name,
        "s3": {"bucket": {"name": "calls"}, "object": stored},
    }  # fmt: skip


def test_an_event_is_shown_upload_by_upload(
    triggers: Triggers, upload: Callable[[str], None], tmp_path: Path
) -> None:
    upload("voicemail/17/x.amr")
    event = tmp_path / "event.json"
    records = [
        record("voicemail/17/x.amr"), record("archive/gone+away.wav"), record("live/test/x.wav"),
        record("live/2026-05-01/mia_sales_1.wav"), record("other.wav"),
        record("voicemail/17/x.amr", "ObjectRemoved:Delete"), {"s3": 7},
    ]  # fmt: skip
    event.write_text(json.dumps({"Records": records}))
    done = triggers("test", "--event", event)
    assert done.returncode == 0
    _, _, mail, archive, skipped, live, other, *rest = lines(done)
    assert re.fullmatch(
        r"s3://calls/voicemail/17/x.amr aws ObjectCreated:Put voice mail [0-9a-f]{32}, to be entered", mail
    )
    # Nothing of the object is asked for that the event says
    assert re.fullmatch(
        r"s3://calls/archive/gone away.wav aws ObjectCreated:Put archive [0-9a-f]{32}, to be entered", archive
    )
    assert skipped.endswith("aws ObjectCreated:Put none: the rule 'not the tests' skips it")
    assert live.endswith("live calls the object is not there now")
    assert other.endswith("none: no rule applies")
    assert len([line for line in rest if line.startswith("1 left out: ")]) == 1
    assert len([line for line in rest if line.startswith("malformed: ")]) == 1
    # An event of which nothing comes
    event.write_text(json.dumps({"Records": records[-2:-1]}))
    nothing = triggers("test", "--event", event, "--no-look")
    assert (nothing.returncode, lines(nothing)[1]) == (1, "It announces no upload.")
    # and what is none
    event.write_text("[")
    done = triggers("test", "--event", event)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "[not_an_event]" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "a key, or --event FILE"),
        (("s3://calls/x.wav", "--bucket", "more"), "the key is in the bucket calls, and --bucket says more"),
        (("x" * 1025,), "key: an S3 key has at most 1,024 bytes"),
        (("--event", "/nowhere/event.json"), "/nowhere/event.json cannot be read: No such file"),
    ],
)
def test_what_cannot_be_asked_is_one_line(triggers: Triggers, arguments: tuple[str, ...], said: str) -> None:
    done = triggers("test", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr
    assert "[invalid_request]" in done.stderr


def test_the_rules_are_shown_in_their_order(triggers: Triggers, tmp_path: Path) -> None:
    done = triggers("check")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(lines(done))
    names = ["not the tests", "live calls", "archive", "voice mail"]
    assert sorted(names, key=text.index) == names
    assert "600 a minute" in text
    assert "No rule sees keys below demo/, submitted/" in text
    # A rule that is never asked is told of, and is no error
    file = tmp_path / "triggers.toml"
    file.write_text('[[rule]]\nname = "all"\n[[rule]]\nname = "more"\n')
    warned = triggers("check", WARMLINE_TRIGGERS_FILE=str(file))
    assert (warned.returncode, warned.stderr) == (
        0, "warning: 'more' never applies: 'all' before it takes all its keys\n",
    )  # fmt: skip
    assert [finding.verdict for finding in checked(Settings(triggers=TriggersSettings(file=str(file))))] == [
        "warn"
    ]
    assert [finding.verdict for finding in checked(Settings())] == ["ok"]


def test_a_bad_file_ends_everything_with_one_line(triggers: Triggers, warmline: Warmline, tmp_path: Path) -> None:
    file = tmp_path / "triggers.toml"
    file.write_text('[[rule]]\nname = "a"\nsufixes = []\n')
    sentence = f"WARMLINE_TRIGGERS_FILE {file}: rule 1 ('a'): unknown key 'sufixes'; did you mean suffixes?"
    variables = {"WARMLINE_TRIGGERS_FILE": str(file)}
    for command in (("check",), ("test", "x.wav")):
        done = triggers(*command, **variables)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"warmline: {sentence}\n")
    # and the stack before anything of it is started
    data = tmp_path / "data"
    up = warmline("up", "--data", data, **variables)
    assert (up.returncode, up.stderr) == (2, f"warmline: {sentence}\n")
    assert not data.exists()
    (finding,) = checked(Settings(triggers=TriggersSettings(file=str(file))))
    assert (finding.verdict, finding.message) == ("fail", sentence)
