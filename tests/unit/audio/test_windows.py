"""Windows lie within speech, in order, at most so long, and hold the call's own samples."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.recordings import VOICEMAIL, read
from warmline.audio.resampling import SAMPLE_RATE_HZ, in_slabs
from warmline.audio.speech import CHUNK_SAMPLES, SpeechModel
from warmline.audio.windows import MAX_JOINED_PAUSE_SAMPLES, ChannelCutter, Window

Samples = NDArray[np.float32]


def cut(
    samples: Samples, *, window_seconds: float = 5.0, slab_chunks: int = 512, min_samples: int = 400
) -> list[Window]:
    cutter = ChannelCutter(
        1,
        SpeechModel(),
        window_samples=round(window_seconds * SAMPLE_RATE_HZ),
        threshold=0.5,
        min_samples=min_samples,
    )
    windows = []
    for slab in in_slabs([samples[:, None]], slab_chunks * CHUNK_SAMPLES):
        windows.extend(cutter.push(slab[:, 0]))
    return [*windows, *cutter.finish()]


def spans(windows: list[Window]) -> list[tuple[int, int]]:
    return [(window.start_sample, window.end_sample) for window in windows]


@pytest.fixture(scope="module")
def voicemail() -> Samples:
    """Mono at 16 kHz; five stretches of speech, pauses of 0.2 to 1.6 s between them."""
    return read(VOICEMAIL)[0][:, 0]


@pytest.fixture(scope="module")
def monologue(voicemail: Samples) -> Samples:
    """65 s of speech that never pauses: one sentence of the voicemail over and over."""
    sentence = voicemail[round(7.2 * SAMPLE_RATE_HZ) : round(9.4 * SAMPLE_RATE_HZ)]
    return np.tile(sentence, 30)[: 65 * SAMPLE_RATE_HZ]


def test_a_windows_samples_are_the_calls(voicemail: Samples) -> None:
    windows = cut(voicemail)
    assert len(windows) == 3
    for window in windows:
        assert window.channel == 1
        assert np.array_equal(window.samples, voicemail[window.start_sample : window.end_sample])


@pytest.mark.parametrize("window_seconds", [0.5, 1.0, 5.0, 30.0])
def test_windows_are_in_order_and_within_their_limits(voicemail: Samples, window_seconds: float) -> None:
    windows = cut(voicemail, window_seconds=window_seconds)
    edges = [0, *[edge for span in spans(windows) for edge in span], len(voicemail)]
    assert edges == sorted(edges)
    lengths = [len(window.samples) for window in windows]
    assert max(lengths) <= window_seconds * SAMPLE_RATE_HZ
    assert min(lengths) >= 0.25 * SAMPLE_RATE_HZ


@pytest.mark.parametrize("slab_chunks", [1, 7, 100])
def test_the_size_of_slabs_changes_nothing(voicemail: Samples, monologue: Samples, slab_chunks: int) -> None:
    for samples in (voicemail, monologue[: 40 * SAMPLE_RATE_HZ]):
        assert spans(cut(samples, slab_chunks=slab_chunks)) == spans(cut(samples))


def test_short_neighbours_are_joined_across_a_short_pause_only(voicemail: Samples) -> None:
    # Given the voicemail's three sentences, cut into windows so short that each is on its own
    single = spans(cut(voicemail, window_seconds=1.0))
    # When windows are long enough for all that belongs together
    joined = spans(cut(voicemail, window_seconds=30.0))
    # Then they were joined where the pause is short, and nowhere else
    assert len(joined) == 2
    assert len(joined) < len(single)
    pauses = [right[0] - left[1] for left, right in pairwise(joined)]
    assert min(pauses) > MAX_JOINED_PAUSE_SAMPLES
    assert {joined[0][0], joined[-1][1]} == {single[0][0], single[-1][1]}


def test_a_long_segment_is_cut_into_equal_windows(monologue: Samples) -> None:
    # Given 13 s of unbroken speech
    windows = spans(cut(monologue[: 13 * SAMPLE_RATE_HZ]))
    # When it is cut, then three windows of one length follow one another
    lengths = {end - start for start, end in windows}
    assert len(windows) == 3
    assert max(lengths) - min(lengths) <= 1
    assert all(left[1] == right[0] for left, right in pairwise(windows))


def test_speech_that_never_pauses_is_covered_without_a_gap(monologue: Samples) -> None:
    windows = spans(cut(monologue))
    assert all(left[1] == right[0] for left, right in pairwise(windows))
    assert windows[-1][1] - windows[0][0] > 64 * SAMPLE_RATE_HZ
    assert {end - start for start, end in windows[:6]} == {5 * SAMPLE_RATE_HZ}
    assert min(end - start for start, end in windows) >= 2.5 * SAMPLE_RATE_HZ


def test_silence_and_noise_give_no_window() -> None:
    assert cut(np.zeros(10 * SAMPLE_RATE_HZ, np.float32)) == []
    noise = np.random.default_rng(1).standard_normal(10 * SAMPLE_RATE_HZ).astype(np.float32)
    assert cut(noise * 0.01) == []
    assert cut(np.zeros(0, np.float32)) == []


def test_no_window_is_shorter_than_the_model_asks_for(voicemail: Samples) -> None:
    windows = cut(voicemail, min_samples=SAMPLE_RATE_HZ)
    assert windows
    assert min(len(window.samples) for window in windows) >= SAMPLE_RATE_HZ
    with pytest.raises(ValueError, match="too short"):
        cut(voicemail, window_seconds=1.0, min_samples=SAMPLE_RATE_HZ)
