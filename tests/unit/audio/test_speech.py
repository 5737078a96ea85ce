"""The speech probabilities are silero-vad's own."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.recordings import BILLING, VOICEMAIL, read
from warmline.audio.speech import CHUNK_SAMPLES, SpeechModel, SpeechState


@pytest.mark.parametrize(("path", "channel"), [(VOICEMAIL, 0), (BILLING, 1)])
def test_probabilities_equal_those_of_silero_itself(path: Path, channel: int) -> None:
    # Given a channel at 16 kHz, and the probabilities that silero's own wrapper gives chunk by chunk
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import silero_vad

        reference = silero_vad.load_silero_vad(onnx=True)
    call, rate_hz = read(path)
    samples = soxr.resample(call[:, channel], rate_hz, 16_000).astype(np.float32)
    expected = reference.audio_forward(torch.from_numpy(samples)[None], sr=16_000).numpy()[0]
    # When ours come in one call, and in calls of 100 chunks
    model = SpeechModel()
    at_once = model.probabilities(samples, SpeechState.initial())
    state = SpeechState.initial()
    steps = range(0, len(samples), 100 * CHUNK_SAMPLES)
    in_parts = np.concatenate([model.probabilities(samples[i : i + 100 * CHUNK_SAMPLES], state) for i in steps])
    # Then all three agree, and there is both speech and silence to agree on
    np.testing.assert_allclose(at_once, expected, atol=1e-4)
    np.testing.assert_allclose(in_parts, at_once, atol=1e-5)
    assert expected.max() > 0.9
    assert expected.min() < 0.1


def test_digital_silence_is_no_speech_and_leaves_nothing_behind() -> None:
    # Given a channel that was muted for a while between two stretches of speech
    samples = read(VOICEMAIL)[0][:, 0]
    speech = samples[: len(samples) // CHUNK_SAMPLES * CHUNK_SAMPLES]
    muted = np.full(100 * CHUNK_SAMPLES, 0.25, np.float32)
    # When it is followed slab by slab
    model, state = SpeechModel(), SpeechState.initial()
    before, during, after = (model.probabilities(slab, state) for slab in (speech, muted, speech))
    # Then the mute holds no speech, and what comes after it is heard as if it came first
    assert during.tolist() == [0.0] * 100
    assert np.array_equal(before, after)


def test_the_runtime_tells_nobody_that_it_was_used(tmp_path: Path) -> None:
    # Given a process that has a home of its own
    script = "from warmline.audio.speech import SpeechModel; SpeechModel(); import time; time.sleep(0.5)"
    root = Path(__file__).parents[3]
    # When it loads the model
    subprocess.run([sys.executable, "-c", script], env={"HOME": str(tmp_path)}, cwd=root, check=True)
    # Then there is no device id in it, and no store of events to be sent
    assert list(tmp_path.rglob("*")) == []
