"""A channel from its first sound to its last."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from warmline.audio.edges import SoundOnly
from warmline.audio.levels import DIGITAL_SILENCE, RecordingMeter

SLAB = 64


def pushed(samples: np.ndarray, cuts: list[int]) -> tuple[int, list[np.ndarray]]:
    sound = SoundOnly(SLAB)
    slabs = [
        slab
        for part in np.split(samples, sorted(cut % (len(samples) + 1) for cut in cuts))
        for slab in sound.push(part)
    ]
    return sound.lead, [*slabs, *sound.finish()]


@given(
    before=st.integers(0, 300),
    middle=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 200)), max_size=5),
    after=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_silence_at_the_ends_is_left_out_however_it_comes(
    before: int, middle: list[tuple[int, int]], after: int, cuts: list[int]
) -> None:
    # Given sounds with silence before, between and after them
    sounds = [part for loud, quiet in middle for part in (np.full(loud, 0.5), np.zeros(quiet))]
    samples = np.concatenate([np.zeros(before), *sounds, np.zeros(after)]).astype(np.float32)
    # When they come in pieces
    lead, slabs = pushed(samples, cuts)
    # Then what is handed on begins with the first sound and ends with the last, in slabs of one size
    expected = np.trim_zeros(samples)
    got = np.concatenate([np.zeros(0, np.float32), *slabs])
    np.testing.assert_array_equal(got, expected)
    assert lead == (len(samples) - len(np.trim_zeros(samples, "f")))
    assert all(len(slab) == SLAB for slab in slabs[:-1])


def test_what_rings_around_a_sound_is_no_sound_where_the_recording_says_so() -> None:
    ringing = np.float32(4 * DIGITAL_SILENCE)
    samples = np.concatenate(
        [np.zeros(100), np.full(7, ringing), np.full(50, 0.5), np.full(9, ringing), np.zeros(40)]
    )
    sound = SoundOnly(SLAB, lambda: (107, 157))
    slabs = [*sound.push(samples.astype(np.float32)), *sound.finish()]
    assert sound.lead == 107
    np.testing.assert_array_equal(np.concatenate(slabs), samples[107:157].astype(np.float32))


def test_ringing_that_reaches_into_the_next_slab_ends_with_the_slab() -> None:
    ringing = np.float32(4 * DIGITAL_SILENCE)
    samples = np.concatenate([np.full(SLAB - 4, 0.5), np.full(9, ringing), np.zeros(40)]).astype(np.float32)
    sound = SoundOnly(SLAB, lambda: (0, SLAB - 4))
    assert [len(slab) for slab in (*sound.push(samples), *sound.finish())] == [SLAB]


def test_hours_of_silence_are_a_number() -> None:
    sound = SoundOnly(SLAB)
    assert list(sound.push(np.ones(10, np.float32))) == []
    for _ in range(1000):
        assert list(sound.push(np.zeros(16_000, np.float32))) == []
    assert [len(slab) for slab in sound.finish()] == [10]


def test_the_recording_knows_where_each_channel_begins_and_ends() -> None:
    meter = RecordingMeter(3)
    samples = np.zeros((1000, 3), np.float32)
    samples[123:456, 0] = 0.5
    samples[999, 1] = -0.25
    for part in np.split(samples, [1, 123, 124, 400, 700]):
        meter.push(part)
    assert (meter.first_sounds.tolist(), meter.last_sounds.tolist()) == ([123, 999, -1], [455, 999, -1])
    assert meter.peaks.tolist() == [0.5, 0.25, 0.0]
