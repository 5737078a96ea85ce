"""int8 for OpenVINO: NNCF finds the ranges of every layer's input in the user's own speech.

Post-training quantization, as NNCF does it for transformers (https://github.com/openvinotoolkit/nncf).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from warmline.emotion.converted import locked
from warmline.emotion.engine import Samples
from warmline.emotion.fidelity import forget_record
from warmline.emotion.openvino_engine import normalised
from warmline.emotion.openvino_model import MODEL_FILE, find_traced, int8_folder, write_model
from warmline.emotion.openvino_runtime import forbid_telemetry, import_openvino
from warmline.emotion.printing import printed_to_log
from warmline.jobs.errors import ModelUnusable

if TYPE_CHECKING:
    from warmline.emotion.loading import Model

# The convolutions over samples and over frames, by their modules' names. With the mini model int8 there cost most
# of the fidelity: the largest difference fell from 0.12 to 0.04 without, and no window flipped any more.
NOT_QUANTIZED = (r".*\.frontend\..*", r".*\.positions\..*")

log = structlog.get_logger()


def import_nncf() -> Any:
    """The module `nncf`. Raises ModelUnusable where it is not installed."""
    forbid_telemetry()
    try:
        with printed_to_log("nncf_printed"):
            import nncf
    except ImportError as error:
        raise ModelUnusable(
            f"Quantizing needs the package nncf ({error}). Install it with `pip install nncf`, or Warmline with"
            " [quantize]."
        ) from None
    return nncf


def quantize(model: Model, windows: Sequence[Samples]) -> Path:
    """Quantizes a model with these windows and puts it beside its converted weights; returns its file.

    Whatever was measured of an earlier one is forgotten. Raises ModelUnusable where NNCF is not installed or
    nothing can be written.
    """
    nncf = import_nncf()
    weights = model.convert("fp32")
    traced = find_traced(weights, model.configuration.architecture)
    if weights.file is None or not isinstance(traced, Path):
        raise ModelUnusable(
            f"{model.models_dir} cannot be written to; set WARMLINE_MODELS_DIR to a place that can."
        )
    normal = [normalised(window)[None] if model.configuration.architecture.normalize else window[None]
              for window in windows]  # fmt: skip
    started = time.perf_counter()
    with printed_to_log("nncf_printed"):
        nncf.set_log_level(logging.ERROR)
        quantized = nncf.quantize(
            import_openvino().Core().read_model(traced),
            nncf.Dataset(normal),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(normal),
            ignored_scope=nncf.IgnoredScope(patterns=list(NOT_QUANTIZED)),
            # CPUs without VNNI add products of 8 bits in 16, and overflow: weights get 7 bits.
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )
    folder = int8_folder(weights.file.parent)
    try:
        with locked(folder.parent / "lock"):
            forget_record(folder.parent, engine="openvino", precision="int8")
            write_model(folder, quantized)
    except OSError as error:
        raise ModelUnusable(f"The quantized model cannot be kept: {error.strerror or error}.") from None
    log.info("model_quantized", windows=len(normal), seconds=round(time.perf_counter() - started, 2))
    return folder / MODEL_FILE
