"""A window that slides over speech."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from warmline.audio.segments import Segment
from warmline.audio.sliding import Slide

WINDOW, LEAST = 100, 10


def slide(segments: list[Segment], hop: int) -> list[Segment]:
    sliding = Slide(WINDOW, hop, LEAST)
    return [window for segment in segments for window in sliding.take(segment)] + list(sliding.finish())


def test_windows_begin_every_hop_and_the_last_ends_with_the_stretch() -> None:
    assert slide([Segment(1000, 1250)], 40) == [
        (1000, 1100), (1040, 1140), (1080, 1180), (1120, 1220), (1160, 1250),
    ]  # fmt: skip
    assert slide([Segment(0, 60)], 40) == [(0, 60)]
    assert slide([Segment(0, 100)], 40) == [(0, 100)]
    # What is left is too short for a window of its own
    assert slide([Segment(0, 205)], 100) == [(0, 100), (100, 200)]
    # A hop beyond the window leaves gaps, as asked for
    assert slide([Segment(0, 450)], 150) == [(0, 100), (150, 250), (300, 400)]


def test_a_stretch_that_comes_in_pieces_is_one() -> None:
    pieces = [Segment(0, 130), Segment(130, 260), Segment(260, 300)]
    assert slide(pieces, 30) == slide([Segment(0, 300)], 30)


def test_the_end_of_a_stretch_waits_until_it_is_certain() -> None:
    sliding = Slide(WINDOW, 40, LEAST)
    assert list(sliding.take(Segment(0, 130))) == [(0, 100)]
    assert sliding.next_start == 40
    assert list(sliding.end_before(130)) == []  # it may go on
    assert list(sliding.end_before(131)) == [(40, 130)]
    assert sliding.next_start is None


@given(
    stretches=st.lists(
        st.tuples(st.integers(1, 200), st.lists(st.integers(LEAST, 300), min_size=1, max_size=4)), max_size=5
    ),
    hop=st.integers(5, 150),
)
def test_windows_are_in_order_within_the_speech_and_cover_it(
    stretches: list[tuple[int, list[int]]], hop: int
) -> None:
    segments, at = [], 0
    for pause, lengths in stretches:
        at += pause
        for length in lengths:
            segments.append(Segment(at, at + length))
            at += length
    windows = slide(segments, hop)
    assert all(after.start > before.start for before, after in pairwise(windows))
    assert all(window.end - window.start <= WINDOW for window in windows)
    covered = {sample for window in windows for sample in range(window.start, window.end)}
    spoken = {sample for segment in segments for sample in range(segment.start, segment.end)}
    assert covered <= spoken
    if hop <= WINDOW:
        assert len(spoken - covered) <= LEAST * len(stretches)
