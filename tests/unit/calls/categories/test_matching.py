"""What conditions make of calls whose truth is written down, to the millisecond."""

from __future__ import annotations

import pytest

from tests.made_reports import Window, made_side, make_report
from tests.unit.calls.categories.category_files import match_of, one, ranges_of, rules_of
from warmline.calls.categories import words
from warmline.calls.categories.evaluation import Verdict
from warmline.calls.report import Report, ScoredWindow, Span
from warmline.calls.stretches import without_contained
from warmline.jobs.records import Options

ANGRY, SAD, CALM = {"angry": 0.7}, {"sad": 0.6}, {"neutral": 0.9}
ANGRY_8_S = 'kind = "emotion"\nrole = "customer"\nemotion = "angry"\nat_least = 0.6\nfor_seconds = 8\n'


def call(
    customer: list[Window], agent: list[Window] | None = None, *, duration_ms: int = 90_000, **more: object
) -> Report:
    """Agent and customer, who speak where they have windows."""
    sides = made_side("agent", windows=agent or []), made_side("customer", windows=customer)
    return make_report(*sides, duration_ms=duration_ms, **more)


# The two examples that everything else is built around


@pytest.mark.parametrize(
    ("windows", "ranges"),
    [
        ([(60_000, 64_000, ANGRY), (64_000, 68_000, ANGRY)], [(60_000, 68_000, "customer")]),
        ([(60_000, 64_000, ANGRY), (80_000, 84_000, ANGRY)],
         [(60_000, 64_000, "customer"), (80_000, 84_000, "customer")]),
        ([(60_000, 64_000, ANGRY), (64_000, 67_999, ANGRY)], None),  # a millisecond is missing
        ([(59_999, 63_999, ANGRY), (64_000, 68_000, ANGRY)], None),  # a millisecond is not in the last third
        ([(55_000, 65_000, ANGRY), (70_000, 73_000, ANGRY)],
         [(60_000, 65_000, "customer"), (70_000, 73_000, "customer")]),
        ([(60_000, 68_000, {"angry": 0.6})], [(60_000, 68_000, "customer")]),
        ([(60_000, 68_000, {"angry": 0.5999}), (70_000, 71_000, ANGRY)], None),
        ([(10_000, 40_000, ANGRY)], None),
        ([], None),
    ],
)  # fmt: skip
def test_customer_angry_for_8_s_in_the_last_third(
    windows: list[Window], ranges: list[tuple[int, int, str]] | None
) -> None:
    assert ranges_of(f'[[all]]\n{ANGRY_8_S}part = "last third"', call(windows)) == ranges


AFTER_SAD = """
[[all]]
name = "customer sad"
kind = "emotion"
role = "customer"
emotion = "sad"
at_least = 0.5
[[all]]
kind = "interruptions"
by = "agent"
count = 3
after = "customer sad"
after_seconds = 60
"""


def interrupted(sad: tuple[int, int], *starts_ms: int, length_ms: int = 1000) -> Report:
    """The customer is sad for a while, and the agent cuts in at these times."""
    turns = [(start, start + 2000, CALM) for start in starts_ms]
    customer = made_side(
        "customer",
        windows=[(*sad, SAD)],
        speech=[(start - 3000, start + length_ms) for start in starts_ms],
    )
    return make_report(made_side("agent", windows=turns), customer, duration_ms=300_000)


@pytest.mark.parametrize(
    ("starts_ms", "applies"),
    [
        ([30_000, 50_000, 79_999], True),
        ([30_000, 50_000, 80_000], False),  # the third begins when the 60 s after the end of sadness are over
        ([10_000, 50_000, 70_000], True),  # the first while the customer is sad
        ([9_999, 50_000, 70_000], False),  # the first before the customer is sad
        ([30_000, 50_000], False),
        ([30_000, 50_000, 70_000, 120_000], True),
    ],
)
def test_agent_interrupts_3_times_within_60_s_after_customer_sad(starts_ms: list[int], applies: bool) -> None:
    report = interrupted((10_000, 20_000), *starts_ms)
    assert report.conversation is not None
    assert [each.start_ms for each in report.conversation.interruptions] == starts_ms
    found = ranges_of(AFTER_SAD, report)
    assert (found is not None) == applies
    if found is not None:
        cut_ins = [(start, start + 1000, "agent") for start in starts_ms if start < 80_000]
        assert sorted(found) == sorted([(10_000, 20_000, "customer"), *cut_ins])


def test_what_counts_has_to_be_near_one_and_the_same_stretch_of_the_other() -> None:
    windows: list[Window] = [(10_000, 12_000, SAD), (200_000, 202_000, SAD)]
    turns = [20_000, 40_000, 210_000]  # two are near the first, one is near the second
    report = make_report(
        made_side("agent", windows=[(start, start + 2000, CALM) for start in turns]),
        made_side("customer", windows=windows, speech=[(start - 3000, start + 1000) for start in turns]),
        duration_ms=300_000,
    )
    assert ranges_of(AFTER_SAD, report) is None
    assert ranges_of(AFTER_SAD.replace("count = 3", "count = 2"), report) is not None


# Stretches of emotion


def test_scores_of_several_emotions_are_summed() -> None:
    report = call([(0, 5000, {"angry": 0.3, "disgusted": 0.3})])
    both = 'kind = "emotion"\nemotion = ["angry", "disgusted"]\nat_least = 0.6'
    assert ranges_of(f"[[all]]\n{both}", report) == [(0, 5000, "customer")]  # and 0.3 + 0.3 is 0.6
    assert ranges_of("[[all]]\n" + both.replace('["angry", "disgusted"]', '"angry"'), report) is None


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ("at_most = 0.2", (0, 2000)),
        ("at_least = 0.5\nat_most = 0.6", None),
        ("at_least = 0.1\nat_most = 0.7", (0, 4000)),
    ],
)
def test_bounds_hold_on_both_sides(bounds: str, expected: tuple[int, int] | None) -> None:
    report = call([(0, 2000, {"angry": 0.1}), (2000, 4000, ANGRY)])
    found = ranges_of(f'[[all]]\nkind = "emotion"\nrole = "customer"\nemotion = "angry"\n{bounds}', report)
    assert found == (None if expected is None else [(*expected, "customer")])


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        (
            [(0, 4000, ANGRY), (6000, 10_000, ANGRY)],
            (0, 10_000),
        ),  # a pause of 2 s does not end it, nor does it count
        ([(0, 4000, ANGRY), (6001, 10_001, ANGRY)], None),
        ([(0, 4000, ANGRY), (4000, 4001, CALM), (4001, 8001, ANGRY)], None),  # another emotion does end it
        ([(0, 4000, ANGRY), (6000, 9999, ANGRY)], None),
        ([(0, 8000, ANGRY), (20_000, 21_000, ANGRY)], (0, 8000)),  # what is no long stretch is in no range
    ],
)
def test_one_stretch_goes_on_over_short_pauses_alone(
    windows: list[Window], expected: tuple[int, int] | None
) -> None:
    found = ranges_of(f"[[all]]\n{ANGRY_8_S}in_one_stretch = true", call(windows))
    assert found == (None if expected is None else [(*expected, "customer")])


def test_the_pause_that_ends_a_stretch_can_be_chosen() -> None:
    report = call([(0, 4000, ANGRY), (9000, 13_000, ANGRY)])
    assert ranges_of(f"[[all]]\n{ANGRY_8_S}in_one_stretch = true\ngap_seconds = 5", report) is not None
    assert ranges_of(f"[[all]]\n{ANGRY_8_S}in_one_stretch = true\ngap_seconds = 4.999", report) is None
    touching = call([(0, 4000, ANGRY), (4000, 8000, ANGRY)])
    assert ranges_of(f"[[all]]\n{ANGRY_8_S}in_one_stretch = true\ngap_seconds = 0", touching) is not None


def test_a_stretch_is_cut_at_the_edge_of_a_part() -> None:
    report = call([(52_000, 60_500, ANGRY), (61_000, 67_000, ANGRY), (67_000, 70_000, ANGRY)])
    condition = f'[[all]]\n{ANGRY_8_S}in_one_stretch = true\npart = "last third"'
    assert ranges_of(condition, report) == [(60_000, 70_000, "customer")]
    pause = call([(52_000, 59_000, ANGRY), (61_000, 69_000, ANGRY)])
    assert ranges_of(condition, pause) == [(61_000, 69_000, "customer")]  # a pause at the edge is not in the range


def test_sides_are_looked_at_each_for_itself() -> None:
    report = call([(0, 5000, ANGRY)], [(10_000, 15_000, ANGRY)])
    anyone = 'kind = "emotion"\nemotion = "angry"\nat_least = 0.6\nfor_seconds = 5'
    assert ranges_of(f"[[all]]\n{anyone}", report) == [(0, 5000, "customer"), (10_000, 15_000, "agent")]
    assert ranges_of("[[all]]\n" + anyone.replace("= 5", "= 5.001"), report) is None  # two halves are no whole
    named = f'{anyone}\nrole = ["supervisor", "agent"]'
    assert ranges_of(f"[[all]]\n{named}", report) == [(10_000, 15_000, "agent")]


def test_windows_that_overlap_count_once_with_their_mean() -> None:
    # Frames of 4 s, 2 s apart: at 2 to 4 s the mean of 0.9 and 0.3 holds
    report = call([(0, 4000, {"angry": 0.9}), (2000, 6000, {"angry": 0.3}), (4000, 8000, {"angry": 0.1})])
    condition = '[[all]]\nkind = "emotion"\nrole = "customer"\nemotion = "angry"\nat_least = '
    assert ranges_of(f"{condition}0.6", report) == [(0, 4000, "customer")]
    assert ranges_of(f"{condition}0.601", report) == [(0, 2000, "customer")]
    assert ranges_of(f"{condition}0.2\nfor_seconds = 6", report) == [(0, 6000, "customer")]
    assert ranges_of(f"{condition}0.2\nfor_seconds = 6.001", report) is None


def test_a_sum_of_scores_is_as_exact_as_it_is_written() -> None:
    report = call([(0, 5000, {"angry": 0.1, "sad": 0.2, "fearful": 0.3})])  # in binary their sum is no 0.6
    condition = '[[all]]\nkind = "emotion"\nemotion = ["sad", "fearful", "angry"]\n'
    assert match_of(f"{condition}at_least = 0.6", report) is not None
    assert match_of(f"{condition}at_most = 0.6", report) is not None


def test_smoothing_takes_out_a_lone_window() -> None:
    lone = call([(0, 4000, CALM), (4000, 8000, {"angry": 0.9}), (8000, 12_000, CALM)])
    steady = call([(0, 4000, ANGRY), (4000, 8000, {"angry": 0.9}), (8000, 12_000, ANGRY)])
    condition = '[[all]]\nkind = "emotion"\nrole = "customer"\nemotion = "angry"\nat_least = 0.6\n'
    assert ranges_of(condition, lone) == [(4000, 8000, "customer")]
    assert ranges_of(f"{condition}smooth_seconds = 12", lone) is None
    assert ranges_of(f"{condition}smooth_seconds = 12", steady) == [(0, 12_000, "customer")]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("whole", (10_000, 80_000)), ("first half", (10_000, 45_000)), ("last half", (45_000, 80_000)),
        ("first 30 s", (10_000, 30_000)), ("last 30 s", (60_000, 80_000)), ("last 10%", None),
        ("last 20%", (72_000, 80_000)), ("20% to 50%", (18_000, 45_000)), ("60 s to 120 s", (60_000, 80_000)),
        ("first tenth", None), ("last fifth", (72_000, 80_000)), ("first 300 s", (10_000, 80_000)),
        ("100 s to 200 s", None), ("last 10.5 s", (79_500, 80_000)), (" first   quarter ", (10_000, 22_500)),
    ],
)  # fmt: skip
def test_parts_of_a_call(part: str, expected: tuple[int, int] | None) -> None:
    report = call([(10_000, 80_000, ANGRY)])
    found = ranges_of(f'[[all]]\nkind = "emotion"\nemotion = "angry"\nat_least = 0.6\npart = "{part}"', report)
    assert found == (None if expected is None else [(*expected, "customer")])


def test_an_edge_of_a_part_is_rounded_to_the_nearest_millisecond() -> None:
    report = call([(0, 100_000, ANGRY)], duration_ms=100_000)
    condition = '[[all]]\nkind = "emotion"\nemotion = "angry"\nat_least = 0.6\n'
    assert ranges_of(f'{condition}part = "last third"', report) == [(66_667, 100_000, "customer")]
    assert ranges_of(f'{condition}part = "first third"', report) == [(0, 33_333, "customer")]


def test_where_stretches_begin_together_the_longest_is_the_one_that_others_lie_in() -> None:
    assert without_contained([(0, 5), (0, 9), (2, 9), (3, 12), (4, 4)]) == [(0, 9), (3, 12)]


BEFORE = """
[[all]]
kind = "emotion"
role = "agent"
emotion = "angry"
at_least = 0.5
before = "customer sad"
{more}
[[any]]
name = "customer sad"
kind = "emotion"
role = "customer"
emotion = "sad"
at_least = 0.5
"""


@pytest.mark.parametrize(("more", "agent"), [("", (0, 12_000)), ("before_seconds = 3", (7000, 12_000))])
def test_before_another_condition(more: str, agent: tuple[int, int]) -> None:
    report = call([(10_000, 12_000, SAD)], [(0, 20_000, ANGRY)])
    found = ranges_of(BEFORE.format(more=more), report)
    assert found == [(*agent, "agent"), (10_000, 12_000, "customer")]


# Silence, speech, loudness


def test_silences() -> None:
    report = call([(0, 5000, CALM), (25_000, 30_000, CALM)], [(50_000, 60_000, CALM)], excluded=[(70_000, 75_000)])
    # Nobody speaks from 5 to 25, 30 to 50, 60 to 70 and 75 to 90 s: the announcement at 70 s is no silence
    silence = '[[all]]\nkind = "silence"\n'
    assert ranges_of(f"{silence}at_least_seconds = 20", report) == [(5000, 25_000, None), (30_000, 50_000, None)]
    assert ranges_of(f"{silence}at_least_seconds = 20.001", report) is None
    assert ranges_of(f"{silence}at_least_seconds = 15\ncount = 3", report) is not None
    assert ranges_of(f"{silence}at_least_seconds = 15\ncount = 4", report) is None
    assert ranges_of(f"{silence}total_seconds = 65", report) is not None
    assert ranges_of(f"{silence}total_seconds = 65.001", report) is None
    assert ranges_of(f'{silence}at_least_seconds = 10\npart = "20 s to 45 s"', report) == [(30_000, 45_000, None)]
    share = '[[all]]\nkind = "silence_share"\n'
    assert match_of(f"{share}at_least = 0.7647\nat_most = 0.7648", report) is not None  # 65 s of 85 s
    assert match_of(f'{share}at_least = 0.5\nat_most = 0.5\npart = "20 s to 30 s"', report) is not None


@pytest.mark.parametrize(
    ("relation", "seconds", "expected"),
    [
        ("after", 0.5, None),
        ("after", 1, (11_000, 41_000)),
        ("before", 2, None),
        ("before", 2.001, (11_000, 41_000)),
    ],
)
def test_a_silence_is_after_what_it_begins_after_and_before_what_it_ends_before(
    relation: str, seconds: float, expected: tuple[int, int] | None
) -> None:
    # The silence is longer than the reach: it counts as a whole
    report = call([(5000, 10_000, ANGRY), (43_001, 44_000, SAD)], [(10_000, 11_000, CALM), (41_000, 43_001, CALM)])
    other = "angry" if relation == "after" else "sad"
    found = ranges_of(
        f"""
        [[all]]
        kind = "silence"
        at_least_seconds = 20
        {relation} = "other"
        {relation}_seconds = {seconds}
        [[all]]
        name = "other"
        kind = "emotion"
        role = "customer"
        emotion = "{other}"
        at_least = 0.6
        """,
        report,
    )
    assert (found is not None) == (expected is not None)
    if found is not None and expected is not None:
        assert (*expected, None) in found


def test_overlap_and_talk_shares() -> None:
    # The customer speaks for 30 s, the agent for 50 s, 10 s of it at once; 70 s are spoken, 20 s are silent
    report = call([(0, 30_000, CALM)], [(20_000, 70_000, CALM)])
    for share in ("0.1111", "0.1111111"):
        assert match_of(f'[[all]]\nkind = "overlap_share"\nat_least = {share}', report) is not None
    assert match_of('[[all]]\nkind = "overlap_share"\nat_least = 0.1112', report) is None
    assert match_of('[[all]]\nkind = "overlap_share"\nat_least = 1\npart = "20 s to 30 s"', report) is not None
    talk = '[[all]]\nkind = "talk_share"\nrole = "agent"\n'
    assert match_of(f"{talk}at_least = 0.625\nat_most = 0.625", report) is not None
    assert match_of(f'{talk}at_most = 0\npart = "first 20 s"', report) is not None
    assert (
        match_of(f'{talk}at_least = 0.5\npart = "last 20 s"', report) is None
    )  # nobody speaks: no share is known


def test_interruptions() -> None:
    report = interrupted((0, 1000), 20_000, 50_000, 100_000, length_ms=1500)
    cut_in = '[[all]]\nkind = "interruptions"\n'
    assert ranges_of(f'{cut_in}by = "agent"', report) == [
        (20_000, 21_500, "agent"), (50_000, 51_500, "agent"), (100_000, 101_500, "agent"),
    ]  # fmt: skip
    assert match_of(f'{cut_in}by = "customer"', report) is None
    assert match_of(f'{cut_in}of = "agent"', report) is None
    assert match_of(f'{cut_in}of = ["customer", "agent"]\ncount = 3', report) is not None
    assert match_of(f"{cut_in}count = 4", report) is None
    assert ranges_of(f"{cut_in}count = 2\nwithin_seconds = 30", report) == [
        (20_000, 21_500, "agent"), (50_000, 51_500, "agent"),
    ]  # fmt: skip
    assert match_of(f"{cut_in}count = 2\nwithin_seconds = 29.999", report) is None
    assert match_of(f"{cut_in}at_least_seconds = 1.5", report) is not None
    assert match_of(f"{cut_in}at_least_seconds = 1.501", report) is None
    assert match_of(f"{cut_in}total_seconds = 4.5", report) is not None
    assert match_of(f"{cut_in}total_seconds = 4.501", report) is None
    assert ranges_of(f'{cut_in}part = "last half"\ntotal_seconds = 1.5', report) is None  # all begin before 150 s
    assert ranges_of(f'{cut_in}part = "50 s to 100 s"', report) == [(50_000, 51_500, "agent")]
    assert match_of(f'{cut_in}part = "50 s to 100 s"\ntotal_seconds = 1.5', report) is not None
    assert match_of(f'{cut_in}part = "50 s to 100 s"\ntotal_seconds = 1.501', report) is None


def with_loudness(report: Report, channel: int, levels: list[float | None]) -> Report:
    side = report.channels[channel]
    windows = tuple(
        window.model_copy(update={"loudness_dbfs": level})
        for window, level in zip(side.windows, levels, strict=True)
    )
    channels = list(report.channels)
    channels[channel] = side.model_copy(update={"windows": windows})
    return report.model_copy(update={"channels": tuple(channels)})


def test_loudness() -> None:
    report = with_loudness(
        call([(0, 4000, CALM), (4000, 8000, CALM), (9000, 10_000, CALM)]), 1, [-30.0, -12.0, None]
    )
    loud = '[[all]]\nkind = "loudness"\nrole = "customer"\n'
    assert ranges_of(f"{loud}at_least_dbfs = -12", report) == [(4000, 8000, "customer")]
    assert ranges_of(f"{loud}at_least_dbfs = -11.9", report) is None
    assert ranges_of(f"{loud}at_most_dbfs = -20\nfor_seconds = 4", report) == [(0, 4000, "customer")]
    unknown = with_loudness(report, 1, [None, None, None])
    assert one(f"{loud}at_most_dbfs = -20").examine(unknown)[0].findings["all"][0].verdict is Verdict.UNKNOWN


# The call as a whole


def test_averages_and_change() -> None:
    quarters: list[Window] = [(0, 5000, {"angry": 0.1}), (10_000, 15_000, {"angry": 0.3}), (85_000, 90_000, ANGRY)]
    report = call(quarters)
    average = '[[all]]\nkind = "average"\nrole = "customer"\nemotion = "angry"\n'
    assert match_of(f"{average}at_least = 0.36666\nat_most = 0.36667", report) is not None
    assert match_of(f'{average}at_least = 0.2\nat_most = 0.2\npart = "first quarter"', report) is not None
    assert match_of(f'{average}at_least = 0\npart = "20 s to 60 s"', report) is None  # nothing is scored there
    cut = call([(0, 30_000, {"angry": 0.1}), (30_000, 40_000, {"angry": 0.5})])  # 10 s and 5 s are in the part
    assert match_of(f'{average}at_least = 0.23333\nat_most = 0.23334\npart = "20 s to 35 s"', cut) is not None
    change = '[[all]]\nkind = "change"\nrole = "customer"\nemotion = "angry"\n'
    assert match_of(f"{change}at_least = 0.5\nat_most = 0.5", report) is not None
    assert match_of(f"{change}at_least = 0.5001", report) is None
    falls = call([(0, 5000, ANGRY), (80_000, 90_000, {"angry": 0.2})])
    assert match_of(f"{change}at_most = -0.5", falls) is not None
    assert match_of(f"{change}at_most = -0.1", call([(0, 5000, ANGRY)])) is None  # the last quarter has no windows


def test_flags_metadata_and_duration() -> None:
    report = call([(0, 5000, CALM)], metadata={"queue": "sales", "agent": "mia"})
    assert "one_sided" in report.flags
    assert match_of('[[all]]\nkind = "flag"\nflag = ["clipping", "one_sided"]', report) is not None
    assert match_of('[[all]]\nkind = "flag"\nflag = "clipping"', report) is None
    metadata = '[[all]]\nkind = "metadata"\nkey = "queue"\n'
    assert match_of(metadata, report) is not None
    assert match_of(f'{metadata}equals = "sales"', report) is not None
    assert match_of(f'{metadata}equals = "Sales"', report) is None
    assert match_of(f'{metadata}one_of = ["support", "sales"]', report) is not None
    assert match_of(f'{metadata}one_of = ["support"]', report) is None
    assert match_of('[[none]]\nkind = "metadata"\nkey = "team"\nequals = "red"', report) is not None
    assert match_of('[[all]]\nkind = "duration"\nat_least_seconds = 90\nat_most_seconds = 90', report) is not None
    assert match_of('[[all]]\nkind = "duration"\nat_most_seconds = 89.999', report) is None


# all, any, none, and what is not known


def test_all_any_and_none() -> None:
    report = call([(0, 5000, ANGRY)])
    yes, no = '\nkind = "duration"\nat_least_seconds = 1\n', '\nkind = "duration"\nat_least_seconds = 1000\n'
    for conditions, applies in [
        (f"[[all]]{yes}[[all]]{yes}", True), (f"[[all]]{yes}[[all]]{no}", False),
        (f"[[any]]{no}[[any]]{yes}", True), (f"[[any]]{no}[[any]]{no}", False),
        (f"[[none]]{no}", True), (f"[[none]]{no}[[none]]{yes}", False),
        (f"[[all]]{yes}[[any]]{no}", False), (f"[[all]]{yes}[[any]]{yes}[[none]]{no}", True),
        (f"[[all]]{yes}[[any]]{yes}[[none]]{yes}", False), (f"[[all]]{no}[[any]]{yes}[[none]]{no}", False),
    ]:  # fmt: skip
        assert (match_of(conditions, report) is not None) == applies, conditions


def test_ranges_are_those_of_what_holds_joined_in_each_channel() -> None:
    report = call([(0, 5000, {"angry": 0.5, "sad": 0.4}), (5000, 8000, {"sad": 0.5})])
    conditions = """
    [[any]]
    kind = "emotion"
    emotion = "angry"
    at_least = 0.5
    [[any]]
    kind = "emotion"
    emotion = "sad"
    at_least = 0.4
    [[any]]
    kind = "silence"
    at_least_seconds = 10
    [[none]]
    kind = "emotion"
    emotion = "happy"
    at_least = 0.5
    """
    assert ranges_of(conditions, report) == [(0, 8000, "customer"), (8000, 90_000, None)]


SILENT = 'kind = "silence"\nat_least_seconds = 20'


@pytest.mark.parametrize(
    ("condition", "report"),
    [
        ('kind = "emotion"\nrole = "supervisor"\nemotion = "angry"\nat_least = 0.5', call([(0, 5000, ANGRY)])),
        ('kind = "interruptions"\nby = "supervisor"', call([(0, 5000, ANGRY)])),
        ('kind = "interruptions"', make_report(made_side("mono", windows=[(0, 5000, ANGRY)]), duration_ms=9000)),
        ('kind = "talk_share"\nrole = "agent"\nat_most = 0.5', call([])),
        ('kind = "average"\nemotion = "angry"\nat_most = 0.5', call([])),
        (SILENT, call([(0, 5000, ANGRY)], conversation=None, options=Options(granularity="utterance"))),
    ],
)  # fmt: skip
def test_what_is_not_known_makes_no_category_apply(condition: str, report: Report) -> None:
    for key in ("all", "any", "none"):
        assert match_of(f"[[{key}]]\n{condition}", report) is None
    finding = one(f"[[all]]\n{condition}").examine(report)[0].findings["all"][0]
    assert finding.verdict is Verdict.UNKNOWN
    assert finding.why


def test_what_refers_to_something_unknown_is_unknown_too() -> None:
    report = call([(0, 5000, ANGRY)])
    conditions = """
    [[any]]
    name = "supervisor"
    kind = "emotion"
    role = "supervisor"
    emotion = "happy"
    at_least = 0.5
    [[none]]
    kind = "emotion"
    emotion = "happy"
    at_least = 0.5
    after = "supervisor"
    [[any]]
    kind = "duration"
    at_least_seconds = 1
    """
    assert match_of(conditions, report) is None
    assert "supervisor" in one(conditions).examine(report)[0].findings["none"][0].why


def test_a_whole_channel_scored_at_once_counts_for_all_of_its_time() -> None:
    report = call([(0, 90_000, ANGRY)], conversation=None, options=Options(granularity="utterance"))
    assert ranges_of(f'[[all]]\n{ANGRY_8_S}part = "last third"', report) == [(60_000, 90_000, "customer")]


def test_speakers_of_a_split_call_are_sides_like_others() -> None:
    sides = (
        made_side("speaker_0", windows=[(0, 5000, CALM)], index=0),
        made_side("speaker_1", windows=[(5000, 10_000, ANGRY)], index=0),
    )
    report = make_report(*sides, duration_ms=10_000)
    found = match_of('[[all]]\nkind = "emotion"\nrole = "speaker_1"\nemotion = "angry"\nat_least = 0.6', report)
    assert found is not None
    assert [(each.channel, each.role) for each in found.ranges] == [(1, "speaker_1")]  # its place in `channels`


def test_a_model_of_other_labels() -> None:
    report = call([(0, 5000, ANGRY)])
    bored = """
    labels = ["bored"]
    [[category]]
    name = "c"
    [[category.{}]]
    kind = "emotion"
    emotion = "bored"
    at_most = 1
    """
    for key in ("all", "none"):  # this model does not score it
        assert rules_of(bored.format(key)).match(report).matches == ()
    window = ScoredWindow(start_ms=0, end_ms=5000, top="bored", scores={"bored": 0.9, "keen": 0.1})
    side = report.channels[1].model_copy(update={"windows": (window,)})
    other = report.model_copy(update={"channels": (report.channels[0], side)})
    assert [match.category for match in rules_of(bored.format("all")).match(other).matches] == ["c"]


def test_speech_in_what_is_left_out_does_not_count() -> None:
    report = call([(0, 30_000, CALM)], [(50_000, 60_000, CALM)])
    assert report.conversation is not None
    excluded = (Span(start_ms=0, end_ms=20_000),)
    left_out = report.model_copy(
        update={"conversation": report.conversation.model_copy(update={"excluded": excluded})}
    )
    half = '[[all]]\nkind = "talk_share"\nrole = "agent"\nat_least = 0.5\nat_most = 0.5'
    assert match_of(half, report) is None
    assert match_of(half, left_out) is not None


def test_categories_come_in_the_order_of_the_file_and_only_so_many_ranges() -> None:
    windows: list[Window] = [(at, at + 10, ANGRY) for at in range(0, 20_000, 20)]
    text = "".join(
        f'[[category]]\nname = "{name}"\n[[category.all]]\nkind = "emotion"\nemotion = "angry"\nat_least = 0.6\n'
        for name in ("zebra", "ant")
    )
    found = rules_of(text).match(call(windows))
    assert [match.category for match in found.matches] == ["zebra", "ant"]
    assert [len(match.ranges) for match in found.matches] == [500, 500]
    assert found.matches[0].ranges[0].start_ms == 0
    assert found.digest == rules_of(text).digest


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (ANGRY_8_S, "does not hold: there are 7.0 s"),
        (f"{ANGRY_8_S}in_one_stretch = true", "does not hold: the longest stretch has 4.0 s"),
        (ANGRY_8_S.replace("= 8", "= 7"), "holds: there are 7.0 s"),
        ('kind = "silence"\nat_least_seconds = 60\ncount = 2', "does not hold: 1 there"),
        ('kind = "silence"\ntotal_seconds = 90', "does not hold: 78.0 s in all"),
        ('kind = "interruptions"', "does not hold: 0 there"),
        ('kind = "average"\nemotion = "angry"\nat_least = 0.8', "does not hold: 0.700"),
        ('kind = "average"\nemotion = "angry"\nat_most = 0.1', "does not hold: 0.111"),
        ('kind = "duration"\nat_least_seconds = 91', "does not hold: 90.0 s"),
        ('kind = "flag"\nflag = "clipping"', "does not hold"),
        ('kind = "talk_share"\nrole = "boss"\nat_least = 0',
         "is not known: no side is called boss (there are agent, customer)"),
    ],
)  # fmt: skip
def test_what_was_found_is_said_in_words(condition: str, said: str) -> None:
    report = call([(0, 4000, ANGRY), (10_000, 13_000, ANGRY)], [(15_000, 20_000, {"angry": 1 / 9})])
    rules = one(f"[[all]]\n{condition}")
    finding = rules.examine(report)[0].findings["all"][0]
    assert words.found(rules.categories[0].all[0], finding) == said
