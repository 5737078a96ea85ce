"""The engine for CPUs that multiply bf16 or int8: OpenVINO, one window at a time, each at its own length."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray

from warmline.emotion.architecture import DEFAULT_EPS
from warmline.emotion.converted import Weights
from warmline.emotion.engine import SAMPLE_RATE, Embeddings, Engine, EngineInfo, Samples, Scores
from warmline.emotion.fidelity import quantize_command
from warmline.emotion.loading import describe_engine
from warmline.emotion.openvino_model import find_int8, find_traced
from warmline.emotion.openvino_runtime import compile_model, last_line
from warmline.emotion.placement import Placement
from warmline.emotion.torch_engine import TorchEngine, build_model
from warmline.jobs.errors import ModelUnusable, OutOfMemory

if TYPE_CHECKING:
    from warmline.emotion.loading import Model

# The longest window that WARMLINE_AUDIO_WINDOW_SECONDS allows. The traced attention makes its whole bias of
# (heads, N, N) at once and OpenVINO keeps the memory: 0.6 GB for 30 s of the large model, sixteen times that
# for a whole channel of 120 s, which torch computes in blocks.
LONGEST_SAMPLES = 30 * SAMPLE_RATE

log = structlog.get_logger()


def normalised(window: Samples) -> Samples:
    """A window at zero mean and unit variance, as `Emotion2Vec` makes it of samples."""
    with np.errstate(all="ignore"):  # samples that are no numbers make scores that are none
        centred = window - window.mean()
        normal: Samples = centred / np.sqrt(np.square(centred).mean() + np.float32(DEFAULT_EPS))
    return normal


class OpenvinoEngine:
    """Scores windows with a compiled model; see `Engine`.

    The compiled model takes any length, so no window is padded and none can tell of another: a length that was
    never seen costs some milliseconds once. A fixed shape would be a little faster, for full windows only.
    `head` is the model's last layer, (tokens, C) and (tokens,), and `rows` its rows in use.
    """

    windows_at_once = 1

    def __init__(
        self,
        compiled: Any,
        info: EngineInfo,
        *,
        head: tuple[NDArray[np.float32], NDArray[np.float32]],
        rows: Sequence[int],
        min_samples: int,
        normalize: bool,
        load_for_long: Callable[[], Engine],
    ) -> None:
        self.info = info
        self.min_samples = min_samples
        self.embedding_dimensions = head[0].shape[1]
        self._request = compiled.create_infer_request()
        self._weight, self._bias = head[0][list(rows)].T.copy(), head[1][list(rows)]  # (C, labels), (labels,)
        self._normalize = normalize
        self._load_for_long = load_for_long
        self._for_long: Engine | None = None

    def prepare(self, windows: Sequence[Samples]) -> list[Samples]:
        """The windows, normalised where they are OpenVINO's. Raises ValueError for one that is too short."""
        for window in windows:
            if window.ndim != 1 or window.size < self.min_samples:
                raise ValueError(f"a window is one row of at least {self.min_samples} samples, not {window.shape}")
        if not self._normalize:
            return list(windows)
        return [window if window.size > LONGEST_SAMPLES else normalised(window) for window in windows]

    def infer(
        self,
        prepared: Sequence[Samples],
        *,
        embeddings: bool = False,  # they are what the scores are made of
    ) -> list[Embeddings]:
        """Each window's mean frame (1, C). Raises OutOfMemory where a window has no room."""
        return [
            self._mean_of_long(window) if window.size > LONGEST_SAMPLES else self._mean(window)
            for window in prepared
        ]

    def _mean(self, normal: Samples) -> Embeddings:
        try:
            (mean,) = self._request.infer([np.ascontiguousarray(normal[None], dtype=np.float32)]).values()
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "alloc" not in str(error):
                raise
            raise OutOfMemory(
                f"A window of {normal.size / SAMPLE_RATE:.0f} s does not fit into this machine's memory."
                " Use fewer engines, or lower WARMLINE_AUDIO_WINDOW_SECONDS."
            ) from None
        return mean  # type: ignore[no-any-return]  # a copy: the request's own memory is written again

    def _mean_of_long(self, window: Samples) -> Embeddings:
        if self._for_long is None:
            self._for_long = self._load_for_long()
        engine = self._for_long
        return engine.embeddings(engine.infer(engine.prepare([window]), embeddings=True))

    def finish(self, output: Sequence[Embeddings]) -> Scores:
        """Probabilities of the labels in use."""
        return np.concatenate([np.empty((0, self._bias.size), np.float32), *map(self._classify, output)])

    def _classify(self, mean: Embeddings) -> Scores:
        # Each window by itself: in one product with others its last digits would be theirs too.
        logits = mean @ self._weight + self._bias  # (1, labels)
        odds = np.exp(logits - logits.max())
        scores: Scores = odds / odds.sum()
        return scores

    def embeddings(self, output: Sequence[Embeddings]) -> Embeddings:
        """See `Engine`."""
        return np.concatenate([np.empty((0, self.embedding_dimensions), np.float32), *output])


def load_openvino_engine(model: Model, placement: Placement) -> Engine:
    """Loads a model into OpenVINO on the CPU.

    Raises ModelUnusable where OpenVINO is not installed, where it would not run in the precision that was asked
    for, and for an int8 that nobody has made.
    """
    weights = model.convert("fp32")
    architecture = model.configuration.architecture
    if placement.precision == "int8":
        compiled = _compile_int8(model, weights, placement)
    else:
        compiled = _compile_traced(model, weights, placement)
    info = describe_engine(model, placement, weights.model_hash)
    return OpenvinoEngine(
        compiled,
        info,
        head=(weights.state["head.weight"].numpy(), weights.state["head.bias"].numpy()),
        rows=model.labels.rows,
        min_samples=architecture.min_samples,
        normalize=architecture.normalize,
        load_for_long=lambda: _load_torch(model, info, weights),
    )


def _compile_traced(model: Model, weights: Weights, placement: Placement) -> Any:
    # The result is not kept: for the large model in fp32 that saved 0.3 s of 1.2 s, for 1.3 GB.
    architecture = model.configuration.architecture
    traced = find_traced(weights, architecture)
    try:
        return compile_model(traced, placement.precision, placement.threads)
    except RuntimeError as error:
        if not isinstance(traced, Path):
            raise
        # Written whole or not at all by us, so the disk or somebody else broke it.
        log.warning("openvino_model_broken", file=str(traced), reason=last_line(error))
    return compile_model(find_traced(weights, architecture, anew=True), placement.precision, placement.threads)


def _compile_int8(model: Model, weights: Weights, placement: Placement) -> Any:
    file = find_int8(weights.file.parent if weights.file else None, model.found.directory)
    # Kept: what a quantized model takes longest for is to be made ready for this CPU, 4.6 s or 1.3 s.
    cache_dir = file.parent / "compiled" if os.access(file.parent, os.W_OK) else None
    try:
        return compile_model(file, placement.precision, placement.threads, cache_dir=cache_dir)
    except RuntimeError as error:
        command = quantize_command(model.found.directory)
        raise ModelUnusable(
            f"{file.parent} is broken ({last_line(error)}). Make it anew with {command}."
        ) from None


def _load_torch(model: Model, info: EngineInfo, weights: Weights) -> Engine:
    """The same model in torch, on the mapped weights: bf16 in bf16, int8 in fp32, as torch has no int8."""
    log.info("long_windows_in_torch", longer_than_seconds=LONGEST_SAMPLES // SAMPLE_RATE)
    if info.precision == "bf16":
        weights = model.convert("bf16")
    network = build_model(model.configuration.architecture, weights, "cpu")
    return TorchEngine(network, model.labels, info, batch_samples=0)
