"""How loud, and whether peaks are cut off."""

from __future__ import annotations

import numpy as np
import pytest

from tests.made_calls import noise, tone, voice
from warmline.audio.levels import RecordingMeter, SpeechLevelMeter, dbfs, loudness_dbfs
from warmline.audio.speech import CHUNK_SAMPLES


def test_decibels_below_full_scale() -> None:
    assert loudness_dbfs(np.ones(1000, np.float32)) == 0
    assert loudness_dbfs(tone(1, 1000, dbfs=-3.01)) == pytest.approx(-3.01, abs=0.01)
    assert loudness_dbfs(noise(3, dbfs=-41.5)) == pytest.approx(-41.5, abs=0.01)
    assert loudness_dbfs(np.zeros(10, np.float32)) is None
    assert dbfs(0.01) == -20


def clipped(samples: np.ndarray, cuts: list[int] | None = None) -> int:
    meter = RecordingMeter(1)
    for part in np.split(samples.astype(np.float32)[:, None], cuts or []):
        meter.push(part)
    return int(meter.clipped_samples[0])


def test_flat_tops_are_clipped_and_round_ones_are_not() -> None:
    flat = np.array([0, 0.5, 1, 1, 1, 1, 0.5, -0.2, -1, -1, 0.3, 1, 1, 1, 0])
    assert clipped(flat) == 7  # two in a row are a round top
    assert all(clipped(flat, [cut]) == 7 for cut in range(1, len(flat)))
    assert clipped(0.9 * flat) == 0
    assert clipped(np.array([0.984, 0.999] * 5)) == 0  # loud, and not flat
    assert clipped(np.array([1, -1, 1, -1, 1, -1.0])) == 0
    # A voice as loud as it gets without being cut off, and the same cut off at mu-law's largest value
    loud = voice(3)
    loud = loud / np.abs(loud).max()
    assert clipped(loud) == 0
    limit = 32_124 / 32_768
    cut_off = np.clip(4 * loud, -limit, limit)
    flat_samples = (np.abs(cut_off) == np.float32(limit)).sum()
    assert 0.7 * flat_samples < clipped(cut_off) <= flat_samples  # shorter flat tops are taken for round ones


@pytest.mark.parametrize("slab_chunks", [1, 7, 400])
def test_speech_and_the_rest_have_levels_of_their_own(slab_chunks: int) -> None:
    # Given 100 chunks of noise, 50 of speech, 100 of louder noise of which 30 are left out, 20 of digital silence
    levels = [(100, 1e-3), (50, 0.1), (40, 2e-3), (30, 0.9), (30, 2e-3), (20, 0.0)]
    samples = np.concatenate([np.full(count * CHUNK_SAMPLES, level, np.float32) for count, level in levels])
    left_out = np.concatenate([np.full(count, level == 0.9) for count, level in levels])
    speech = [(100 * CHUNK_SAMPLES, 150 * CHUNK_SAMPLES)]
    meter = SpeechLevelMeter()
    # When they are followed in slabs, and speech is known some time after it was heard
    for first in range(0, 270, slab_chunks):
        last = min(first + slab_chunks, 270)
        meter.push(samples[first * CHUNK_SAMPLES : last * CHUNK_SAMPLES])
        meter.leave_out(left_out[first:last])
        meter.settle(CHUNK_SAMPLES * (last if last <= 96 or last >= 150 else 96), speech if last >= 150 else [])
    meter.settle(270 * CHUNK_SAMPLES, speech)
    # Then neither has anything of the other, nor of what is left out
    assert meter.speech_dbfs == -20
    quiet, louder = 96 * 1e-6, 66 * 4e-6  # four chunks on either side of speech are neither
    assert meter.noise_dbfs == pytest.approx(10 * np.log10((quiet + louder) / (96 + 66)), abs=0.01)


def test_nothing_heard_has_no_level() -> None:
    meter = SpeechLevelMeter()
    assert (meter.speech_dbfs, meter.noise_dbfs) == (None, None)
