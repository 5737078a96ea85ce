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


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What a report says of the engine that made it."""

    model: str  # a name for people: "mini", "emotion2vec_plus_large", or the directory's name
    model_hash: str  # sha256 of the weights file, hex
    mini: bool  # true: the small bundled model, for trying things out
    labels: tuple[str, ...]  # in the order of the scores
    engine: str  # torch, openvino, funasr
    device: str  # cpu, cuda:0
    precision: str  # fp32, bf16, int8
    threads: int


class Engine(Protocol):
    """A loaded model. One engine is used by one thread at a time."""

    info: EngineInfo
    min_samples: int  # shortest window that gives at least one frame
    windows_at_once: int  # how many windows a caller best offers in one `prepare`; more costs memory only

    def prepare(self, windows: Sequence[Samples]) -> Any:
        """Turns windows of any lengths into the engine's own input. A neighbour changes no score."""

    def infer(self, prepared: Any) -> Any:
        """Runs the model on what `prepare` gave."""

    def finish(self, output: Any) -> Scores:
        """Brings the scores back to numpy, one row a window, in the order of the windows."""


def score(engine: Engine, windows: Sequence[Samples]) -> Scores:
    """The three verbs in a row."""
    return engine.finish(engine.infer(engine.prepare(windows)))


def warm(engine: Engine) -> None:
    """Scores one synthetic window, so that the first real one finds every buffer and kernel in place."""
    noise = np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE).astype(np.float32) * 0.1
    score(engine, [noise])
