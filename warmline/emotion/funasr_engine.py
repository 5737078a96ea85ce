"""FunASR itself as an engine: the reference that the others are measured against. Slow, one window at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from warmline.emotion.engine import SAMPLE_RATE, Embeddings, EngineInfo, Samples, Scores
from warmline.emotion.hub import FoundModel
from warmline.emotion.labels import Labels
from warmline.emotion.placement import Placement
from warmline.emotion.printing import printed_to_log
from warmline.jobs.errors import AudioTooLong, DeviceUnavailable, ModelUnusable

# Its attention holds heads x T x T numbers several times over: 11.6 GB were measured for the large model at 120 s.
LONGEST_SAMPLES = 120 * SAMPLE_RATE


def load_auto_model(found: FoundModel, placement: Placement) -> Any:
    """`funasr.AutoModel` on a directory whose configuration and weights have been checked before.

    FunASR evaluates parts of the configuration, and only prints where it lacks a checkpoint or a device.
    Raises DeviceUnavailable where it went to another device than it was told.
    """
    with printed_to_log("funasr_printed"):
        try:
            from funasr import AutoModel
        except ModuleNotFoundError as error:  # an image leaves it out
            raise ModelUnusable(
                f"engine=funasr needs {error.name}, which is not installed here: install it, or take engine=auto."
            ) from None
        try:
            model = AutoModel(
                model=str(found.directory),
                device=placement.device,
                ncpu=placement.threads,  # without it FunASR sets 4 threads, whatever the machine has
                disable_update=True,  # without it FunASR asks a package index for a newer version
                disable_pbar=True,
                disable_log=True,
            )
        except (RuntimeError, KeyError, ValueError, AssertionError) as error:
            raise ModelUnusable(f"FunASR cannot load {found.directory}: {error}.") from error
    if model.kwargs["device"] != placement.device:
        raise DeviceUnavailable(f"FunASR went to {model.kwargs['device']} instead of {placement.device}.")
    return model


@dataclass(frozen=True)
class Answer:
    """What FunASR made of a window."""

    scores: dict[str, float]  # by token
    embedding: Embeddings  # (dimensions,)


class FunasrEngine:
    """Scores windows with FunASR; see `Engine`.

    Refuses windows longer than LONGEST_SAMPLES, where its memory would end the process.
    """

    def __init__(
        self, model: Any, labels: Labels, info: EngineInfo, *, min_samples: int, embedding_dimensions: int
    ) -> None:
        self.info = info
        self.min_samples = min_samples
        self.embedding_dimensions = embedding_dimensions
        self.windows_at_once = 1
        self._model = model
        self._tokens = [labels.tokens[row] for row in labels.rows]

    def prepare(self, windows: Sequence[Samples]) -> Sequence[Samples]:
        """The windows as they are. Raises ValueError for one that is too short, AudioTooLong."""
        for window in windows:
            if window.ndim != 1 or window.size < self.min_samples:
                raise ValueError(f"a window is one row of at least {self.min_samples} samples, not {window.shape}")
            if window.size > LONGEST_SAMPLES:
                raise AudioTooLong(
                    f"FunASR's memory grows with the square of a window's length, so that it gets at most"
                    f" {LONGEST_SAMPLES // SAMPLE_RATE} s; use another engine, or granularity=segment."
                )
        return windows

    def infer(
        self,
        prepared: Sequence[Samples],
        *,
        embeddings: bool = False,  # FunASR makes them for each window, asked or not
    ) -> list[Answer]:
        """Each window's scores and embedding."""
        return [self._score(window) for window in prepared]

    def _score(self, window: Samples) -> Answer:
        with printed_to_log("funasr_printed"):
            (result,) = self._model.generate(
                np.ascontiguousarray(window), granularity="utterance", extract_embedding=True
            )
        return Answer(dict(zip(result["labels"], result["scores"], strict=True)), result["feats"])

    def finish(self, output: Sequence[Answer]) -> Scores:
        """The scores in the order of the labels."""
        rows = [[answer.scores[token] for token in self._tokens] for answer in output]
        return np.array(rows, dtype=np.float32).reshape(len(output), len(self._tokens))

    def embeddings(self, output: Sequence[Answer]) -> Embeddings:
        """See `Engine`."""
        rows = [answer.embedding for answer in output]
        return np.array(rows, dtype=np.float32).reshape(len(output), self.embedding_dimensions)
