"""How likely each 32 ms of a channel is speech: silero-vad's sequence model, run by onnxruntime on one core."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from warmline.jobs.errors import ModelUnusable

CHUNK_SAMPLES = 512  # 32 ms at 16 kHz: what one probability stands for
# The end of the chunk before goes in front of each chunk. Without it the model finds no speech and says nothing.
CONTEXT_SAMPLES = 64
_MODEL_FILE = "silero_vad_16k_sequence.onnx"


@dataclass
class SpeechState:
    """What the model remembers of one channel between calls."""

    hidden: NDArray[np.float32]  # (1, 1, 128)
    cell: NDArray[np.float32]  # (1, 1, 128)
    context: NDArray[np.float32]  # (64,): the end of the last chunk

    @classmethod
    def initial(cls) -> SpeechState:
        """At a channel's beginning: silence came before."""
        hidden, cell, context = _nothing_heard()
        return cls(hidden=hidden, cell=cell, context=context)


class SpeechModel:
    """silero-vad 6, loaded (about 10 ms, 1.2 MB). Keeps nothing between calls; `SpeechState` does."""

    def __init__(self) -> None:
        """Raises ModelUnusable where the installation lacks the model's file."""
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        # Cores are shared out among worker processes; one core is hundreds of times faster than real time.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(_find_model_file()), options, providers=["CPUExecutionProvider"]
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelUnusable(
                f"silero-vad's model cannot be loaded ({error}); install silero-vad==6.2.3 again."
            ) from None

    def probabilities(self, samples: NDArray[np.float32], state: SpeechState) -> NDArray[np.float32]:
        """One probability a chunk, (chunks,), for the next (samples,), at least one, of a channel at 16 kHz.

        Updates `state`. All but a channel's last call have a multiple of CHUNK_SAMPLES; the last is filled up with
        silence.
        """
        chunk_count = -(-len(samples) // CHUNK_SAMPLES)
        if not np.any(samples != samples[0]):
            # Digital silence: a side that is muted or was never recorded. It holds no speech, and the model would
            # take as long over it as over any other side.
            state.hidden, state.cell, state.context = _nothing_heard()
            return np.zeros(chunk_count, np.float32)
        chunks = np.zeros((chunk_count, CHUNK_SAMPLES), np.float32)
        chunks.reshape(-1)[: len(samples)] = samples
        inputs = np.empty((chunk_count, CONTEXT_SAMPLES + CHUNK_SAMPLES), np.float32)
        inputs[:, CONTEXT_SAMPLES:] = chunks
        inputs[1:, :CONTEXT_SAMPLES] = chunks[:-1, -CONTEXT_SAMPLES:]
        inputs[0, :CONTEXT_SAMPLES] = state.context
        probabilities, state.hidden, state.cell = self._session.run(
            ["speech_probs", "hn", "cn"], {"input": inputs, "h": state.hidden, "c": state.cell}
        )
        state.context = chunks[-1, -CONTEXT_SAMPLES:].copy()
        found: NDArray[np.float32] = probabilities
        return found


def _nothing_heard() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    zeros = np.zeros((1, 1, 128), np.float32)
    return zeros, zeros, np.zeros(CONTEXT_SAMPLES, np.float32)


def _find_model_file() -> Path:
    # Found without importing silero_vad, which would import torch.
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise ModelUnusable("silero-vad is not installed; install silero-vad==6.2.3.")
    return Path(spec.origin).parent / "data" / _MODEL_FILE


def _import_onnxruntime() -> ModuleType:
    """Its Linux wheel would tell Microsoft how it is used: forbidden before it is loaded, when it begins to."""
    os.putenv("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")
