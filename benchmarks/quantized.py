"""An int8 model of OpenVINO's, calibrated on other windows than those that it is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.subject import read_windows
from warmline.emotion.loading import open_model
from warmline.emotion.openvino_quantize import quantize


class Quantized:
    """The subject that makes it, beside the model's converted weights."""

    def __init__(self, *, model: str, models_dir: str, clips: str) -> None:
        quantize(open_model(model, Path(models_dir)), read_windows(clips))
        self.facts: dict[str, Any] = {}

    def run(self, _: dict[str, Any]) -> dict[str, Any]:
        """Nothing more to do."""
        return {}
