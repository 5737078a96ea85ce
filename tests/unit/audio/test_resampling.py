"""Resampling on a stream gives what resampling at once gives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soxr

from tests.recordings import Audio
from warmline.audio.resampling import in_slabs, to_16_khz

CUTS = [0, 1, 1, 700, 8_000, 8_001, 20_000]  # an empty block and a block of one sample among them


def blocks_of(samples: Audio) -> list[Audio]:
    return [samples[start:end] for start, end in pairwise([*CUTS, len(samples)])]


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000, 96_000])
def test_the_cuts_between_blocks_cannot_be_heard(rate_hz: int) -> None:
    # Given two seconds of two channels of noise
    noise = np.random.default_rng(3).standard_normal((2 * rate_hz, 2)).astype(np.float32)
    # When they are resampled in uneven blocks
    streamed = np.concatenate(list(to_16_khz(blocks_of(noise), sample_rate_hz=rate_hz, channels=2)))
    # Then length and samples are those of the whole at once
    assert len(streamed) == 32_000
    np.testing.assert_allclose(streamed, soxr.resample(noise, rate_hz, 16_000, quality="HQ"), atol=1e-5)


def test_16_khz_passes_untouched() -> None:
    noise = np.random.default_rng(3).standard_normal((32_000, 1)).astype(np.float32)
    assert np.array_equal(
        np.concatenate(list(to_16_khz(blocks_of(noise), sample_rate_hz=16_000, channels=1))), noise
    )


def test_slabs_have_one_size_and_lose_nothing() -> None:
    noise = np.random.default_rng(3).standard_normal((32_100, 2)).astype(np.float32)
    slabs = list(in_slabs(blocks_of(noise), 1_000))
    assert [len(slab) for slab in slabs] == [1_000] * 32 + [100]
    assert np.array_equal(np.concatenate(slabs), noise)
    assert [len(slab) for slab in in_slabs(blocks_of(noise[:32_000]), 1_000)] == [1_000] * 32
    assert list(in_slabs([], 1_000)) == []
