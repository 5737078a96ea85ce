"""A call's windows on their way through the engine: read ahead, batched, scored, checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from warmline.audio.call import CallAudio
from warmline.audio.levels import loudness_dbfs
from warmline.audio.windows import Window
from warmline.calls.ahead import Ahead
from warmline.calls.embeddings import EmbeddingWriter
from warmline.calls.heard import excluded_samples, milliseconds
from warmline.calls.sides import RawWindow
from warmline.calls.speakers import SpeakerSplitter
from warmline.calls.summary import SCORE_DECIMALS
from warmline.emotion.engine import Engine, Scores
from warmline.jobs.errors import ModelUnusable
from warmline.jobs.records import Options

# Windows that wait for the engine, at least: a slab of speech in two channels.
WINDOWS_AHEAD = 8


class Watcher(Protocol):
    """Follows an analysis. What it raises ends the analysis, before the next window."""

    def on_windows(self, done: int, total: int) -> None:
        """Before each batch of windows: how many are done, of how many; 0 until all audio has been read."""

    def on_audio(self, seconds: float) -> None:
        """After each block of audio, from another thread: the call has at least so many seconds."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A call's windows, scored."""

    windows: list[list[RawWindow]]  # by channel, each channel's in order
    seconds: float  # wall time that the engine worked or kept us waiting


def score_windows(
    call: CallAudio,
    engine: Engine,
    options: Options,
    watcher: Watcher | None = None,
    embeddings: EmbeddingWriter | None = None,
    splitter: SpeakerSplitter | None = None,
) -> Scored:
    """All windows of a call, which is read while they are scored; `options` are those in effect.

    Their embeddings are put down with the writer, and their voices heard by the splitter, where there is one.
    """
    excluded, shortest = excluded_samples(options), engine.min_samples
    if options.granularity == "utterance":  # a window may be minutes long: one at a time, and one ahead
        windows, at_once, ahead = call.whole_channels(min_samples=shortest, excluded=excluded), 1, 1
    else:
        hop_seconds = options.hop_seconds if options.granularity == "frame" else None
        windows = call.speech_windows(min_samples=shortest, hop_seconds=hop_seconds, excluded=excluded)
        at_once = engine.windows_at_once
        ahead = max(WINDOWS_AHEAD, at_once)
    if splitter:
        windows = splitter.follow(windows)
    scored: list[list[RawWindow]] = [[] for _ in range(call.info.channels)]
    done = 0
    with Ahead(windows, limit=ahead) as found:

        def take() -> list[Window]:
            batch = found.take(at_once)
            if watcher:  # here and not after the scores: who stops us now saves this batch
                watcher.on_windows(done, 0)
            return batch

        scoring = _Scoring(engine, embeddings)
        for batch, scores in scoring.run(iter(take, [])):
            for window, row in zip(batch, _checked(scores), strict=True):
                scored[window.channel].append(
                    RawWindow(
                        start_ms=milliseconds(window.start_sample),
                        end_ms=milliseconds(window.end_sample),
                        loudness_dbfs=loudness_dbfs(window.samples),
                        scores=dict(zip(engine.info.labels, row, strict=True)),
                    )
                )
            done += len(batch)
    if watcher:
        watcher.on_windows(done, done)
    return Scored(windows=scored, seconds=scoring.seconds)


class _Scoring:
    """The engine as a pipeline: a batch is begun before the one in front of it is finished.

    On a GPU, or with a host, `infer` returns before the work is done, so that the engine never waits for us. On
    the CPU it returns afterwards, and nothing is gained or lost.
    """

    def __init__(self, engine: Engine, embeddings: EmbeddingWriter | None) -> None:
        self.seconds = 0.0  # that the engine took of our time
        self._engine = engine
        self._embeddings = embeddings

    def run(self, batches: Iterator[list[Window]]) -> Iterator[tuple[list[Window], Scores]]:
        """Each batch with its scores, in order; two are under way at most."""
        begun: tuple[list[Window], Any] | None = None
        for batch in batches:
            output = self._timed(self._begin, batch)
            if begun is not None:
                yield self._finish(*begun)
            begun = batch, output
        if begun is not None:
            yield self._finish(*begun)

    def _begin(self, batch: list[Window]) -> Any:
        prepared = self._engine.prepare([window.samples for window in batch])
        return self._engine.infer(prepared, embeddings=self._embeddings is not None)

    def _finish(self, batch: list[Window], output: Any) -> tuple[list[Window], Scores]:
        scores = self._timed(self._engine.finish, output)
        if self._embeddings is not None:
            places = [(window.channel, milliseconds(window.start_sample)) for window in batch]
            self._embeddings.add(places, self._timed(self._engine.embeddings, output))
        return batch, scores

    def _timed(self, step: Callable[[Any], Any], argument: Any) -> Any:
        started = time.perf_counter()
        try:
            return step(argument)
        finally:
            self.seconds += time.perf_counter() - started


def _checked(scores: Scores) -> list[list[float]]:
    # JSON has no NaN, and a mean over one would spoil a whole channel.
    if not np.isfinite(scores).all():
        raise ModelUnusable(
            "The model gave scores that are not numbers; check its weights or set WARMLINE_PRECISION=fp32."
        )
    rows: list[list[float]] = scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
    return rows
