"""The peer: OpenVINO alone, prepared windows in and frames' means out, with nothing of ours around it.

It runs the same traced graph as our own engine, without the head, which is ours: so a ratio below 1 is what the
engine's own steps cost.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.subject import read_windows
from warmline.emotion.loading import open_model
from warmline.emotion.openvino_engine import normalised
from warmline.emotion.openvino_model import find_traced
from warmline.emotion.openvino_runtime import import_openvino


class BareOpenvino:
    """Compiled once; runs its windows one after another."""

    def __init__(self, *, model: str, models_dir: str, threads: int, clips: str, precision: str = "bf16") -> None:
        started = time.perf_counter()
        opened = open_model(model, Path(models_dir))
        graph = find_traced(opened.convert("fp32"), opened.configuration.architecture)
        self._compiled = (
            import_openvino()
            .Core()
            .compile_model(
                graph,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": threads,
                    "INFERENCE_PRECISION_HINT": precision,
                },
            )
        )
        self._windows = [normalised(clip)[None] for clip in read_windows(clips)]  # (1, S) each
        # What was asked for is not what runs where the CPU does not multiply it: the compiled model knows.
        ran = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.facts: dict[str, Any] = {"load": time.perf_counter() - started, "precision": ran}

    def run(self, _: dict[str, Any]) -> dict[str, Any]:
        """Scores the windows."""
        for window in self._windows:
            self._compiled(window)
        return {}
