"""Patterns find in a key what a backtracking search would, whatever the key, and in bounded time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmline.triggers.patterns import Field, Pattern, Template, parse_pieces


@pytest.mark.parametrize(
    ("pattern", "key", "fields"),
    [
        (
            "calls/{date}/{agent}_{queue}_{id}.wav",
            "calls/2026-05-01/mia_sales_47_11.wav",
            {"date": "2026-05-01", "agent": "mia", "queue": "sales", "id": "47_11"},
        ),
        ("{a}_{b}", "x_y_z", {"a": "x", "b": "y_z"}),
        ("{a}_{b}", "_y_z", {"a": "_y", "b": "z"}),  # a field is never empty
        ("{a}__{b}", "a___b", {"a": "a", "b": "_b"}),
        ("{a}.wav", "one.wav.wav", {"a": "one.wav"}),  # the end is the end
        ("{a}-{b}.wav", "a-.wav.wav", {"a": "a", "b": ".wav"}),
        ("in/{_}/{_}/{id}", "in/x/y/z", {"id": "z"}),
        ("{{{id}}}", "{7}", {"id": "7"}),
        ("Anruf {nr} é 客.{art}", "Anruf 3 é 客.wav", {"nr": "3", "art": "wav"}),
        ("just/this", "just/this", {}),
        ("a//{b}", "a//c", {"b": "c"}),
    ],
)
def test_a_key_is_taken_apart(pattern: str, key: str, fields: dict[str, str]) -> None:
    assert Pattern.parse(pattern).find(key) == fields


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("{a}.wav", ".wav"),
        ("{a}.wav", "a.wav.mp3"),
        ("{a}.wav", "a.WAV"),
        ("{a}.wav", "folder/a.wav"),
        ("in/{a}", "in/a/b"),
        ("in/{a}", "in/"),
        ("in/{a}", "out/a"),
        ("x{a}", "ya"),
        ("in/x{a}_{b}.wav", "in/ya_b.wav"),
        ("{a}_{b}_{c}", "a_b"),
        ("{a}_{b}.wav", "a_.wav"),
        ("{a}aa{b}", "xaa"),
        ("x{a}x", "xx"),
        ("just/this", "just/this one"),
        ("just/this", "just/thi"),
    ],
)
def test_a_key_that_does_not_fit_is_none(pattern: str, key: str) -> None:
    assert Pattern.parse(pattern).find(key) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("{a}{b}", "nothing says where the first one ends"),
        ("{a}{_}/x", "nothing says where the first one ends"),
        ("{a}/{a}", "twice"),
        ("{}", "without a name"),
        ("{a b}", "no field of a key"),
        ("{object.x}", "no field of a key"),
        ("{1}", "no field of a key"),
        ("{a", "a lone { at character 1"),
        ("a}", "a lone } at character 2"),
        ("{{a}", "a lone }"),
        ("a\x00b", "NUL"),
        ("a" * 1025, "1,025 characters"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Pattern.parse(pattern)


def reference(pattern: str, key: str) -> dict[str, str] | None:
    """The same in Python's regular expressions, which try every way: lazily, so first fields are shortest."""
    parts = []
    for number, piece in enumerate(parse_pieces(pattern)):
        if isinstance(piece, Field):
            parts.append(f"(?P<{piece.name}>[^/]+?)" if piece.name != "_" else f"(?P<_{number}>[^/]+?)")
        else:
            parts.append(re.escape(piece))
    found = re.fullmatch("".join(parts), key, re.DOTALL)
    return {name: text for name, text in found.groupdict().items() if not name.startswith("_")} if found else None


literals = st.text("ab_/.{}", min_size=1, max_size=3)


@st.composite
def patterns(draw: st.DrawFn) -> tuple[str, str]:
    """A legal pattern, and a key that is likely to fit it."""
    pattern = key = draw(st.just("") | literals).replace("{", "").replace("}", "")
    for number in range(draw(st.integers(0, 4))):
        literal = draw(literals)
        pattern += draw(st.sampled_from(["{_}", f"{{f{number}}}"]))
        pattern += literal.replace("{", "{{").replace("}", "}}")
        key += draw(st.text("ab_.{}", min_size=1, max_size=4)) + literal
    if draw(st.booleans()):
        pattern, key = f"{pattern}{{last}}", f"{key}{draw(st.text('ab_.', min_size=1, max_size=4))}"
    return pattern, key


@settings(deadline=None)
@given(patterns(), st.integers(0, 20), st.text("ab_/.{}\n", max_size=2))
def test_what_is_found_is_what_a_search_through_all_ways_finds(
    made: tuple[str, str], place: int, other: str
) -> None:
    pattern, fitting = made
    expected = reference(pattern, fitting)
    assert expected is not None
    assert Pattern.parse(pattern).find(fitting) == expected
    # and in a key that hardly fits, or no more
    key = fitting[:place] + other + fitting[place + 1 :]
    assert Pattern.parse(pattern).find(key) == reference(pattern, key)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_pattern_or_says_why_not(text: str) -> None:
    why = ""
    try:
        Pattern.parse(text).find(text)
    except ValueError as error:
        why = str(error)
    assert why == "" or any(sign in text for sign in "{}\0")


class CountedKey(str):
    """A key that counts how many of its characters are looked through."""

    __slots__ = ("looked_at",)

    def split(self, *_: object, **__: object) -> list[str]:  # type: ignore[override]
        self.looked_at = [0]
        name = CountedName(self)
        name.looked_at = self.looked_at
        return [name]


class CountedName(str):
    """What lies between two slashes of it."""

    __slots__ = ("looked_at",)

    def find(self, sub: str, start: int = 0, *_: object) -> int:  # type: ignore[override]
        found = super().find(sub, start)
        self.looked_at[0] += (len(self) if found < 0 else found + len(sub)) - start
        return found


def test_a_hostile_key_is_looked_through_once() -> None:
    # Given eight fields and a key of 1,024 bytes that fits all of them but for its last letter
    pattern = Pattern.parse("_".join(f"{{f{number}}}" for number in range(8)) + ".wav")
    key = CountedKey("_" * 1020 + ".waw")
    # Then no character is looked at again for the next field
    assert pattern.find(key) is None
    assert 0 < key.looked_at[0] <= len(key)
    # and not where a field is nowhere to be found, either
    nowhere = Pattern.parse("_".join(f"{{f{number}}}" for number in range(8)) + "x{last}.wav")
    assert nowhere.find(key) is None
    assert 0 < key.looked_at[0] <= len(key)


def test_a_thousand_hostile_keys_take_no_time() -> None:
    pattern = Pattern.parse("a".join(f"{{f{number}}}" for number in range(8)) + "b")
    key = "a" * 1024
    started = time.process_time()
    for _ in range(1000):
        assert pattern.find(key) is None
    assert time.process_time() - started < 0.5  # the regular expression would take years for the first


@pytest.mark.parametrize(
    ("pattern", "prefix", "may"),
    [
        ("live/{a}.wav", "live/", True),
        ("live/{a}.wav", "live/2026", True),
        ("live/x{a}.wav", "live/y", False),
        ("live/{a}.wav", "bulk/", False),
        ("{a}/b", "anything/", True),
        ("just/this", "just/", True),
        ("just/this", "just/this/", False),
        ("a/{b}/c", "", True),
    ],
)
def test_whether_a_key_may_begin_so(pattern: str, prefix: str, may: bool) -> None:
    assert Pattern.parse(pattern).may_begin_with(prefix) is may


def test_a_text_is_filled_where_all_its_fields_have_a_value() -> None:
    template = Template.parse("{date}-{object.campaign} {{ok}}")
    assert template.fields == {"date", "object.campaign"}
    assert template.fill({"date": "1", "object.campaign": "May"}) == "1-May {ok}"
    assert template.fill({"date": "1"}) is None
    assert template.fill({"date": "1", "object.campaign": ""}) is None
    assert Template.parse("always").fill({}) == "always"


@pytest.mark.parametrize("text", ["{a", "}", "{}", "x" * 1025])
def test_a_text_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"lone|without a name|characters"):
        Template.parse(text)
