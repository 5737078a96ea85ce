"""How loud a channel is, where it speaks and where it does not, and whether its peaks are cut off.

Levels are in dBFS: decibels of the RMS below full scale, where a square wave of full scale has 0 and a sine of
full scale -3.01.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from warmline.audio.decoding import Block
from warmline.audio.speech import CHUNK_SAMPLES

# A peak that was cut off is flat and near full scale. Mu-law's largest value is 0.980 of it, A-law's 0.984, and
# after a lossy codec a flat top has ripples; three samples in a row, because a round top has two.
CLIP_LEVEL = 0.98
FLAT_WITHIN = 0.005
FLAT_SAMPLES = 3
# Soft edges of words are neither speech nor noise: as many chunks on either side as a segment's padding has.
NEAR_CHUNKS = 4
# Below the smallest step of a 16-bit recording: what such a file calls silence.
DIGITAL_SILENCE = 2.0**-16


def dbfs(mean_square: float) -> float | None:
    """The level of a mean square in dBFS, to a hundredth of a decibel; None for digital silence."""
    return round(10 * math.log10(mean_square), 2) if mean_square > DIGITAL_SILENCE**2 else None


def loudness_dbfs(samples: NDArray[np.float32]) -> float | None:
    """The RMS level of (samples,); None for digital silence."""
    return dbfs(float(np.dot(samples, samples)) / len(samples))


class RecordingMeter:
    """All channels' peaks, and where their sound begins and ends.

    Measured at the recording's own rate, because resampling rounds corners off and rings.
    """

    def __init__(self, channels: int) -> None:
        self.first_sounds = np.full(channels, -1, np.int64)  # (channels,) frames; -1: none yet
        self.last_sounds = np.full(channels, -1, np.int64)
        self.peaks = np.zeros(channels)  # (channels,) largest absolute sample
        self.clipped_samples = np.zeros(channels, np.int64)
        self._frames = 0
        self._tail = np.zeros((FLAT_SAMPLES, channels), np.float32)

    def push(self, block: Block) -> None:
        """Follows the next (frames, channels)."""
        if not len(block):
            return
        absolute = np.abs(block)
        highest = absolute.max(axis=0)
        self.peaks = np.maximum(self.peaks, highest)
        self._follow_edges(absolute >= DIGITAL_SILENCE)
        joined = np.concatenate((self._tail, block))
        self._tail = joined[-FLAT_SAMPLES:].copy()
        if highest.max() < CLIP_LEVEL:
            return  # nearly every block of nearly every call
        near_top = np.abs(joined) >= CLIP_LEVEL
        flat = near_top[1:] & near_top[:-1] & (np.abs(np.diff(joined, axis=0)) <= FLAT_WITHIN)
        # (1 + frames, channels): this sample and the two before it are one flat top; the first was counted before.
        run = flat[1:] & flat[:-1]
        starts = run[1:] & ~run[:-1]
        self.clipped_samples += run[1:].sum(axis=0) + (FLAT_SAMPLES - 1) * starts.sum(axis=0)

    def _follow_edges(self, sounds: NDArray[np.bool_]) -> None:
        count = len(sounds)
        heard = sounds.any(axis=0)
        begins = heard & (self.first_sounds < 0)
        self.first_sounds[begins] = self._frames + sounds.argmax(axis=0)[begins]
        self.last_sounds[heard] = self._frames + count - 1 - sounds[::-1].argmax(axis=0)[heard]
        self._frames += count


@dataclass
class _Sum:
    squares: float = 0.0
    samples: int = 0

    def add(self, energies: NDArray[np.float64]) -> None:
        self.squares += float(energies.sum())
        self.samples += CHUNK_SAMPLES * len(energies)

    @property
    def level(self) -> float | None:
        return dbfs(self.squares / self.samples) if self.samples else None


class SpeechLevelMeter:
    """The levels of one channel's speech and of the rest; holds what the search for speech has not decided yet."""

    def __init__(self) -> None:
        self._speech, self._noise = _Sum(), _Sum()
        self._energies = np.zeros(0)  # of the chunks that are not settled
        self._left_out = np.zeros(0, bool)
        self._settled = 0  # chunks
        self._span = 0  # spans of speech that lie before

    @property
    def speech_dbfs(self) -> float | None:
        """RMS of the stretches of speech."""
        return self._speech.level

    @property
    def noise_dbfs(self) -> float | None:
        """RMS of everything else, without digital silence and what is left out."""
        return self._noise.level

    def push(self, samples: NDArray[np.float32]) -> None:
        """Follows the next (samples,), whole chunks."""
        chunks = samples.reshape(-1, CHUNK_SAMPLES).astype(np.float64)
        self._energies = np.concatenate((self._energies, (chunks**2).sum(axis=1)))

    def leave_out(self, left_out: NDArray[np.bool_]) -> None:
        """Of the next (chunks,) that were pushed: which are neither speech nor noise (tones, hold music)."""
        self._left_out = np.concatenate((self._left_out, left_out))

    def settle(self, until_sample: int, speech: Sequence[tuple[int, int]]) -> None:
        """All speech that ends before `until_sample` is in `speech`, in order: what came before is counted."""
        count = min(until_sample // CHUNK_SAMPLES - self._settled, len(self._left_out))
        if count <= 0:
            return
        is_speech, is_near = np.zeros(count, bool), np.zeros(count, bool)
        while self._span < len(speech):
            start, end = speech[self._span]
            first, last = start // CHUNK_SAMPLES - self._settled, -(-end // CHUNK_SAMPLES) - self._settled
            if first >= count:
                break
            is_speech[max(first, 0) : max(last, 0)] = True
            is_near[max(first - NEAR_CHUNKS, 0) : max(last + NEAR_CHUNKS, 0)] = True
            if last + NEAR_CHUNKS > count:
                break
            self._span += 1
        energies, left_out = self._energies[:count], self._left_out[:count]
        audible = energies > CHUNK_SAMPLES * DIGITAL_SILENCE**2
        self._speech.add(energies[is_speech])
        self._noise.add(energies[~is_near & ~left_out & audible])
        self._energies, self._left_out = self._energies[count:], self._left_out[count:]
        self._settled += count
