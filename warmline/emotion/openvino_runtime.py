"""OpenVINO, imported so that nothing is sent to anyone; models compiled for this process's share of the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from warmline.emotion.device import Precision
from warmline.jobs.errors import ModelUnusable


def import_openvino() -> ModuleType:
    """The module `openvino`. Raises ModelUnusable where it is not installed. Import it nowhere else.

    `import openvino` alone reports to its maker over the network, and so do its converter and NNCF. All of them go
    on without a word where the package that does it is not to be had.
    """
    forbid_telemetry()
    try:
        import openvino
    except ImportError as error:
        raise ModelUnusable(
            f"The openvino engine needs the package openvino ({error}). Install Warmline with [worker], or set"
            " WARMLINE_ENGINE to torch."
        ) from None
    return openvino  # type: ignore[no-any-return]


def forbid_telemetry() -> None:
    """Makes `import openvino_telemetry` fail in this process: Python's own way to block a module."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def compile_model(model: Any, precision: Precision, threads: int, *, cache_dir: Path | None = None) -> Any:
    """Compiles an `ov.Model`, or the file of one, for the CPU; the result is kept in `cache_dir` for next time.

    Raises ModelUnusable where the CPU has no bf16, and RuntimeError where the file is broken.
    """
    openvino = import_openvino()
    options: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Each process would pin its threads to the same first cores, whoever else runs there.
        "ENABLE_CPU_PINNING": False,
    }
    wanted = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}.get(precision)
    if wanted is not None:
        # Said in fp32 too: without it the plugin takes bf16 wherever the CPU has it, as it may for what is not
        # quantized in an int8 model.
        options["INFERENCE_PRECISION_HINT"] = wanted
    if cache_dir is not None:
        # Not OPTIMIZE_SIZE, whose files are small: what it loads in 2026.4.1 scores differently.
        options |= {"CACHE_DIR": str(cache_dir), "CACHE_MODE": "OPTIMIZE_SPEED"}
    compiled = openvino.Core().compile_model(str(model) if isinstance(model, Path) else model, "CPU", options)
    runs = compiled.get_property("INFERENCE_PRECISION_HINT")
    if wanted is not None and runs != wanted:
        raise ModelUnusable(
            f"OpenVINO has no {precision} on this CPU and would go on in {runs.to_string()}. Set"
            " WARMLINE_PRECISION to auto or fp32."
        )
    return compiled


def last_line(error: Exception) -> str:
    """What OpenVINO says was wrong: its messages begin with where in its sources they were raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
