"""Telephone keys and steady tones, which a voice activity detector may take for voices.

A key sends two tones at once, one of four low and one of four high frequencies (ITU-T Q.23); Q.24 has receivers
take what lasts 40 ms and lies within 1.5 % of its frequencies. Ring, dial and busy tones are one or two steady
frequencies (ITU-T E.180). Speech has many harmonics, and its pitch never stands still for long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.speech import CHUNK_SAMPLES

LOW_HZ = (697.0, 770.0, 852.0, 941.0)
HIGH_HZ = (1209.0, 1336.0, 1477.0, 1633.0)
KEYS = ("123A", "456B", "789C", "*0#D")

# Everything that matters here is below 4 kHz.
RATE_HZ = SAMPLE_RATE_HZ // 2
# 32 ms tell the keys' frequencies apart (73 Hz at least) and fit into the shortest key, every 16 ms.
KEY_FRAME, KEY_HOP = 256, 128
# 128 ms tell two tones apart that lie 40 Hz from each other, as those of a North American ring do; one a chunk.
TONE_FRAME, TONE_HOP = 1024, CHUNK_SAMPLES // 2
CHUNKS_IN_TONE_FRAME = TONE_FRAME // TONE_HOP
KEY_FRAMES_IN_CHUNK = TONE_HOP // KEY_HOP

LEAST_RMS = 1e-3  # -60 dBFS: below it nobody hears a tone
# A tone's share of all energy. The rest is the line's noise: 0.9 leaves out all that is more than 10 dB of it.
LEAST_SHARE = 0.9
KEY_TOLERANCE = 0.02  # Q.24's 1.5 %, and what 32 ms let one measure
MOST_TWIST = 10.0 ** (10 / 10)  # between a key's two tones, in power; Q.24 has receivers take 8 dB
LEAST_KEY_FRAMES = 2  # in a row: 48 ms
LOWEST_TONE_HZ = 300.0  # a voice's pitch is below, and so is the hum of the mains
STEADY_WITHIN = 0.01  # of its frequency; a voice drifts by more than that in a third of a second
# 0.38 s: a voice that holds one note for so long sings.
LEAST_TONE_CHUNKS = 12
# After so many more chunks it is certain whether a chunk is part of a tone.
LAG_CHUNKS = LEAST_TONE_CHUNKS + CHUNKS_IN_TONE_FRAME + 1
MOST_TONES = 500  # that are told of, in one channel; all are left out of speech

_KEY_BIN_HZ = RATE_HZ / KEY_FRAME
_TONE_BIN_HZ = RATE_HZ / TONE_FRAME
_KEY_WINDOW = np.hanning(KEY_FRAME + 1)[:-1].astype(np.float32)
_TONE_WINDOW = np.hanning(TONE_FRAME + 1)[:-1].astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class FoundTone:
    """A tone; in 16 kHz samples, to a chunk or so."""

    kind: Literal["dtmf", "tone"]
    digit: str | None
    frequencies_hz: tuple[int, ...]
    start: int
    end: int


class ToneFinder:
    """Follows one channel, some chunks behind: a tone is known as one only after it has lasted."""

    def __init__(self) -> None:
        self._found: list[FoundTone] = []
        self._tail = np.zeros(TONE_FRAME - TONE_HOP, np.float32)  # what was heard last, at RATE_HZ
        self._chunks = 0  # followed
        self._told = 0  # of which so many were told of
        self._is_tone = np.zeros(0, bool)  # of the chunks that were not
        self._key: _Key | None = None
        self._run: _Run | None = None

    @property
    def tones(self) -> tuple[FoundTone, ...]:
        """Those that are over, in order, the first MOST_TONES. A key that is held is a key, and no steady tone."""
        keys = [found for found in self._found if found.kind == "dtmf"]
        told = [
            found
            for found in self._found
            if found.kind == "dtmf" or not any(key.start < found.end and found.start < key.end for key in keys)
        ]
        return tuple(sorted(told, key=lambda found: found.start)[:MOST_TONES])

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The next (samples,) at 16 kHz, whole chunks; of each chunk that is certain now, whether it is a tone."""
        # Neighbours are averaged: a filter is dear, and what lies above 4 kHz is of no interest.
        half = ((samples[0::2] + samples[1::2]) / 2).astype(np.float32)
        heard = np.concatenate((self._tail, half))
        self._tail = heard[len(half) :].copy()
        count = len(samples) // CHUNK_SAMPLES
        self._is_tone = np.concatenate((self._is_tone, np.zeros(count, bool)))
        if np.abs(half).max(initial=0.0) >= LEAST_RMS:
            self._follow_keys(heard)
            self._follow_tones(heard)
        else:
            self._end_key()
            self._end_run()
        self._chunks += count
        return self._tell(self._chunks - LAG_CHUNKS)

    def finish(self) -> NDArray[np.bool_]:
        """The same for the chunks that were waiting."""
        self._end_key()
        self._end_run()
        return self._tell(self._chunks)

    def _tell(self, until_chunk: int) -> NDArray[np.bool_]:
        count = max(0, until_chunk - self._told)
        told, self._is_tone = self._is_tone[:count], self._is_tone[count:]
        self._told += count
        return told

    def _mark(self, first_chunk: int, end_chunk: int) -> None:
        first, end = first_chunk - self._told, end_chunk - self._told
        self._is_tone[max(first, 0) : max(end, 0)] = True

    # Keys

    def _follow_keys(self, heard: NDArray[np.float32]) -> None:
        offset = len(self._tail) - (KEY_FRAME - KEY_HOP)
        first_frame = self._chunks * KEY_FRAMES_IN_CHUNK  # the frame that ends KEY_HOP after the chunk's beginning
        for place, digit in enumerate(_digits(_frames(heard[offset:], KEY_FRAME, KEY_HOP))):
            self._follow_key(digit, first_frame + place)
        if self._key is not None and self._key.frames >= LEAST_KEY_FRAMES:
            self._mark(*self._key.chunks)

    def _follow_key(self, digit: str | None, frame: int) -> None:
        if self._key is not None and self._key.digit == digit:
            self._key.frames += 1
            return
        self._end_key()
        self._key = None if digit is None else _Key(digit, frame)

    def _end_key(self) -> None:
        key, self._key = self._key, None
        if key is None or key.frames < LEAST_KEY_FRAMES:
            return
        self._mark(*key.chunks)
        row = next(row for row, keys in enumerate(KEYS) if key.digit in keys)
        self._found.append(
            FoundTone(
                kind="dtmf",
                digit=key.digit,
                frequencies_hz=(round(LOW_HZ[row]), round(HIGH_HZ[KEYS[row].index(key.digit)])),
                start=max(0, (key.first - 1) * KEY_HOP * 2),
                end=(key.first + key.frames) * KEY_HOP * 2,
            )
        )

    # Steady tones

    def _follow_tones(self, heard: NDArray[np.float32]) -> None:
        for place, frequencies in enumerate(_steady_frequencies(_frames(heard, TONE_FRAME, TONE_HOP))):
            chunk = self._chunks + place  # the frame ends with this chunk
            if self._run is not None and frequencies is not None and self._run.goes_on(frequencies):
                self._run.frames += 1
                if self._run.chunks >= LEAST_TONE_CHUNKS:
                    self._mark(self._run.first_chunk, chunk + 2)
            else:
                self._end_run()
                self._run = None if frequencies is None else _Run(frequencies, chunk)

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is None or run.chunks < LEAST_TONE_CHUNKS:
            return
        self._found.append(
            FoundTone(
                kind="tone",
                digit=None,
                frequencies_hz=tuple(round(frequency) for frequency in run.frequencies),
                start=max(0, run.first_chunk) * CHUNK_SAMPLES,
                end=(run.last_chunk + 1) * CHUNK_SAMPLES,
            )
        )


@dataclass
class _Key:
    """A key so far; a frame ends KEY_HOP after the one before, the first one KEY_HOP after the channel begins."""

    digit: str
    first: int
    frames: int = 1

    @property
    def chunks(self) -> tuple[int, int]:
        """With one more on either side, where the tone begins and ends and the detector still hears it."""
        return (self.first - 1) // KEY_FRAMES_IN_CHUNK - 1, -(
            -(self.first + self.frames) // KEY_FRAMES_IN_CHUNK
        ) + 1


@dataclass
class _Run:
    """A steady tone so far; frames of CHUNKS_IN_TONE_FRAME chunks, one a chunk."""

    frequencies: tuple[float, ...]
    ends_in: int  # the chunk that the first frame ends with
    frames: int = 1

    @property
    def first_chunk(self) -> int:
        return self.ends_in - CHUNKS_IN_TONE_FRAME + 1

    @property
    def last_chunk(self) -> int:
        return self.ends_in + self.frames - 1

    @property
    def chunks(self) -> int:
        return self.last_chunk - self.first_chunk + 1

    def goes_on(self, frequencies: tuple[float, ...]) -> bool:
        return len(frequencies) == len(self.frequencies) and all(
            abs(now - then) <= STEADY_WITHIN * then
            for now, then in zip(frequencies, self.frequencies, strict=True)
        )


def _frames(heard: NDArray[np.float32], length: int, hop: int) -> NDArray[np.float32]:
    """(frames, length): overlapping views."""
    return np.lib.stride_tricks.sliding_window_view(heard, length)[::hop]


def _digits(frames: NDArray[np.float32]) -> Iterator[str | None]:
    """The key that each frame is, if it is one."""
    loud = np.flatnonzero((frames**2).mean(axis=1) >= LEAST_RMS**2)
    found: dict[int, str] = {}
    if len(loud):
        power = _power(frames[loud] * _KEY_WINDOW)
        total = power.sum(axis=1)
        low_share, low_hz = _strongest(power, _KEY_BIN_HZ, 640.0, 1000.0)
        high_share, high_hz = _strongest(power, _KEY_BIN_HZ, 1140.0, 1730.0)
        both = (low_share + high_share) / total >= LEAST_SHARE
        even = (low_share <= MOST_TWIST * high_share) & (high_share <= MOST_TWIST * low_share)
        for place in np.flatnonzero(both & even):
            row, column = _nearest(low_hz[place], LOW_HZ), _nearest(high_hz[place], HIGH_HZ)
            if row is not None and column is not None:
                found[int(loud[place])] = KEYS[row][column]
    return (found.get(place) for place in range(len(frames)))


def _nearest(frequency: float, nominal: tuple[float, ...]) -> int | None:
    place = min(range(len(nominal)), key=lambda each: abs(frequency - nominal[each]))
    return place if abs(frequency - nominal[place]) <= KEY_TOLERANCE * nominal[place] else None


def _steady_frequencies(frames: NDArray[np.float32]) -> Iterator[tuple[float, ...] | None]:
    """The one or two frequencies, low to high, that nearly all of a frame's energy is in; None: it is no tone."""
    loud = np.flatnonzero((frames**2).mean(axis=1) >= LEAST_RMS**2)
    found: dict[int, tuple[float, ...]] = {}
    if len(loud):
        power = _power(frames[loud] * _TONE_WINDOW)
        total = power.sum(axis=1)
        first_share, first_hz = _strongest(power, _TONE_BIN_HZ, 0.0, RATE_HZ / 2, forget=True)
        second_share, second_hz = _strongest(power, _TONE_BIN_HZ, 0.0, RATE_HZ / 2)
        for place in range(len(loud)):
            if first_hz[place] < LOWEST_TONE_HZ:
                continue
            if first_share[place] / total[place] >= LEAST_SHARE:
                found[int(loud[place])] = (float(first_hz[place]),)
            elif (first_share[place] + second_share[place]) / total[place] >= LEAST_SHARE and (
                second_hz[place] >= LOWEST_TONE_HZ
            ):
                found[int(loud[place])] = tuple(sorted((float(first_hz[place]), float(second_hz[place]))))
    return (found.get(place) for place in range(len(frames)))


def _power(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    spectrum = np.fft.rfft(frames, axis=1)
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32)


def _strongest(
    power: NDArray[np.float32], bin_hz: float, from_hz: float, to_hz: float, *, forget: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The strongest peak of each row between two frequencies: the power of its main lobe, and its frequency.

    The frequency is between bins, by a parabola through the logarithms of three (Smith, Spectral Audio Signal
    Processing, "Quadratic Interpolation of Spectral Peaks"). Hann's main lobe is four bins wide. `forget` takes it
    out of `power`.
    """
    rows = np.arange(len(power))
    first, last = max(1, round(from_hz / bin_hz)), min(power.shape[1] - 2, round(to_hz / bin_hz))
    peak = first + power[:, first : last + 1].argmax(axis=1)
    lobe = np.clip(peak[:, None] + np.arange(-2, 3), 0, power.shape[1] - 1)
    share = power[rows[:, None], lobe].sum(axis=1)
    left, middle, right = (np.log(power[rows, peak + step] + 1e-30) for step in (-1, 0, 1))
    curve = left - 2 * middle + right
    shift = np.where(np.abs(curve) > 1e-12, 0.5 * (left - right) / np.where(curve == 0, 1, curve), 0.0)
    frequency = (peak + np.clip(shift, -0.5, 0.5)) * bin_hz
    if forget:
        power[rows[:, None], lobe] = 0.0
    return share, frequency
