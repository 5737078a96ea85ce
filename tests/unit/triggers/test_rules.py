"""The rules' file: what applies to which upload, every mistake in one sentence, and no loops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from config.rule_files import MAX_FILE_BYTES
from config.settings import S3Settings, Settings, SettingsError, TriggersSettings
from warmline.audio.pyav_decoder import _DEMUXERS
from warmline.jobs.records import Metadata, Options, Source
from warmline.triggers.rules import Match, Rule, Rules
from warmline.triggers.rules_file import RECORDING_SUFFIXES

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config" / "triggers.example.toml"
METADATA = TypeAdapter(Metadata)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "triggers.toml"


def load(file: Path, text: str | bytes, *, buckets: tuple[str, ...] = ("calls", "more"), **s3: str) -> Rules:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    triggers = TriggersSettings(file=str(file), jobs_per_minute=30)
    return Rules.load(Settings(triggers=triggers, s3=S3Settings(source_buckets=buckets, **s3)))


def refused(file: Path, text: str | bytes, **s3: str) -> str:
    """The sentence that such a file is refused with."""
    with pytest.raises(SettingsError) as caught:
        load(file, text, **s3)
    said = str(caught.value)
    assert said.startswith(f"WARMLINE_TRIGGERS_FILE {file}: ")
    assert "\n" not in said
    return said.removeprefix(f"WARMLINE_TRIGGERS_FILE {file}: ")


def match(rules: Rules, key: str, bucket: str = "calls") -> str | None:
    """The name of the rule for a key."""
    found = rules.match(Source(bucket=bucket, key=key))
    return found and found.rule.name


def test_the_example_does_what_it_says() -> None:
    rules = Rules.load(Settings(triggers=TriggersSettings(file=str(EXAMPLE))))
    assert rules.warnings() == []
    assert match(rules, "live/test/mia_sales_1.wav") is None
    assert match(rules, "live/2026-05-01/mia_sales_4711.mp3") is None  # not as the pattern has it
    assert match(rules, "archive/2020/01/call.OPUS") == "archive"
    assert match(rules, "elsewhere/call.wav") is None
    found = rules.match(Source(bucket="calls", key="live/2026-05-01/mia_sales_4711.wav"))
    assert found is not None
    rule = found.rule
    assert (rule.name, rule.lane, rule.jobs_per_minute) == ("live calls", "live", 0)
    assert rule.options == Options(granularity="segment", roles=("agent", "customer"))
    assert found.metadata({"Campaign": "may"}, {"team": "red", "Team": "blue"}) == {
        "agent": "mia", "queue": "sales", "call_id": "2026-05-01-4711", "campaign": "may", "team": "red",
    }  # fmt: skip
    mail = rules.match(Source(bucket="calls", key="voicemail/17/x.amr"))
    assert mail is not None
    assert mail.metadata({}, {}) == {"mailbox": "17"}
    assert mail.rule.options == Options(granularity="utterance", roles=("customer",))
    paced = rules.match(Source(bucket="calls", key="archive/x.wav"))
    assert paced is not None
    assert (paced.rule.jobs_per_minute, paced.metadata({}, {})) == (600, {"origin": "archive"})


def test_without_a_file_every_recording_in_the_source_buckets_is_scored() -> None:
    triggers = TriggersSettings(jobs_per_minute=7, ignore_prefixes=("demo/",))
    one = Rules.load(Settings(triggers=triggers))
    assert match(one, "a/b.wav") == "default"
    assert match(one, "a/b.WAV") == "default"
    assert match(one, "a/b.txt") is None
    assert match(one, "a/b.wav/") is None  # a folder
    assert match(one, "demo/b.wav") is None
    assert match(one, "b.wav", bucket="other") is None
    assert (one.rules[0].lane, one.rules[0].jobs_per_minute) == ("bulk", 7)
    # With several buckets, each has a rule; reports in one of them are never taken for calls
    s3 = S3Settings(source_buckets=("calls", "more"), results_bucket="more", results_prefix="reports/")
    two = Rules.load(Settings(s3=s3))
    assert match(two, "b.wav") == "default calls"
    assert match(two, "b.wav", bucket="more") == "default more"
    assert match(two, "reports/b.wav", bucket="more") is None
    assert match(two, "reports/b.wav") == "default calls"


def test_the_first_rule_that_applies_decides(file: Path) -> None:
    rules = load(
        file,
        """
        [[rule]]
        name = "exception"
        prefix = "a/b/"
        skip = true
        [[rule]]
        name = "wide"
        prefix = "a/"
        rerun = true
        [[rule]]
        name = "everything"
        suffixes = []
        jobs_per_minute = 0
        [[rule]]
        name = "the other bucket"
        bucket = "more"
        suffixes = ["-agent.WAV"]
        """,
    )
    assert match(rules, "a/b/x.wav") is None
    assert match(rules, "a/b/x.txt") is None  # a rule that skips does so whatever the suffix
    assert match(rules, "a/x.wav") == "wide"
    assert match(rules, "a/x.txt") == "everything"
    assert match(rules, "x") == "everything"
    assert match(rules, "demo/x") is None
    assert match(rules, "1-AGENT.wav", bucket="more") == "the other bucket"
    assert match(rules, "1.wav", bucket="more") is None
    assert [rule.jobs_per_minute for rule in rules.rules] == [30, 30, 0, 30]
    assert [rule.rerun for rule in rules.rules] == [False, True, False, False]
    # and why the others do not is said in a few words
    source = Source(bucket="calls", key="x.txt")
    assert [rule.examine(source) for rule in rules.rules[:2]] == ["for keys below a/b/", "for keys below a/"]
    assert rules.rules[3].examine(source) == "for the bucket more"
    assert rules.rules[3].examine(Source(bucket="more", key="x.txt")) == "for other suffixes"


def test_a_rule_may_be_for_several_buckets(file: Path) -> None:
    rules = load(file, RULE + 'buckets = ["more", "calls", "more"]')
    assert [(rule.name, rule.bucket) for rule in rules.rules] == [("a", "more"), ("a", "calls")]
    assert match(rules, "x.wav") == match(rules, "x.wav", bucket="more") == "a"


def test_what_no_rule_sees_is_said(file: Path) -> None:
    rules = load(file, RULE, results_bucket="more", results_prefix="reports/")
    assert "IGNORE_PREFIXES has demo/" in str(rules.why_unseen(Source(bucket="more", key="demo/x.wav")))
    assert "reports are written" in str(rules.why_unseen(Source(bucket="more", key="reports/x.wav")))
    assert "folder" in str(rules.why_unseen(Source(bucket="calls", key="x/")))
    assert rules.why_unseen(Source(bucket="calls", key="reports/x.wav")) is None


RULE = '[[rule]]\nname = "a"\n'
TWICE = RULE + RULE
METADATA_OF = RULE + 'pattern = "{agent}_{id}.wav"\n[rule.metadata]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULE + "sufixes = []", "rule 1 ('a'): unknown key 'sufixes'; did you mean suffixes?"),
        (RULE + "options = {}", "rule 1 ('a'): unknown key 'options'"),
        ("[[rules]]\nname = 'a'", "unknown key 'rules'; did you mean rule?"),
        ("[rule]\nname = 'a'", "begin each rule with [[rule]]"),
        ("rule = [1]", "begin each rule with [[rule]]"),
        ("", "there is no [[rule]]"),
        ("[[rule]]\nprefix = 'a/'", "rule 1: it has no name; each rule needs one"),
        (TWICE, "rule 2 ('a'): an earlier rule has this name"),
        ('[[rule]]\nname = "a/b"', "rule 1 ('a/b'): name: give it 1 to 64 letters"),
        ('[[rule]]\nname = "a\\nb"', "rule 1 ('a\\nb'): name: give it 1 to 64 letters"),
        (f'[[rule]]\nname = "{"a" * 65}"', "rule 1: name: give it 1 to 64 letters"),
        (RULE + 'bucket = "Calls"', "bucket: that is no bucket's name"),
        (RULE + 'buckets = ["calls", "Calls"]', "buckets: that is no bucket's name"),
        (RULE + "buckets = []", "buckets: Tuple should have at least 1 item"),
        (RULE + 'bucket = "calls"\nbuckets = ["more"]', "give bucket or buckets, not both"),
        (RULE + 'buckets = ["calls", "payroll"]', "'payroll' is not on the allow-list WARMLINE_S3_SOURCE_BUCKETS"),
        (RULE + 'bucket = "payroll"', "'payroll' is not on the allow-list WARMLINE_S3_SOURCE_BUCKETS"),
        (RULE + 'lane = "fast"', "lane: Input should be 'live' or 'bulk'"),
        (RULE + 'granularity = "word"', "granularity: Input should be 'segment', 'utterance' or 'frame'"),
        (RULE + 'roles = ["Agent"]', "roles: a role is a small letter"),
        (RULE + 'roles = "agent"', "roles: Input should be a valid tuple"),
        (RULE + 'suffixes = [""]', "suffixes.0: String should have at least 1 character"),
        (RULE + 'skip = "yes"', "skip: Input should be a valid boolean"),
        (RULE + "rerun = 1", "rerun: Input should be a valid boolean"),
        (RULE + 'jobs_per_minute = "7"', "jobs_per_minute: Input should be a valid integer"),
        (RULE + "jobs_per_minute = -1", "jobs_per_minute: Input should be greater than or equal to 0"),
        (RULE + "jobs_per_minute = 60001", "jobs_per_minute: Input should be less than or equal to 60000"),
        (RULE + 'prefix = "a\\u0000"', "prefix: a prefix has at most 1,024 bytes"),
        (RULE + f'prefix = "{"é" * 513}"', "prefix: a prefix has at most 1,024 bytes"),
        (RULE + 'lane = "fast"\nrerun = 1', "(and 1 more)"),
        (RULE + 'skip = true\nlane = "live"', "it skips, so there is no job for lane: remove skip, or those"),
        (RULE + 'pattern = "{a}{b}"', "pattern: {a}{b}: nothing says where the first one ends"),
        (RULE + 'prefix = "in/"\npattern = "out/{a}.wav"', "no key begins with the prefix 'in/' and fits"),
        (RULE + 'pattern = "{a}.dat"', "no key ends in '.dat'"),
        (METADATA_OF + 'who = "{agnet}"', "who: {agnet} is not in the pattern (its fields are agent, id;"),
        (METADATA_OF + 'who = "{agnet}"', "did you mean agent?"),
        (RULE + 'metadata = {a = "{b}"}', "metadata.a: {b} is not in the pattern (the rule has none with fields)"),
        (METADATA_OF + 'who = "{_}"', "metadata.who: {_} is not in the pattern"),
        (METADATA_OF + 'who = "{tag.}"', "metadata.who: {tag.} is not in the pattern"),
        (METADATA_OF + 'who = "{agent"', "metadata.who: a lone {"),
        (METADATA_OF + "who = 7", "metadata.who: Input should be a valid string"),
        (METADATA_OF + f'{"n" * 65} = "x"', "at most 64 characters"),
        (METADATA_OF + "".join(f'n{number} = "x"\n' for number in range(33)), "metadata: Dictionary should"),
        ("[[rule]\nname = 1", "it is not TOML: Expected ']]' at the end of an array declaration (at line 1,"),
        (b"\xff\xfe", "it is not UTF-8 at byte 1"),
        ("x = " + "[" * 100_000, "it is nested too deeply"),
        ("x = " + "9" * 5000, "it is not TOML: Exceeds the limit"),
        (b"#" * (MAX_FILE_BYTES + 1), "it is larger than 1,048,576 bytes"),
        ("".join(f'[[rule]]\nname = "{number}"\n' for number in range(1001)), "1,001 rules, and 1,000 are"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(file: Path, text: str | bytes, said: str) -> None:
    assert said in refused(file, text)


def test_a_thousand_rules_and_a_megabyte_are_allowed(file: Path) -> None:
    text = "".join(f'[[rule]]\nname = "{number}"\nprefix = "{number}/"\n' for number in range(1000))
    rules = load(file, text.encode() + b"#" * (MAX_FILE_BYTES - len(text)))
    assert match(rules, "999/x.wav") == "999"


def test_a_file_that_an_editor_marked_as_utf8_is_read(file: Path) -> None:
    assert match(load(file, b"\xef\xbb\xbf" + RULE.encode()), "x.wav") == "a"


@pytest.mark.parametrize("name", ["missing.toml", ".", "a\x00b"])
def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path, name: str) -> None:
    settings = Settings(triggers=TriggersSettings(file=str(tmp_path / name)))
    with pytest.raises(SettingsError, match=r"WARMLINE_TRIGGERS_FILE .*(no such file|cannot be read)"):
        Rules.load(settings)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_rules_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    refused(file, content + b"\nx = 1")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("a{}/_.\x00\ud800é", max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
LINES = ("name", "bucket", "prefix", "suffixes", "pattern", "lane", "granularity", "roles", "metadata", "skip")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(LINES), values, max_size=5))
def test_any_table_is_a_rule_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, object]
) -> None:
    file = tmp_path_factory.getbasetemp() / "table.toml"
    # JSON's strings and lists are TOML's, too.
    lines = [f"{key} = {json.dumps(value)}" for key, value in ({"name": "a"} | table).items()]
    said = ""
    try:
        load(file, "[[rule]]\n" + "\n".join(lines))
    except SettingsError as error:
        said = str(error)
    assert "\n" not in said


SKIP_REPORTS = '[[rule]]\nname = "reports"\nprefix = "in/reports/"\nskip = true\n'
IN = '[[rule]]\nname = "in"\nprefix = "in/"\n'


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        (IN, "in/reports/"),  # reports below the rule's prefix
        (IN, "in"),  # the rule's prefix below that of the reports
        (IN, "in/"),
        (RULE, "reports/"),  # a rule for the whole bucket
        (RULE + 'pattern = "{a}.wav"', "reports/"),
        (RULE + 'suffixes = [".wav"]', "reports/"),
        (IN + SKIP_REPORTS, "in/reports/"),  # the exception comes too late
        (SKIP_REPORTS.replace("in/reports/", "in/reports/old/") + IN, "in/reports/"),  # covers too little
        (SKIP_REPORTS + 'suffixes = [".json"]\n' + IN, "in/reports/"),
        (SKIP_REPORTS + 'pattern = "in/reports/{a}"\n' + IN, "in/reports/"),
        (SKIP_REPORTS + 'bucket = "more"\n' + IN, "in/reports/"),
    ],
)
def test_reports_under_a_rule_s_prefix_are_refused(file: Path, text: str, prefix: str) -> None:
    said = refused(file, text, results_bucket="calls", results_prefix=prefix)
    assert f"reports, written to s3://calls/{prefix}, would land under its prefix" in said
    assert "trigger themselves" in said


@pytest.mark.parametrize(
    ("text", "s3"),
    [
        (IN, {"results_bucket": "calls", "results_prefix": "reports/"}),
        (IN, {"results_bucket": "more", "results_prefix": "in/"}),  # another bucket
        (IN, {"results_bucket": "calls", "results_prefix": "i-n/"}),
        (SKIP_REPORTS + IN, {"results_bucket": "calls", "results_prefix": "in/reports/"}),
        (SKIP_REPORTS + IN, {"results_bucket": "calls", "results_prefix": "in/reports/v2/"}),
        (RULE, {"results_bucket": "calls", "results_prefix": "demo/reports/"}),  # no rule sees them
        (SKIP_REPORTS, {"results_bucket": "calls", "results_prefix": "in/reports/"}),
    ],
)
def test_reports_elsewhere_are_no_loop(file: Path, text: str, s3: dict[str, str]) -> None:
    rules = load(file, text, **s3)
    report = f"{s3['results_prefix']}calls/x.wav@etag.wav"
    assert match(rules, report, bucket=s3["results_bucket"]) is None


def test_a_rule_that_never_applies_is_told_of(file: Path) -> None:
    rules = load(
        file,
        """
        [[rule]]
        name = "wide"
        prefix = "a/"
        suffixes = [".wav", ".mp3"]
        [[rule]]
        name = "narrow"
        prefix = "a/b/"
        suffixes = [".wav"]
        [[rule]]
        name = "other suffixes"
        prefix = "a/b/"
        suffixes = [".wav", ".amr"]
        [[rule]]
        name = "any suffix"
        prefix = "a/b/"
        suffixes = []
        [[rule]]
        name = "some"
        prefix = "c/"
        pattern = "c/{x}_{y}.wav"
        [[rule]]
        name = "the rest"
        prefix = "c/"
        [[rule]]
        name = "elsewhere"
        bucket = "more"
        prefix = "a/b/"
        [[rule]]
        name = "unseen"
        prefix = "demo/x/"
        """,
    )
    narrow, unseen = rules.warnings()
    assert narrow == "'narrow' never applies: 'wide' before it takes all its keys"
    assert unseen == "'unseen' never applies: WARMLINE_TRIGGERS_IGNORE_PREFIXES has demo/"


def matched(metadata: dict[str, str], **fields: str) -> Match:
    return Match(rule=Rule(name="r", bucket="calls", metadata=metadata), fields=fields)


def test_metadata_come_from_the_key_the_object_and_its_tags() -> None:
    found = matched(
        {
            "who": "{agent}",
            "all": "{agent}/{object.Camp-Aign}/{tag.Team}",
            "fixed": "x",
            "none": "{tag.team} {agent}",
        },
        agent="mia",
    )
    assert (found.rule.needs_metadata, found.rule.needs_tags) == (True, True)
    assert found.metadata({"camp-aign": "May"}, {"Team": "Red"}) == {
        "who": "mia",
        "all": "mia/May/Red",  # headers' names have no case, tags' have
        "fixed": "x",
    }
    assert found.metadata({"camp-aign": ""}, {}) == {"who": "mia", "fixed": "x"}
    plain = matched({"who": "{agent}"}, agent="mia").rule
    assert (plain.needs_metadata, plain.needs_tags) == (False, False)
    # An object cannot pass what it says off as something else
    assert found.metadata({"agent": "eve", "tag.team": "eve"}, {"agent": "eve", "object.camp-aign": "eve"}) == {
        "who": "mia", "fixed": "x",
    }  # fmt: skip


def test_values_are_cut_and_hold_no_controls() -> None:
    found = matched({"a": "{x}", "b": "{object.b}", "c": "{x}{x}"}, x="é" * 800)
    made = found.metadata({"b": "one\x00\x1b[31m\u0085\ud800two\n"}, {})
    assert made == {"a": "é" * 800, "b": "one[31mtwo", "c": "é" * 1024}
    METADATA.validate_python(made)
    # Nothing but controls is nothing
    assert found.metadata({"b": "\x00\x01"}, {}).keys() == {"a", "c"}


any_text = st.text(st.characters(), max_size=20) | st.text(min_size=1000, max_size=1030)


@settings(deadline=None)
@given(any_text, any_text, any_text)
def test_whatever_a_stranger_writes_the_metadata_are_metadata(x: str, y: str, z: str) -> None:
    found = matched({"x": "{x}-{object.y}{tag.z}", "y": "{object.y}", "z": "{tag.z}", "all": "{x}"}, x=x)
    made = found.metadata({"Y": y}, {"z": z})
    METADATA.validate_json(METADATA.dump_json(METADATA.validate_python(made)))


def test_the_suffixes_are_those_of_files_that_the_decoders_read() -> None:
    named = {f".{name.lower()}" for name in soundfile.available_formats()}
    for demuxer in _DEMUXERS.split(","):
        try:
            extensions = av.ContainerFormat(demuxer, "r").extensions
        except ValueError:
            continue
        named |= {f".{extension}" for extension in extensions} | {f".{demuxer}"}
    other_names = {
        ".wave", ".bwf", ".aif", ".aifc", ".snd", ".oga", ".opus", ".m4b", ".m4v", ".mka", ".mkv", ".weba", ".wma",
        ".wmv", ".awb", ".mpg", ".ts",
    }  # fmt: skip
    assert set(RECORDING_SUFFIXES) - other_names <= named
    assert len(set(RECORDING_SUFFIXES)) == len(RECORDING_SUFFIXES)
    # and what Warmline comes with is among them
    assert {path.suffix for path in (ROOT / "samples" / "calls").iterdir()} <= set(RECORDING_SUFFIXES)


def test_the_api_does_not_start_with_a_bad_file(file: Path, tmp_path: Path) -> None:
    file.write_text(RULE + "sufixes = []")
    done = subprocess.run(
        [sys.executable, "-m", "api.app"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "", "WARMLINE_TRIGGERS_FILE": str(file), "WARMLINE_STACK_DATA_DIR": str(tmp_path)},
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"warmline-api: WARMLINE_TRIGGERS_FILE {file}: rule 1 ('a'): unknown key 'sufixes'; did you mean suffixes?"
    ]
