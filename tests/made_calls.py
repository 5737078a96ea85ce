"""Recordings of made calls: who speaks when, how loud, over what noise is written down, so figures have a truth.

The voice is that of the voicemail among the sample calls: two and a half seconds without a pause, repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tests.recordings import VOICEMAIL, read
from warmline.audio.tones import HIGH_HZ, KEYS, LOW_HZ

RATE_HZ = 16_000
Samples = NDArray[np.float32]  # (samples,), 16 kHz

# A telephone's keys: their two frequencies, by digit.
KEY = {KEYS[row][column]: (low, high) for row, low in enumerate(LOW_HZ) for column, high in enumerate(HIGH_HZ)}

_CLIP_SECONDS = (7.15, 9.45)


def voice(seconds: float, *, dbfs: float = -20.0) -> Samples:
    """Somebody speaking without a pause; `dbfs` is the RMS of all of it."""
    first, last = (round(edge * RATE_HZ) for edge in _CLIP_SECONDS)
    clip = read(VOICEMAIL)[0][first:last, 0]
    count = round(seconds * RATE_HZ)
    return at_level(np.tile(clip, -(-count // len(clip)))[:count], dbfs)


def noise(seconds: float, *, dbfs: float, seed: int = 0) -> Samples:
    """White noise."""
    return at_level(np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ)).astype(np.float32), dbfs)


def tone(seconds: float, *frequencies_hz: float, dbfs: float = -15.0) -> Samples:
    """Sines of equal level, together."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return at_level(
        np.sum([np.sin(2 * np.pi * each * time) for each in frequencies_hz], axis=0).astype(np.float32), dbfs
    )


def at_level(samples: Samples, dbfs: float) -> Samples:
    """The same sound at this RMS level."""
    scaled: Samples = (samples * 10 ** (dbfs / 20) / np.sqrt(np.mean(samples.astype(np.float64) ** 2))).astype(
        np.float32
    )
    return scaled


def side(
    seconds: float, *placed: tuple[float, Samples], noise_dbfs: float | None = -65.0, seed: int = 0
) -> Samples:
    """One channel: sounds at their times in seconds, over noise."""
    count = round(seconds * RATE_HZ)
    channel = np.zeros(count, np.float32) if noise_dbfs is None else noise(seconds, dbfs=noise_dbfs, seed=seed)
    for at_seconds, sound in placed:
        first = round(at_seconds * RATE_HZ)
        channel[first : first + len(sound)] += sound[: count - first]
    return channel


def write_call(path: Path, sides: Sequence[Samples], *, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> Path:
    """A WAV file with a channel for each side."""
    samples = np.stack(sides, axis=1)
    if rate_hz != RATE_HZ:
        samples = soxr.resample(samples, RATE_HZ, rate_hz)
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path
