"""A call's picture: everything where it is, in words that fit, for calls of all kinds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from tests.made_reports import Window, made_side, make_report
from tests.pictures_read import NAMESPACE, description, filled, parsed, shapes, words
from warmline.calls.report import (
    Categories,
    CategoryMatch,
    Interruption,
    MatchedRange,
    ModelProvenance,
    Report,
    ScoredWindow,
    SpeakerSplit,
    Tone,
)
from warmline.calls.sides import Side
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import Options
from warmline.pictures.drawing import INK, text_width
from warmline.pictures.lanes import SILENCE
from warmline.pictures.time_axis import TimeScale, overlaps
from warmline.pictures.timeline import LEFT, RIGHT_MARGIN, WIDTH, timeline_svg

PIXELS = WIDTH - LEFT - RIGHT_MARGIN
MOODS = ("neutral", "happy", "angry", "sad", "surprised", "fearful", "disgusted", "other", "unknown")


def at(ms: float, duration_ms: int) -> float:
    """Where a moment is."""
    return LEFT + ms / duration_ms * PIXELS


def talk(duration_ms: int, every_ms: int, *, start_ms: int = 0, length_ms: int | None = None) -> list[Window]:
    """Windows one after another, in all emotions in turn."""
    starts = range(start_ms, duration_ms - every_ms + 1, every_ms)
    return [
        (start, start + (length_ms or every_ms), {MOODS[n % 9]: 0.3 + n % 7 / 10})
        for n, start in enumerate(starts)
    ]


def category(name: str, *ranges: tuple[int, int]) -> CategoryMatch:
    found = (MatchedRange(start_ms=start, end_ms=end, channel=1, role="customer") for start, end in ranges)
    return CategoryMatch(category=name, ranges=tuple(found))


def two_sides(**more: Any) -> Report:
    """A hundred seconds: the customer comes in while the agent speaks, and is angry."""
    return make_report(
        made_side("agent", windows=[(0, 20_000, {"neutral": 0.8}), (50_000, 60_000, {"happy": 0.4})]),
        made_side("customer", windows=[(18_000, 40_000, {"angry": 0.6}), (70_000, 80_000, {"sad": 0.5})]),
        **({"duration_ms": 100_000} | more),
    )


# Where things are


def test_a_bar_is_where_its_window_is_and_as_high_as_its_score() -> None:
    svg = timeline_svg(two_sides())
    ((left, top, right, bottom),) = filled(svg, "url(#wl-angry)")
    assert left == pytest.approx(at(18_000, 100_000), abs=1)
    assert right == pytest.approx(at(40_000, 100_000), abs=2)
    ((_, neutral_top, _, neutral_bottom),) = filled(svg, "url(#wl-neutral)")
    assert (bottom - top) / (neutral_bottom - neutral_top) == pytest.approx(0.6 / 0.8, abs=0.02)


def test_letters_are_those_of_the_terminal_and_capitals_are_confident() -> None:
    said = words(timeline_svg(two_sides()))
    assert [word for word in said if len(word) == 1 and word.isalpha()] == ["N", "h", "A", "S"]


def test_overlaps_and_interruptions_are_where_both_speak() -> None:
    # Given a customer who comes in at 18 s while the agent speaks until 20 s
    report = two_sides()
    assert report.conversation is not None
    assert [(each.by, each.start_ms) for each in report.conversation.interruptions] == [("customer", 18_000)]
    svg = timeline_svg(report)
    # Then there is a bar over these two seconds, and a triangle that points up, from the second side to the first
    spans = [(a, b) for a, b in thick(svg, INK, 8)]
    assert [(pytest.approx(a, abs=1), pytest.approx(b, abs=1)) for a, b in spans] == [
        (at(18_000, 100_000), at(20_000, 100_000))
    ]
    assert {"1 interruption", "2.0 s in all", "customer interrupts", "both speak"} <= set(words(svg))
    triangles = re.findall(r"M([\d.]+) ([\d.]+)h9l-4.5 (-?)8z", svg.partition("customer interrupts")[0])
    assert float(triangles[0][0]) + 4.5 == pytest.approx(at(18_000, 100_000), abs=0.2)
    assert triangles[0][2] == "-"


def test_silence_is_shown_and_the_longest_stretches_have_their_length() -> None:
    svg = timeline_svg(two_sides())
    assert [(round(a), round(b)) for a, b in thick(svg, SILENCE, 6)] == [
        (round(at(a, 100_000)), round(at(b, 100_000)))
        for a, b in [(40_000, 50_000), (60_000, 70_000), (80_000, 100_000)]
    ]
    assert {"20 s", "10 s", "40 s in all"} <= set(words(svg))


def test_what_is_left_out_is_a_band_and_no_silence() -> None:
    svg = timeline_svg(two_sides(excluded=[(80_000, 90_000)]))
    bands = [each for each in parsed(svg).iter(f"{NAMESPACE}rect") if each.get("fill") == "url(#wl-left-out)"]
    assert float(bands[0].get("x") or 0) == pytest.approx(at(80_000, 100_000), abs=0.1)
    assert float(bands[0].get("width") or 0) == pytest.approx(PIXELS / 10, abs=0.1)
    assert "left out" in words(svg)
    assert round(at(90_000, 100_000)) in {round(a) for a, _ in thick(svg, SILENCE, 6)}


def test_a_category_has_a_bracket_where_it_applies() -> None:
    matches = (category("angry late", (30_000, 40_000), (70_000, 72_000)), category("all of it"))
    svg = timeline_svg(two_sides(categories=Categories(digest="0" * 16, matches=matches)))
    assert {"angry late · customer", "all of it", "the whole call"} <= set(words(svg))
    brackets = re.findall(r"M([\d.]+) [\d.]+v8m0 -4H([\d.]+)m0 -4v8", svg)
    assert (f"{at(30_000, 100_000):.1f}", f"{at(40_000, 100_000):.1f}") in brackets


def test_a_category_of_both_sides_says_at_each_range_whose_it_is() -> None:
    ranges = [
        MatchedRange(start_ms=10_000, end_ms=20_000, channel=0, role="agent"),
        MatchedRange(start_ms=50_000, end_ms=60_000, channel=1, role="customer"),
    ]
    matches = (CategoryMatch(category="loud", ranges=tuple(ranges)),)
    said = words(timeline_svg(two_sides(categories=Categories(digest="0" * 16, matches=matches))))
    assert said[said.index("loud") : said.index("loud") + 3] == ["loud", "agent", "customer"]


def test_of_many_categories_the_others_are_counted() -> None:
    matches = tuple(category(f"number {n}", (1000, 2000)) for n in range(40))
    svg = timeline_svg(two_sides(categories=Categories(digest="0" * 16, matches=matches)))
    assert "and 28 more categories" in words(svg)
    assert len([word for word in words(svg) if word.startswith("number ")]) == 12


def test_telephone_keys_are_named_and_tones_are_boxes() -> None:
    keys = [
        Tone(kind="dtmf", digit="7", frequencies_hz=(852, 1209), start_ms=42_000, end_ms=42_100),
        Tone(kind="tone", frequencies_hz=(440,), start_ms=44_000, end_ms=48_000),
    ]
    report = two_sides()
    customer = report.channels[1].model_copy(update={"tones": tuple(keys)})
    svg = timeline_svg(report.model_copy(update={"channels": (report.channels[0], customer)}))
    assert {"7", "tone or telephone key"} <= set(words(svg))


def test_the_line_is_the_emotion_that_was_asked_for() -> None:
    report = two_sides()
    usual, sad = timeline_svg(report), timeline_svg(report, "sad")
    assert usual == timeline_svg(report, "angry") != sad
    assert "score of sad" in words(sad)
    # It is as high as that emotion's score, over the bar of whatever is on top
    (left, _, _, base), (_, sad_top, _, _) = filled(sad, "url(#wl-angry)")[0], filled(sad, "url(#wl-sad)")[0]
    heights = [float(y) for x, y in re.findall(r"M([\d.]+) ([\d.]+)H", sad) if float(x) == left]
    assert base - min(heights) == pytest.approx((base - sad_top) * (0.4 / 8) / 0.5, abs=0.6)
    with pytest.raises(InvalidRequest, match="neutral, other, sad"):
        timeline_svg(report, "sadness")


# Time


@pytest.mark.parametrize(
    ("seconds", "some"),
    [
        (0.7, ["0:00.0", "0:00.5"]),
        (2, ["0:00.0", "0:01.0", "0:02.0"]),
        (24, ["0:02", "0:20"]),
        (61, ["0:30", "1:00"]),
        (600, ["1:00", "10:00"]),
        (3599, ["5:00", "55:00"]),
        (3600, ["0:00:00", "1:00:00"]),
        (6 * 3600, ["1:00:00", "6:00:00"]),
        (30 * 3600, ["28:00:00"]),
    ],
)
def test_the_axis_reads_well_for_calls_of_any_length(seconds: float, some: list[str]) -> None:
    scale = TimeScale(LEFT, PIXELS, round(seconds * 1000))
    ticks = scale.ticks()
    assert {words for _, words in ticks} >= set(some)
    assert 2 <= len(ticks) <= 13
    assert all(after - before >= 66 for (before, _), (after, _) in pairwise(ticks))
    assert scale.left <= ticks[0][0] <= ticks[-1][0] <= scale.right


def test_overlaps_are_of_two_or_more() -> None:
    three = [[(0, 10), (20, 30)], [(5, 25)], [(8, 9), (30, 40)]]
    assert overlaps(three) == [(5, 10), (20, 25)]
    assert overlaps([[(0, 10)], [(10, 20)]]) == []
    assert overlaps([]) == []


# Many windows


def test_windows_that_nobody_could_tell_apart_are_averaged_by_their_time() -> None:
    # Given an hour of windows of a second, neutral but for a minute where three of four are angry
    moods = [("angry" if 1800 <= second < 1860 and second % 4 else "neutral", second) for second in range(3600)]
    windows = [(second * 1000, second * 1000 + 1000, {mood: 0.8}) for mood, second in moods]
    svg = timeline_svg(make_report(made_side("mono", windows=windows), duration_ms=3_600_000))
    # Then the stretch is angry, as high as the mean
    bars = filled(svg, "url(#wl-angry)")
    assert min(left for left, *_ in bars) == pytest.approx(at(1_800_000, 3_600_000), abs=4)
    assert max(right for _, _, right, _ in bars) == pytest.approx(at(1_860_000, 3_600_000), abs=4)
    mean = 0.75 * 0.8 + 0.25 * 0.2 / 8
    heights = [bottom - top for _, top, _, bottom in bars]
    neutral = [bottom - top for _, top, _, bottom in filled(svg, "url(#wl-neutral)")]
    assert max(heights) / max(neutral) == pytest.approx(mean / 0.8, abs=0.05)
    assert any(words.endswith("are averaged.") for words in words_of_foot(svg))


def test_windows_that_slide_meet_halfway() -> None:
    # Given windows of five seconds, one a second
    windows = talk(60_000, 1000, length_ms=5000)[:-4]
    options = Options(granularity="frame")
    svg = timeline_svg(make_report(made_side("mono", windows=windows), duration_ms=60_000, options=options))
    bars = sorted(bar for mood in MOODS for bar in filled(svg, f"url(#wl-{mood})"))
    # Then none covers another, none is left out, and each is where its middle is
    assert len(bars) == len(windows)
    for (_, _, right, _), (left, *_) in pairwise(bars):
        assert 0 <= left - right <= 1.01
    assert bars[10][0] == pytest.approx(at(12_000, 60_000), abs=1)
    assert "by frame" in words(svg)[2]


@pytest.mark.parametrize(("channels", "windows"), [(2, 10_000), (16, 2500)])
def test_six_hours_make_a_picture_of_bounded_size_quickly(channels: int, windows: int) -> None:
    six_hours = 6 * 3_600_000
    every = six_hours // windows
    one = tuple(
        ScoredWindow(start_ms=n * every, end_ms=(n + 1) * every, top=top, scores={top: 0.5, other: 0.5})
        for n in range(windows)
        for top, other in [(MOODS[n * 7 // 5 % 9], MOODS[n % 9])]
    )
    speech = [(n * 20_000, n * 20_000 + 15_000) for n in range(1000)]
    sides = [made_side(f"side_{n}", windows=[], speech=speech) for n in range(channels)]
    report = make_report(*sides, duration_ms=six_hours)
    many = tuple(channel.model_copy(update={"windows": one}) for channel in report.channels)
    report = report.model_copy(update={"channels": many})

    started = time.process_time()
    svg = timeline_svg(report)

    assert len(svg) < 30_000 + 20_000 * channels
    assert time.process_time() - started < 0.5 * channels


# All kinds of calls


def test_a_call_without_speech_says_so_in_every_lane() -> None:
    sides = [made_side(role, windows=[]) for role in ("agent", "customer")]
    svg = timeline_svg(make_report(*sides, duration_ms=30_000))
    assert words(svg).count("no speech") == 2 + 2 + 1  # names, lanes, flag
    assert "score of angry" not in words(svg)


def test_one_channel_has_no_overlaps() -> None:
    svg = timeline_svg(make_report(made_side("mono", windows=talk(30_000, 5000)), duration_ms=30_000))
    assert "silences" in words(svg)
    assert "overlaps" not in words(svg)
    assert "1 channel" in words(svg)[2]


def test_a_whole_channel_at_once_has_no_conversation() -> None:
    whole = make_report(
        made_side("agent", windows=[(0, 30_000, {"happy": 0.6})], speech=[]),
        duration_ms=30_000,
        options=Options(granularity="utterance"),
        conversation=None,
    )
    svg = timeline_svg(whole)
    assert not {"silences", "overlaps", "speaks"} & set(words(svg))
    ((left, _, right, _),) = filled(svg, "url(#wl-happy)")
    assert (left, right) == (LEFT, pytest.approx(LEFT + PIXELS, abs=1))


def test_an_empty_call_can_be_drawn() -> None:
    assert "no speech" in words(timeline_svg(make_report(made_side("mono", windows=[]), duration_ms=0)))


def test_labels_that_are_not_standard_have_fills_and_letters_of_their_own() -> None:
    own = {"zeal": 0.6, "awe": 0.4}
    first = ScoredWindow(start_ms=0, end_ms=5000, top="zeal", scores=own)
    second = ScoredWindow(start_ms=5000, end_ms=9000, top="awe", scores={"zeal": 0.3, "awe": 0.7})
    report = make_report(made_side("mono", windows=[(0, 5000, {})]), duration_ms=10_000)
    side = report.channels[0]
    summary = side.summary.model_copy(update={"scores": own, "top": "zeal"})
    side = side.model_copy(update={"windows": (first, second), "summary": summary})
    svg = timeline_svg(report.model_copy(update={"channels": (side,)}))
    fills = {each.get("fill") for each in parsed(svg).iter(f"{NAMESPACE}path")}
    assert {"url(#wl-own-0)", "url(#wl-own-1)"} <= fills
    assert {"Z zeal", "A awe", "Z", "A"} <= set(words(svg))
    assert "score of angry" not in words(svg)


def test_the_mini_model_is_named_as_what_it_is() -> None:
    report = two_sides()
    large = ModelProvenance(
        name="large", hash="cd" * 32, mini=False, engine="torch", device="cpu", precision="bf16"
    )
    real = report.model_copy(update={"provenance": report.provenance.model_copy(update={"model": large})})
    assert "mini model" in " ".join(words(timeline_svg(report)))
    assert "mini model" in description(timeline_svg(report))
    assert "mini" not in timeline_svg(real)


def test_speakers_that_were_split_are_named_as_such() -> None:
    split = SpeakerSplit(method="x", confidence=0.45, uncertain_share=0.3)
    assert "speakers split, confidence 0.45" in words(timeline_svg(two_sides(speakers=split)))[2]


# Names from outside


@pytest.mark.parametrize("name", ["שיחה 12 עם לקוח.wav", "客服电话 录音 7.wav", "Anruf é (2).wav", "مكالمة.wav"])
def test_names_of_all_scripts_are_written_as_they_are(name: str) -> None:
    assert words(timeline_svg(two_sides(key=f"2026/{name}")))[:2] == [name, f"s3://calls/2026/{name}"]


@pytest.mark.parametrize("key", ["a" * 1000, "客" * 300, "x/" * 400 + "y.wav", "W" * 900])
def test_a_long_name_is_shortened_to_what_fits_and_keeps_its_end(key: str) -> None:
    name = key[:-4] + ".wav"
    title, uri = words(timeline_svg(two_sides(key=name)))[:2]
    assert all("…" in each or len(each) < 20 for each in (title, uri))
    assert title.endswith(".wav")
    assert text_width(title, 18, bold=True) <= WIDTH


def test_signs_that_break_or_turn_a_line_are_shown_as_strange() -> None:
    # Given a key with a newline, an escape, half a character and a sign that turns what follows
    svg = timeline_svg(two_sides(key="a\nb\x1bc\ud800d\u202egnp.wav"))
    assert words(svg)[0] == "a�b�c�d�gnp.wav"
    svg.encode()  # raises for half a character


def test_nothing_from_outside_becomes_markup() -> None:
    evil = '"><script xlink:href="http://evil/">alert(1)</script><a href="x">&amp;]]><!--'
    matches = (CategoryMatch(category=evil, ranges=()),)
    svg = timeline_svg(two_sides(key=f"x/{evil}", categories=Categories(digest="0" * 16, matches=matches)))
    found = list(parsed(svg).iter())
    assert {element.tag.removeprefix(NAMESPACE) for element in found} <= shapes()
    assert not {name for element in found for name in element.attrib if name.startswith("on") or "href" in name}
    assert evil.rpartition("/")[2] in words(svg)


def test_a_picture_needs_nothing_from_elsewhere_and_has_no_style() -> None:
    svg = timeline_svg(two_sides(excluded=[(80_000, 90_000)]))
    assert svg.count("http") == 1  # the name of SVG itself
    for element in parsed(svg).iter():
        assert "style" not in element.attrib
        for value in element.attrib.values():
            assert "url(" not in value or value.startswith("url(#wl-")


def test_a_picture_can_be_read_out() -> None:
    svg = timeline_svg(two_sides(categories=Categories(digest="0" * 16, matches=(category("angry late"),))))
    root = parsed(svg)
    assert root.get("role") == "img"
    ids = {each.get("id"): each.text for each in root if each.tag in {f"{NAMESPACE}title", f"{NAMESPACE}desc"}}
    title, told = (ids[name] or "" for name in (root.get("aria-labelledby") or "").split())
    assert title == "Emotions over time: call-001.wav"
    for fact in ("customer: mostly angry", "Interruptions: 1.", "Categories: angry late.", "silence 40%"):
        assert fact in told


# Words that fit


@dataclass(frozen=True)
class Box:
    words: str
    left: float
    top: float
    right: float
    bottom: float


def boxes(svg: str) -> Iterator[Box]:
    """Where each text is, as wide as it may get."""

    def walk(element: Element, inherited: dict[str, str]) -> Iterator[Box]:
        here = inherited | element.attrib
        if element.tag == f"{NAMESPACE}text" and element.text:
            size = float(here["font-size"])
            width = text_width(element.text, size, bold=here.get("font-weight") == "bold")
            shift = {"middle": 0.5, "end": 1.0}.get(here.get("text-anchor", ""), 0.0)
            left, base = float(here["x"]) - shift * width, float(here["y"])
            yield Box(element.text, left, base - 0.74 * size, left + width, base + 0.2 * size)
        for child in element:
            yield from walk(child, here)

    root = parsed(svg)
    return walk(root, dict(root.attrib))


def sides(count: int, duration_ms: int, every_ms: int) -> list[Side]:
    return [
        made_side(f"a_role_with_a_long_name_{n}", windows=talk(duration_ms, every_ms, start_ms=n * 1500))
        for n in range(count)
    ]


def full_of_categories() -> Report:
    many = (category(f"a category with a long name {n}", (n * 9000, 9000 + n * 30_000)) for n in range(20))
    listed = Categories(digest="0" * 16, matches=tuple(many))
    return make_report(*sides(2, 600_000, 4000), duration_ms=600_000, categories=listed)


CROWDED: dict[str, Callable[[], Report]] = {
    "categories": full_of_categories,
    "long name": lambda: make_report(
        *sides(2, 20_000, 4000), duration_ms=20_000, key="k" * 900, excluded=[(1000, 3000)]
    ),
    "sixteen channels": lambda: make_report(*sides(16, 3_600_000, 9000), duration_ms=3_600_000),
    "ten hours": lambda: make_report(
        *sides(4, 36_000_000, 60_000), duration_ms=36_000_000, excluded=[(0, 3_000_000)]
    ),
    "less than a second": lambda: make_report(*sides(2, 900, 1000), duration_ms=900),
    "two sides": two_sides,
    "silences side by side": lambda: make_report(
        made_side("mono", windows=[(n * 10_000, n * 10_000 + 6000, {"sad": 0.6}) for n in range(100)]),
        duration_ms=1_000_000,
    ),
}


def test_of_many_sides_the_legend_does_not_name_each() -> None:
    three = [made_side(f"s{n}", windows=[(n * 1000, n * 1000 + 5000, {"sad": 0.6})]) for n in range(3)]
    report = make_report(*three, duration_ms=20_000)
    assert report.conversation is not None
    found = report.conversation.interruptions or tuple(
        Interruption(by=f"s{n}", by_channel=n, of="s0", of_channel=0, start_ms=5000, end_ms=6000, overlap_ms=1000)
        for n in (1, 2)
    )
    conversation = report.conversation.model_copy(update={"interruptions": found})
    svg = timeline_svg(report.model_copy(update={"conversation": conversation}))
    assert "one below interrupts" in words(svg)


@pytest.mark.parametrize("call", CROWDED)
def test_no_words_lie_over_others_or_leave_the_picture(call: str) -> None:
    svg = timeline_svg(CROWDED[call]())
    root, found = parsed(svg), list(boxes(svg))
    height = float(root.get("height") or 0)
    outside = [box for box in found if min(box.left, box.top) < 0 or box.right > WIDTH or box.bottom > height]
    assert outside == []
    over = [
        (one.words, other.words)
        for one, other in combinations(found, 2)
        if min(one.right, other.right) - max(one.left, other.left) > 0.5
        and min(one.bottom, other.bottom) - max(one.top, other.top) > 0.5
    ]
    assert over == []
    assert min(float(each.get("font-size") or 12) for each in root.iter()) >= 11


def thick(svg: str, fill: str, height: float) -> list[tuple[float, float]]:
    """The bars of one fill and height, as (left, right)."""
    return [
        (float(x), float(x) + float(width))
        for path in parsed(svg).iter(f"{NAMESPACE}path")
        if path.get("fill") == fill
        for x, width in re.findall(rf"M([\d.]+) [\d.]+h([\d.]+)v{height:g}h-", path.get("d") or "")
    ]


def words_of_foot(svg: str) -> list[str]:
    return words(svg)[-3:]
