"""Telephone keys and steady tones are told from voices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.made_calls import KEY, RATE_HZ, Samples, noise, side, tone, voice
from tests.recordings import ALL_CALLS, read
from warmline.audio.resampling import to_16_khz
from warmline.audio.speech import CHUNK_SAMPLES
from warmline.audio.tones import KEYS, LAG_CHUNKS, MOST_TONES, FoundTone, ToneFinder


def follow(samples: Samples, *, slab_chunks: int = 512) -> tuple[NDArray[np.bool_], tuple[FoundTone, ...]]:
    """The chunks that are tones, and the tones."""
    finder, told = ToneFinder(), []
    whole = samples[: len(samples) // CHUNK_SAMPLES * CHUNK_SAMPLES]
    for first in range(0, len(whole), slab_chunks * CHUNK_SAMPLES):
        told += [finder.push(whole[first : first + slab_chunks * CHUNK_SAMPLES])]
    return np.concatenate([*told, finder.finish()]), finder.tones


def dialled(text: str, *, key_seconds: float = 0.07, pause_seconds: float = 0.07, dbfs: float = -15) -> Samples:
    pause = np.zeros(round(pause_seconds * RATE_HZ), np.float32)
    return np.concatenate(
        [pause, *(part for key in text for part in (tone(key_seconds, *KEY[key], dbfs=dbfs), pause))]
    )


@pytest.mark.parametrize("seconds", [0.05, 0.065, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("noise_dbfs", [-90, -30])
def test_all_sixteen_keys(seconds: float, noise_dbfs: float) -> None:
    # Given all keys, the shortest near the shortest that exchanges take, over a line's noise
    text = "".join(KEYS)
    sound = dialled(text, key_seconds=seconds)
    sound = sound + noise(len(sound) / RATE_HZ, dbfs=noise_dbfs)[: len(sound)]
    # When they are followed, then each is told, at its time, with its frequencies
    is_tone, found = follow(sound)
    assert "".join(each.digit or "?" for each in found) == text
    for place, each in enumerate(found):
        start = 0.07 + place * (seconds + 0.07)
        assert each.start / RATE_HZ == pytest.approx(start, abs=0.035)
        assert each.end / RATE_HZ == pytest.approx(start + seconds, abs=0.035)
        assert each.frequencies_hz == tuple(round(frequency) for frequency in KEY[text[place]])
        # And no chunk within it is left to the search for speech
        first, last = round(start * RATE_HZ) // CHUNK_SAMPLES, round((start + seconds) * RATE_HZ) // CHUNK_SAMPLES
        assert is_tone[first:last].all()


def test_keys_through_a_telephone_line() -> None:
    # Given keys at 8 kHz, quantised as mu-law does it
    sound = dialled("19*5#0", dbfs=-25)[::2]
    companded = np.sign(sound) * np.log1p(255 * np.abs(sound)) / np.log1p(255)
    coarse = np.round(companded * 127) / 127
    line = (np.sign(coarse) * ((1 + 255) ** np.abs(coarse) - 1) / 255).astype(np.float32)
    wide = np.concatenate(list(to_16_khz([line[:, None]], sample_rate_hz=8_000, channels=1)))[:, 0]
    assert "".join(each.digit or "?" for each in follow(wide)[1]) == "19*5#0"


def test_what_is_no_key() -> None:
    # Two tones that are off by more than the standard allows, a key's two tones of very different level
    off = np.concatenate([tone(0.2, 697 * 1.035, 1209), np.zeros(8000), tone(0.2, 697, 1209 * 0.965)])
    twisted = tone(0.2, 770, dbfs=-10) + tone(0.2, 1336, dbfs=-25)
    for sound in (off, twisted):
        assert [
            each.digit for each in follow(np.concatenate([sound, np.zeros(16_000)]).astype(np.float32))[1]
        ] in (
            [],
            [None],
        )


@pytest.mark.parametrize("frequencies", [(425,), (440, 480), (350, 440), (480, 620), (1004,), (2100,)])
@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_steady_tones(frequencies: tuple[int, ...], seconds: float) -> None:
    # Given a ring, a dial tone, a busy one, a test tone, a fax machine's answer
    is_tone, (found,) = follow(side(seconds + 3, (1.2, tone(seconds, *frequencies))))
    assert found.kind == "tone"
    assert found.frequencies_hz == tuple(pytest.approx(each, abs=4) for each in frequencies)
    assert found.start / RATE_HZ == pytest.approx(1.2, abs=0.1)
    assert found.end / RATE_HZ == pytest.approx(1.2 + seconds, abs=0.1)
    assert is_tone[
        round(1.23 * RATE_HZ) // CHUNK_SAMPLES : round((1.17 + seconds) * RATE_HZ) // CHUNK_SAMPLES
    ].all()
    assert is_tone.sum() <= (seconds * RATE_HZ) // CHUNK_SAMPLES + 8


def test_what_is_no_tone() -> None:
    # A siren, whose pitch does not stand still, and the hum of the mains
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    siren = 0.2 * np.sin(2 * np.pi * (400 * time + 60 * time**2))
    hum = tone(3, 100) + tone(3, 50)
    for sound in (siren, hum):
        assert follow(side(5, (1, sound.astype(np.float32))))[1] == ()


def test_a_pause_of_any_length_ends_a_tone() -> None:
    # Given two tones and two keys, the first of which ends with a slab, and silence between them that fills slabs
    slab_chunks = 32
    ends = 2 * slab_chunks * CHUNK_SAMPLES / RATE_HZ
    for sound, pause_seconds in ((tone(1, 425), 40), (tone(0.1, *KEY["5"]), 40), (tone(1, 425), 0.3)):
        again = ends + pause_seconds
        call = side(again + 3, (ends - len(sound) / RATE_HZ, sound), (again, sound), noise_dbfs=None)
        first, second = follow(call, slab_chunks=slab_chunks)[1]
        assert first.end / RATE_HZ == pytest.approx(ends, abs=0.1)
        assert second.start / RATE_HZ == pytest.approx(again, abs=0.1)


@pytest.mark.parametrize("path", ALL_CALLS, ids=lambda path: path.name)
def test_no_voice_is_a_tone(path: object) -> None:
    samples, rate_hz = read(path)  # type: ignore[arg-type]
    wide = np.concatenate(list(to_16_khz([samples], sample_rate_hz=rate_hz, channels=samples.shape[1])))
    for channel in range(wide.shape[1]):
        is_tone, found = follow(np.ascontiguousarray(wide[:, channel]))
        assert (is_tone.any(), found) == (False, ())


def test_neither_is_noise_nor_silence() -> None:
    assert not follow(noise(5, dbfs=-20))[0].any()
    assert not follow(np.zeros(80_000, np.float32))[0].any()


def test_the_size_of_slabs_changes_nothing() -> None:
    rings = (1.7, tone(1.1, 425)), (8.3, tone(2.9, 440, 480))
    sound = side(12, (0.3, dialled("1A#")), *rings, (3.5, voice(4)), (11.5, dialled("7")))
    whole = follow(sound)
    assert [each.digit for each in whole[1]] == ["1", "A", "#", None, None, "7"]
    for slab_chunks in (1, 3, LAG_CHUNKS, 100):
        in_slabs = follow(sound, slab_chunks=slab_chunks)
        assert in_slabs[1] == whole[1]
        assert (in_slabs[0] == whole[0]).mean() > 0.98  # chunks beside a tone may be told of before it


def test_a_channel_has_as_many_tones_as_are_told_of() -> None:
    sound = dialled("12" * (MOST_TONES // 2 + 3), key_seconds=0.055, pause_seconds=0.05)
    is_tone, found = follow(sound)
    assert len(found) == MOST_TONES
    assert is_tone[-3:].any()
