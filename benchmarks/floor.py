"""The floor: how much arithmetic the model is, and how much of it this machine does in a second.

No engine scores faster than the matrix rate over the model's FLOP; the table says which share of it is reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from warmline.emotion.configuration import read_configuration
from warmline.emotion.engine import SAMPLE_RATE
from warmline.emotion.labels import read_labels

WINDOW_SECONDS = 5
WINDOW_SAMPLES = WINDOW_SECONDS * SAMPLE_RATE
MEASURED_SECONDS = 1.5


def matrix_rate(dtype: torch.dtype, *, rows: int, inner: int, outer: int) -> float:
    """FLOP a second of a linear layer of this shape with torch's present threads: the best of several runs."""
    x, weight = torch.randn(rows, inner).to(dtype), torch.randn(outer, inner).to(dtype)
    with torch.inference_mode():
        seconds = _best(lambda: torch.nn.functional.linear(x, weight))
    return 2.0 * rows * inner * outer / seconds


def _best(work: Callable[[], object]) -> float:
    work()
    best, until = float("inf"), time.perf_counter() + MEASURED_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


class Floor:
    """The subject that measures it, in a process of its own."""

    def __init__(self, *, model: str, threads: int) -> None:
        torch.set_num_threads(threads)
        directory = Path(model)
        self._architecture = read_configuration(directory, labels=len(read_labels(directory).tokens)).architecture
        self.facts: dict[str, Any] = {}

    def run(self, _: dict[str, Any]) -> dict[str, Any]:
        """FLOP for a second of audio in 5 s windows, and the rates of the shapes that a 5 s window has."""
        width = self._architecture.embed_dim
        shape = {
            "rows": self._architecture.frames(WINDOW_SAMPLES) + self._architecture.extra_tokens,
            "inner": width,
            "outer": int(width * self._architecture.mlp_ratio),
        }
        return {
            "flop_per_audio_second": self._architecture.flop_per_window(WINDOW_SAMPLES) / WINDOW_SECONDS,
            "fp32_flop_per_second": matrix_rate(torch.float32, **shape),
            "bf16_flop_per_second": matrix_rate(torch.bfloat16, **shape),
        }
