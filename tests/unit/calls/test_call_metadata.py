"""What a call's metadata says of its sides and of its hold music, written well and written badly."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import S3Settings, Settings, TriggersSettings
from warmline.calls.call_metadata import MAX_RANGES, effective_options, merged, parse_ranges, unreadable
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import ExcludedRange, Options, Source
from warmline.triggers.rules import Rules


def ranges(*edges: tuple[float, float]) -> tuple[ExcludedRange, ...]:
    return tuple(ExcludedRange(start_seconds=start, end_seconds=end) for start, end in edges)


ASKED = Options(roles=("agent", "customer"), exclude=ranges((5.0, 10.0)))


def test_a_call_that_says_nothing_is_analysed_as_asked() -> None:
    for metadata in ({}, {"campaign": "spring"}, {"roles": "", "exclude": "  "}):
        assert effective_options(ASKED, metadata) == ASKED
        assert unreadable(ASKED, metadata) == ()


def test_a_call_s_own_roles_win() -> None:
    found = effective_options(ASKED, {"roles": "Customer , agent"})
    assert found.roles == ("customer", "agent")
    assert found.exclude == ASKED.exclude


def test_a_call_s_own_ranges_are_added_in_order_and_merged() -> None:
    found = effective_options(ASKED, {"exclude": "1:30-2:00, 0-5.5; 1:02:03.5 \u2013 1:02:04,"})
    assert found.exclude == ranges((0, 10), (90, 120), (3723.5, 3724))
    assert found.roles == ASKED.roles
    # And nothing else changes
    assert found.model_copy(update={"exclude": ASKED.exclude}) == ASKED


@pytest.mark.parametrize(
    "text", ["agent, the customer", "agent,,customer", "1st,2nd", "agent;customer", ",".join("a" * 17), "x" * 33]
)
def test_roles_that_cannot_be_read_are_left_aside_together(text: str) -> None:
    # One role more or less would give every later channel the wrong one
    assert effective_options(ASKED, {"roles": text}) == ASKED
    (sentence,) = unreadable(ASKED, {"roles": text})
    assert sentence.startswith("metadata roles: ")


@pytest.mark.parametrize(
    "part", ["12", "12-", "-12", "a-b", "1-2-3", "10-5", "5-5", "1:60-3:00", "1:61:00-3:00:00", "0-1e9", "0-inf",
             "nan-1", "0-9999999", "\u0661-\u0662", "1:2:3:4-9:00:00", "0 12"]
)  # fmt: skip
def test_a_range_that_cannot_be_read_is_left_aside_alone(part: str) -> None:
    text = f"20-30, {part}, 40-50"
    assert effective_options(Options(), {"exclude": text}).exclude == ranges((20, 30), (40, 50))
    (sentence,) = unreadable(Options(), {"exclude": text})
    assert sentence.startswith(f"metadata exclude: {part!r}")
    with pytest.raises(InvalidRequest, match=r"^exclude: "):
        parse_ranges(text)


def test_what_is_shown_of_a_stranger_s_text_is_short_and_harmless() -> None:
    for name in ("roles", "exclude"):
        (sentence,) = unreadable(Options(), {name: "\x1b[31m" + "x" * 900})
        assert sentence.isprintable()
        assert len(sentence) < 200


def test_more_ranges_than_options_may_have_are_left_aside_and_said() -> None:
    many = Options(exclude=ranges(*((float(2 * i), 2 * i + 1.0) for i in range(MAX_RANGES))))
    metadata = {"exclude": "5000-5001"}
    assert effective_options(many, metadata).exclude == many.exclude
    assert len(unreadable(many, metadata)) == 1
    assert unreadable(many, {"exclude": "0-9"}) == ()  # within them, it is one fewer


def test_ranges_as_a_person_writes_them() -> None:
    assert parse_ranges("1:30-2:00,0-12.5") == ranges((0, 12.5), (90, 120))
    assert parse_ranges(" 90:00 - 1:30:01 ") == ranges((5400, 5401))
    assert parse_ranges("") == ()


def test_a_rule_of_the_guide_hands_on_what_the_object_says(tmp_path: Path) -> None:
    # Given the guide's rule for a telephone system that knows its sides
    guide = Path(__file__).parents[3] / "docs" / "trigger-rules.md"
    (example,) = [
        text for text in re.findall(r"```toml\n(.*?)```", guide.read_text(), re.DOTALL) if "pbx/" in text
    ]
    file = tmp_path / "triggers.toml"
    file.write_text(example)
    rules = Rules.load(
        Settings(triggers=TriggersSettings(file=str(file)), s3=S3Settings(source_buckets=("calls",)))
    )
    match = rules.match(Source(bucket="calls", key="pbx/4711.wav"))
    assert match is not None
    # When an object says so, then its call is analysed so; and as the rule has it where the object is silent
    said = match.metadata({"Roles": "customer,agent", "exclude": "0-12.5, 1:30-2:00"}, {})
    found = effective_options(match.rule.options, said)
    assert (found.roles, found.exclude) == (("customer", "agent"), ranges((0, 12.5), (90, 120)))
    assert effective_options(match.rule.options, match.metadata({}, {})).roles == ("agent", "customer")


texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.from_regex(r"\s?[0-9:.]{1,8}-[0-9:.]{1,8}", fullmatch=True), max_size=9).map(",".join),
)


@given(
    roles=texts,
    exclude=texts,
    asked=st.lists(st.tuples(st.floats(0, 1e5), st.floats(0.001, 1e5)), max_size=9),
)
def test_whatever_is_written_the_outcome_is_options_with_ranges_in_order(
    roles: str, exclude: str, asked: list[tuple[float, float]]
) -> None:
    options = Options(exclude=ranges(*((start, start + length) for start, length in asked)))
    metadata = {"roles": roles, "exclude": exclude}
    found = effective_options(options, metadata)
    # It can be written and read again, as options of a request can
    assert Options.model_validate_json(found.model_dump_json()) == found
    for earlier, later in pairwise(found.exclude):
        assert earlier.end_seconds < later.start_seconds
    # Nothing that was asked to be left out is looked at
    for each in options.exclude:
        assert any(
            r.start_seconds <= each.start_seconds and each.end_seconds <= r.end_seconds for r in found.exclude
        )
    assert effective_options(found, metadata) == found
    assert merged(found.exclude) == found.exclude
    for sentence in unreadable(options, metadata):
        assert sentence.isprintable()
