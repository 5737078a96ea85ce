"""The file of categories: every mistake in one sentence, and a digest of what it asks and of nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.rule_files import MAX_FILE_BYTES
from config.settings import CategoriesSettings, Settings, SettingsError
from tests.unit.calls.categories.category_files import rules_of
from warmline.calls.categories import words
from warmline.calls.categories.rules import CategoryRules
from warmline.local.checks.rules import categories

A = '[[category]]\nname = "a"\n'
ANGRY = '[[category.all]]\nkind = "emotion"\nemotion = "angry"\nat_least = 0.6\n'
KIND = "[[category.all]]\nkind = "
K = A + KIND
LONG = '[[category.all]]\nkind = "duration"\nat_least_seconds = 60\n'


def refused(file: Path, text: str | bytes) -> str:
    """The sentence that such a file is refused with."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as caught:
        CategoryRules.load(Settings(categories=CategoriesSettings(file=str(file))))
    said = str(caught.value)
    assert said.startswith(f"WARMLINE_CATEGORIES_FILE {file}: ")
    assert "\n" not in said
    return said.removeprefix(f"WARMLINE_CATEGORIES_FILE {file}: ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no [[category]]; without a file no report is matched with anything"),
        ("[category]\nname = 1", "begin each category with [[category]], in double brackets"),
        ("[[categorie]]", "unknown key 'categorie'; did you mean category?; categories are tables [[category]]"),
        ("x = [", "it is not TOML: "),
        (b"\xff", "it is not UTF-8 at byte 1"),
        (b"#" * (MAX_FILE_BYTES + 1), "it is larger than 1,048,576 bytes"),
        ((A + ANGRY) * 2, "category 2 ('a'): an earlier category has this name"),
        ((A + LONG).replace('"a"', '"a{}"') * 201, "201 categories, and 200 are allowed"),
        (A + LONG * 33, "33 conditions, and 32 are allowed"),
        (A, "category 1 ('a'): it asks nothing; give it conditions: [[category.all]]"),
        ("[[category]]\n" + LONG, "category 1: it has no name; each category needs one"),
        ('[[category]]\nname = "a/b"\n' + LONG, "name: a name has 1 to 64 letters"),
        ('[[category]]\nname = " a"\n' + LONG, "name: a name has 1 to 64 letters"),
        (f'{A}al = 1\n{LONG}', "category 1 ('a'): unknown key 'al'"),
        (f'{A}descripton = "x"\n{LONG}', "unknown key 'descripton'; did you mean description?"),
        (f'{A}all = 3', "`all` is no list of tables; begin each condition with [[category.all]]"),
        (f"{A}[[category.all]]", "all 1: it has no kind; there are emotion, loudness, average, change, silence"),
        (f'{A}{LONG}[[category.none]]\nkind = "emotoin"', "none 1: 'emotoin' is no kind; did you mean emotion?"),
        (A + ANGRY + 'fro_seconds = 8', "all 1: unknown key 'fro_seconds'; did you mean for_seconds?"),
        (A + ANGRY.replace("at_least = 0.6", ""), "it has neither at_least nor at_most"),
        (A + ANGRY + "at_most = 0.5", "at_least is above at_most"),
        (A + ANGRY.replace("0.6", "1.1"), "at_least: Input should be less than or equal to 1"),
        (A + ANGRY.replace("0.6", '"0.6"'), "at_least: Input should be a valid number"),
        (A + ANGRY.replace("0.6", "nan"), "at_least: Input should be a finite number"),
        (A + ANGRY.replace("0.6", "true"), "at_least: Input should be a valid number"),
        (A + ANGRY.replace("angry", "angri"), "no emotion is called 'angri'; did you mean angry?; there are"),
        (A + ANGRY.replace('emotion = "angry"\n', ""), "it has no emotion; each condition of the kind emotion"),
        (A + ANGRY.replace('"angry"', "[]"), "should have at least 1 item"),
        (A + ANGRY + 'role = "Agent"', "role: a role is a small letter and then"),
        (A + ANGRY + 'part = "last forth"', "part: 'last forth' is no part of a call; write 'whole'"),
        (A + ANGRY + 'part = "50% to 20%"', "part: '50% to 20%' ends before it begins"),
        (A + ANGRY + 'part = "last 101%"', "part: 101% is more than the call"),
        (A + ANGRY + 'part = "first 0 s"', "part: a part of no length holds nothing"),
        (A + ANGRY + "in_one_stretch = true", "in_one_stretch needs for_seconds"),
        (A + ANGRY + "for_seconds = 1\ngap_seconds = 1", "gap_seconds is for in_one_stretch"),
        (A + ANGRY + "for_seconds = -1", "for_seconds: Input should be greater than 0"),
        (A + ANGRY + "after_seconds = 1", "after_seconds needs after: the name of the condition"),
        (A + ANGRY + 'after = "b"\nbefore = "b"', "give after or before, not both"),
        (A + ANGRY + 'after = "b"', "after = 'b': no condition of this category has that name; give the"),
        (f'{A}{ANGRY}name = "sadd"\n{ANGRY}after = "sad"', "has that name; did you mean sadd?"),
        (f'{A}{ANGRY}after = "b"\n{LONG}name = "b"', "that is about the whole call, and nothing is after it"),
        (f'{A}{ANGRY}before = "b"\n{ANGRY.replace("all", "none")}name = "b"', "that is one of `none`"),
        (f'{A}{ANGRY}name = "b"\n{ANGRY}name = "b"', "two conditions are called 'b'"),
        (f'{A}{ANGRY}name = "b"\nafter = "b"', "in a circle: 'b' is one of them"),
        (f'{A}{ANGRY}name = "b"\nafter = "c"\n{ANGRY}name = "c"\nafter = "b"', "in a circle: 'b' is one of them"),
        (K + '"silence"', "it has neither at_least_seconds (of each silence) nor"),
        (K + '"interruptions"\nwithin_seconds = 9', "within_seconds needs a count above"),
        (K + '"interruptions"\ncount = 1.5', "count: Input should be a valid integer"),
        (K + '"talk_share"\nat_least = 0.5', "it has no role; each condition"),
        (K + '"flag"\nflag = "cliping"', "'cliping' is no flag of a report; did you mean"),
        (K + '"metadata"\nkey = "q"\nequals = "a"\none_of = []', "should have at least 1 item"),
        (K + '"metadata"\nkey = "q"\nequals = "a"\none_of = "b"', "give equals or one_of"),
        (K + '"loudness"\nat_least_dbfs = 3', "at_least_dbfs: Input should be less"),
        (f"labels = 3\n{A}{LONG}", "labels: give a list of up to 64 names"),
        (A + ANGRY.replace("0.6", "7") + "part = 3", "(and 1 more)"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    if isinstance(text, str):
        for number in range(text.count("{}")):
            text = text.replace("{}", str(number), 1)
    assert sentence in refused(tmp_path / "categories.toml", text)


def test_a_file_that_is_not_there_is_told_of_under_what_names_it(tmp_path: Path) -> None:
    file = tmp_path / "no.toml"
    with pytest.raises(
        SettingsError, match=r"^WARMLINE_CATEGORIES_FILE .*/no.toml: there is no such file; write it, or"
    ):
        CategoryRules.load(Settings(categories=CategoriesSettings(file=str(file))))
    with pytest.raises(SettingsError, match=r"^/.*/no.toml: there is no such file; write it$"):
        CategoryRules.read(file)


def test_without_a_file_there_are_no_rules() -> None:
    assert CategoryRules.load(Settings()) is None


def test_the_digest_is_of_what_is_asked() -> None:
    first = rules_of(A + ANGRY + 'for_seconds = 8\nrole = ["agent", "customer"]')
    same = rules_of(
        """
        # A comment
        [[category]]
        description = "words for people"
        name = "a"
        [[category.all]]
        for_seconds = 8.0
        role = ["customer", "agent", "agent"]
        at_least = 0.60
        part = " whole"
        emotion = ["angry"]
        kind = "emotion"
        """
    )
    assert first.digest == same.digest
    assert len(first.digest) == 16
    asked = A + ANGRY + 'for_seconds = 8\nrole = ["agent", "customer"]'
    others = [
        asked.replace(', "customer"', ""),
        asked.replace("8", "8.001"),
        asked.replace('name = "a"', 'name = "b"'),
        asked.replace("category.all", "category.any"),
        f'{asked}\npart = "last half"',
    ]
    assert len({rules_of(text).digest for text in [asked, *others]}) == 1 + len(others)


@pytest.mark.parametrize(
    ("condition", "meaning"),
    [
        (ANGRY + 'role = "customer"\nfor_seconds = 8\npart = "last third"',
         "customer angry at least 0.6, for 8 s in all, in the last third"),
        (ANGRY + "smooth_seconds = 10\nfor_seconds = 8\nin_one_stretch = true",
         "any side angry at least 0.6, smoothed over 10 s, for 8 s in one stretch (pauses up to 2 s)"),
        (KIND + '"interruptions"\nby = "agent"\ncount = 3\nwithin_seconds = 60\npart = "20% to 50%"',
         "agent interrupts 3 times within 60 s, from 20% to 50%"),
        (KIND + '"silence_share"\nat_least = 0.3\nat_most = 0.5', "silence is 0.3 to 0.5 of the call"),
        (KIND + '"metadata"\nkey = "queue"\none_of = ["b", "a"]',
         "the metadata's queue is 'a' or 'b'"),
    ],
)  # fmt: skip
def test_what_it_means_is_said_in_words(condition: str, meaning: str) -> None:
    assert words.meaning(rules_of(A + condition).categories[0].all[0]) == meaning


def test_nothing_heavy_is_imported() -> None:
    # The API may load the rules
    code = (
        "import sys, warmline.calls.categories.rules, warmline.calls.categories.words; "
        "sys.exit(' '.join({'numpy', 'torch', 'boto3', 'av'} & sys.modules.keys()) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_doctor_says_how_the_rules_are(tmp_path: Path) -> None:
    file = tmp_path / "categories.toml"

    def found() -> tuple[str, str]:
        (finding,) = categories(Settings(categories=CategoriesSettings(file=str(file))))
        assert bool(finding.mend) == (finding.verdict != "ok")
        return finding.verdict, finding.message

    file.write_text(A + LONG)
    assert found() == ("ok", f"one category, {file}")
    file.write_text(A + LONG + A.replace('"a"', '"b"') + LONG)
    assert found() == ("ok", f"2 categories, {file}")
    file.write_text(A)
    assert found()[0] == "fail"
    assert found()[1].startswith(f"WARMLINE_CATEGORIES_FILE {file}: category 1 ('a'): it asks nothing")
    (none,) = categories(Settings())
    assert (none.verdict, none.message) == ("ok", "none: WARMLINE_CATEGORIES_FILE is not set")
