"""Segments open, hold and close as their constants say, whatever the probabilities."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmline.audio.segments import (
    MIN_SILENCE_SAMPLES,
    MIN_SPEECH_SAMPLES,
    PADDING_SAMPLES,
    Segment,
    SegmentFinder,
)
from warmline.audio.speech import CHUNK_SAMPLES

WINDOW = 16_000


def finder(*, min_speech_samples: int = 400) -> SegmentFinder:
    return SegmentFinder(
        threshold=0.5, min_speech_samples=min_speech_samples, piece_samples=6 * WINDOW, rest_samples=WINDOW
    )


def segments(probabilities: list[float]) -> list[Segment]:
    found = finder()
    return [*found.push(probabilities), *found.finish(len(probabilities) * CHUNK_SAMPLES)]


def test_a_segment_with_its_padding() -> None:
    # Given 20 chunks of silence, 20 of speech, 20 of silence
    found = finder()
    # When they are followed
    ended = list(found.push([0.0] * 20 + [0.9] * 20 + [0.0] * 20))
    # Then there is one segment, padded on both sides, and the speech is counted without its padding
    assert ended == [Segment(20 * CHUNK_SAMPLES - PADDING_SAMPLES, 40 * CHUNK_SAMPLES + PADDING_SAMPLES)]
    assert sum(end - start for start, end in found.speech) == 20 * CHUNK_SAMPLES
    assert list(found.finish(60 * CHUNK_SAMPLES)) == []


def test_a_dip_above_the_lower_threshold_does_not_close() -> None:
    assert len(segments([0.9] * 20 + [0.4] * 20 + [0.9] * 20 + [0.0] * 20)) == 1
    assert len(segments([0.9] * 20 + [0.3] * 20 + [0.9] * 20 + [0.0] * 20)) == 2


def test_a_pause_shorter_than_the_shortest_silence_does_not_close() -> None:
    chunks = MIN_SILENCE_SAMPLES // CHUNK_SAMPLES
    assert len(segments([0.9] * 20 + [0.0] * chunks + [0.9] * 20)) == 1
    assert len(segments([0.9] * 20 + [0.0] * (chunks + 2) + [0.9] * 20)) == 2


def test_a_click_is_no_speech() -> None:
    chunks = MIN_SPEECH_SAMPLES // CHUNK_SAMPLES
    assert segments([0.0] * 9 + [0.9] * chunks + [0.0] * 9) == []
    assert len(segments([0.0] * 9 + [0.9] * (chunks + 1) + [0.0] * 9)) == 1
    # And for a model that needs longer windows, longer speech is asked for
    patient = finder(min_speech_samples=20 * CHUNK_SAMPLES)
    assert list(patient.push([0.9] * 19 + [0.0] * 9)) == []


def test_speech_up_to_the_very_end_stays_within_the_channel() -> None:
    found = finder()
    assert list(found.push([0.9] * 20)) == []
    assert list(found.finish(19 * CHUNK_SAMPLES + 7)) == [Segment(0, 19 * CHUNK_SAMPLES + 7)]


def test_speech_without_an_end_is_handed_out_in_pieces() -> None:
    # Given two minutes of speech without a pause
    found = finder()
    chunks = 120 * 16_000 // CHUNK_SAMPLES
    # When they are followed
    pieces = list(found.push([0.9] * chunks))
    rest = list(found.finish(chunks * CHUNK_SAMPLES))
    # Then whole pieces came out while it went on, and the rest is never shorter than a window
    assert {piece.end - piece.start for piece in pieces} == {6 * WINDOW}
    assert rest[0].end - rest[0].start >= WINDOW
    assert all(left.end == right.start for left, right in pairwise([*pieces, *rest]))
    # And it is one stretch of speech
    assert found.speech == [(0, chunks * CHUNK_SAMPLES)]


# Speech comes in runs, so probabilities are drawn as runs of one value.
RUNS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.34, 0.36, 0.5, 0.51, 1.0]), st.integers(1, 60)), min_size=1, max_size=40
)


@given(runs=RUNS, cut=st.integers(0, 2_400), missing=st.integers(0, CHUNK_SAMPLES - 1))
def test_segments_are_in_order_within_the_channel_and_do_not_depend_on_slabs(
    runs: list[tuple[float, int]], cut: int, missing: int
) -> None:
    probabilities = [value for value, length in runs for _ in range(length)]
    total_samples = len(probabilities) * CHUNK_SAMPLES - missing
    at_once = finder()
    found = [*at_once.push(probabilities), *at_once.finish(total_samples)]
    edges = [0, *[edge for segment in found for edge in segment], total_samples]
    assert edges == sorted(edges)
    assert all(segment.end - segment.start >= MIN_SPEECH_SAMPLES - missing for segment in found)
    assert sum(end - start for start, end in at_once.speech) <= sum(
        segment.end - segment.start for segment in found
    )
    in_two = finder()
    assert found == [
        *in_two.push(probabilities[:cut]),
        *in_two.push(probabilities[cut:]),
        *in_two.finish(total_samples),
    ]


def test_no_speech_is_lost_where_it_ends_just_after_a_piece() -> None:
    # Given speech that ends at any moment around that at which a piece is handed out
    handed_out_at = -(-7 * WINDOW // CHUNK_SAMPLES)
    for chunks in range(handed_out_at - 10, handed_out_at + 10):
        found = finder()
        # When it is followed
        ended = [*found.push([0.9] * chunks + [0.0] * 20), *found.finish((chunks + 20) * CHUNK_SAMPLES)]
        # Then every chunk of it lies in a segment
        assert sum(end - start for start, end in found.speech) == chunks * CHUNK_SAMPLES
        assert ended[-1].end == chunks * CHUNK_SAMPLES + PADDING_SAMPLES
    with pytest.raises(ValueError, match="rest"):
        SegmentFinder(threshold=0.5, min_speech_samples=WINDOW, piece_samples=6 * WINDOW, rest_samples=WINDOW)
