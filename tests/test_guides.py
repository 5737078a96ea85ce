"""The guides: their links lead somewhere, and what is to be copied from them can be read."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from config.settings import S3Settings, Settings, TriggersSettings, known_variables, secret_files
from warmline.calls.categories.conditions import KINDS
from warmline.calls.categories.rules import CategoryRules
from warmline.cli.main import app
from warmline.triggers.rules import Rules
from warmline.triggers.rules_file import RuleEntry

ROOT = Path(__file__).parents[1]
GUIDES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "models" / "mini" / "README.md"])


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", guide.read_text(), re.MULTILINE | re.DOTALL)


def anchors(guide: Path) -> set[str]:
    """As GitHub makes them of headings."""
    prose = re.sub(r"^```.*?^```", "", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(guide: Path) -> Iterator[tuple[Path, str]]:
    for target in re.findall(r"\]\(([^)\s]+)\)", guide.read_text()):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (guide.parent / path if path else guide), anchor


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(guide: Path) -> None:
    lost = [
        f"{path.name}#{anchor}"
        for path, anchor in links(guide)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert lost == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_variable_in_a_guide_is_one(guide: Path) -> None:
    known = known_variables().keys() | secret_files().keys()
    named = set(re.findall(r"\bWARMLINE_[A-Z0-9_]*[A-Z0-9]\b(?!_)", guide.read_text()))
    groups = {
        name for name in named if any(each.startswith(f"{name}_") for each in known)
    }  # as in WARMLINE_S3_...
    assert named - known - groups == set()


@cache
def warmline_command() -> Any:
    return typer.main.get_command(app)


def options_nobody_has(words: list[str]) -> list[str]:
    """The options in a line that begins with `warmline`, that its command does not know."""
    command, rest = warmline_command(), words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {"--help"} | {each for one in command.params for each in (*one.opts, *one.secondary_opts)}
    return [word for word in re.findall(r"(?<!\S)--[a-z][a-z-]*", " ".join(rest)) if word not in known]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_line_of_a_guide_has_options_that_there_are(guide: Path) -> None:
    lines = re.findall(r"(?:^|[`$(|] *)(warmline [a-z][^`\n|)#]*)", guide.read_text(), re.MULTILINE)
    assert [(line, wrong) for line in lines if (wrong := options_nobody_has(line.split()))] == []


def test_an_option_that_there_is_not_is_seen() -> None:
    assert options_nobody_has(["warmline", "submit", "call.wav", "--wait"]) == ["--wait"]
    assert options_nobody_has(["warmline", "webhooks", "redeliver", "--failed", "--since", "2026"]) == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_to_be_copied_can_be_read(guide: Path) -> None:
    for text in blocks(guide, "json"):
        json.loads(text)
    for text in blocks(guide, "toml"):
        tomllib.loads(text)


def test_the_rules_of_the_guide_can_be_used(tmp_path: Path) -> None:
    guide, file = ROOT / "docs" / "trigger-rules.md", tmp_path / "triggers.toml"
    examples = blocks(guide, "toml")
    assert examples
    for example in examples:
        file.write_text(example)
        settings = Settings(triggers=TriggersSettings(file=str(file)), s3=S3Settings(source_buckets=("calls",)))
        assert Rules.load(settings).warnings() == []
    keys = set(re.findall(r"^\| `(?:\[rule\.)?(\w+)", guide.read_text(), re.MULTILINE))
    assert set(RuleEntry.model_fields) - {"buckets"} <= keys  # `bucket` tells of it


def test_the_categories_of_the_guide_can_be_used(tmp_path: Path) -> None:
    guide, file = ROOT / "docs" / "categories.md", tmp_path / "categories.toml"
    examples = blocks(guide, "toml")
    assert examples
    for example in examples:
        file.write_text(example)
        assert CategoryRules.read(file).categories
    text = guide.read_text()
    told = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert told >= {*KINDS, *(key for kind in KINDS.values() for key in kind.model_fields if key != "kind")}
    for kind, cls in KINDS.items():
        keys = re.findall(rf"^\| `{kind}` \|[^|]*\|([^|]*)\|", text, re.MULTILINE)[0]
        own = set(re.findall(r"`([a-z_]+)`", keys))
        every = {"kind", "name", "after", "after_seconds", "before", "before_seconds"}
        assert own | every | {"part"} == {*cls.model_fields} | every | {"part"}, kind
