"""The options of a report, as command lines say them."""

from __future__ import annotations

from typing import Any

import pytest
import typer.main

from warmline.cli.job_options import read_options
from warmline.cli.main import app
from warmline.cli.trigger_view import _consequence
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import ExcludedRange, Options
from warmline.triggers.rules import Rule

UNSAID: dict[str, Any] = {
    "granularity": "segment", "hop": None, "roles": "", "exclude": "", "embedding": "none",
    "split_speakers": False,
}  # fmt: skip


def read(**said: object) -> Options:
    return read_options(**{**UNSAID, **said})


def test_what_is_not_said_has_its_default() -> None:
    assert read() == Options()


def test_each_is_read() -> None:
    assert read(
        granularity="frame", hop=0.5, roles=" agent, customer,", exclude="1:00-1:30, 0-2.5", embedding="parquet",
        split_speakers=True,
    ) == Options(
        granularity="frame",
        hop_seconds=0.5,
        roles=("agent", "customer"),
        exclude=(
            ExcludedRange(start_seconds=0, end_seconds=2.5),
            ExcludedRange(start_seconds=60, end_seconds=90),
        ),
        embedding="parquet",
        split_speakers=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "flag"),
    [
        ({"granularity": "word"}, "--granularity: "),
        ({"hop": 0.01}, "--hop: "),
        ({"hop": float("nan")}, "--hop: "),
        ({"roles": "the agent"}, "--roles: "),
        ({"exclude": "5-3"}, "--exclude: '5-3' "),
        ({"embedding": "csv"}, "--embedding: "),
        ({"granularity": "utterance", "split_speakers": True}, "a whole channel"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_flag(said: dict[str, object], flag: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**said)
    assert caught.value.message.startswith(flag)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("command", ["analyze", "submit", "reconcile"])
def test_every_command_that_asks_for_reports_takes_them_all(command: str) -> None:
    commands: Any = typer.main.get_command(app)
    parameters = {parameter.name: parameter for parameter in commands.commands[command].params}
    for name, default in UNSAID.items():
        assert parameters[name].default == default, name
    flags = {flag for name in UNSAID for flag in parameters[name].opts}
    assert flags == {"--granularity", "--hop", "--roles", "--exclude", "--embedding", "--split-speakers"}


def test_a_rule_shows_what_its_jobs_are_asked_to_do() -> None:
    options = Options(
        granularity="frame",
        hop_seconds=0.5,
        roles=("agent", "customer"),
        exclude=(ExcludedRange(start_seconds=0, end_seconds=12.5),),
        embedding="npy",
        split_speakers=True,
    )
    rule = Rule(name="all of it", bucket="calls", options=options)
    assert _consequence(rule).endswith(
        "frame, hop 0.5 s, roles agent customer, excluded 0-12.5 s, embeddings npy, two speakers"
    )
