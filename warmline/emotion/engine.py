"""What runs a model, behind three verbs: prepare, infer, finish.

They are separate so that a caller can prepare the next windows while the accelerator infers the present ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]  # (samples,), mono, 16 kHz, in [-1, 1]
Scores = NDArray[np.float32]  # (windows, labels), rows sum to 1
Embeddings = NDArray[np.float32]  # (windows, dimensions): the model's features, averaged over a window's frames


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What a report says of the engine that made it."""

    model: str  # a name for people: "mini", "emotion2vec_plus_large", or the directory's name
    model_hash: str  # sha256 of the weights file, hex
    mini: bool  # true: the small bundled model, for trying things out
    labels: tuple[str, ...]  # in the order of the scores
    engine: str  # torch, openvino, funasr
    device: str  # cpu, cuda:0
    precision: str  # fp32, bf16, fp16, int8
    threads: int


class Engine(Protocol):
    """A loaded model. One thread at a time uses it, but `prepare` may run in a second one beside `infer`."""

    info: EngineInfo
    min_samples: int  # shortest window that gives at least one frame
    windows_at_once: int  # how many windows a caller best offers in one `prepare`; more costs memory only
    embedding_dimensions: int  # numbers in a window's embedding

    def prepare(self, windows: Sequence[Samples]) -> Any:
        """Turns windows of any lengths into the engine's own input. A neighbour changes no score."""

    def infer(self, prepared: Any, *, embeddings: bool = False) -> Any:
        """Runs the model on what `prepare` gave. `embeddings`: they are to be brought too, for `embeddings`."""

    def finish(self, output: Any) -> Scores:
        """Brings the scores back to numpy, one row a window, in the order of the windows."""

    def embeddings(self, output: Any) -> Embeddings:
        """The windows' embeddings, in their order; before or after `finish` of the same output.

        FunASR's own for `extract_embedding=True, granularity="utterance"`. Only after an `infer` that was told.
        """


def score(engine: Engine, windows: Sequence[Samples]) -> Scores:
    """The three verbs in a row."""
    return engine.finish(engine.infer(engine.prepare(windows)))


def any_window_warms(info: EngineInfo) -> bool:
    """Whether one window of any length makes the engine warm: true for torch on a CPU, it builds nothing by shape.

    Large, one thread: after a quarter of a second the first window of 5 s is as quick as after one of 5 s.
    """
    return info.engine == "torch" and info.device == "cpu"


def warm(engine: Engine) -> None:
    """Scores synthetic windows, so that the first real ones find every buffer, kernel and page in place.

    Engines that build something for each shape get as many full windows as they take at once.
    """
    count, seconds = (1, 0.25) if any_window_warms(engine.info) else (engine.windows_at_once, 5)
    noise = np.random.default_rng(0).standard_normal((count, int(seconds * SAMPLE_RATE)), np.float32) * 0.1
    score(engine, list(noise))
