"""The analysis of one call: open, cut into windows, score, summarise, report. The whole road is `analyze_call`.

The command line walks it for local files, workers for fetched objects. Reading, decoding and finding speech run
ahead of the engine in a thread. Nothing of a call is held but some seconds of audio, a bounded number of windows
and the report that grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from config.settings import AudioSettings
from warmline.audio.call import CallAudio, open_call
from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.windows import Window
from warmline.calls.ahead import Ahead
from warmline.calls.report import (
    ChannelReport,
    Flag,
    ModelProvenance,
    Provenance,
    Report,
    ReportSource,
    ScoredWindow,
    SourceFacts,
)
from warmline.calls.summary import SCORE_DECIMALS, summarise, top_label
from warmline.emotion.engine import Engine, EngineInfo, Scores
from warmline.jobs.errors import ModelUnusable
from warmline.jobs.records import Job, Options

# Windows that wait for the engine, at least: a slab of speech in two channels.
WINDOWS_AHEAD = 8


class Watcher(Protocol):
    """Follows an analysis. What it raises ends the analysis, before the next window."""

    def on_windows(self, done: int, total: int) -> None:
        """Before each batch of windows: how many are done, of how many; 0 until all audio has been read."""

    def on_audio(self, seconds: float) -> None:
        """After each block of audio, from another thread: the call has at least so many seconds."""


def analyze_call(
    path: Path,
    *,
    source: SourceFacts,
    engine: Engine,
    options: Options,
    settings: AudioSettings,
    job: Job | None = None,
    fetch_seconds: float | None = None,
    watcher: Watcher | None = None,
) -> Report:
    """Scores the call in the file and reports on it. `job` gives the report its id and metadata.

    Raises NotAudio, EmptyAudio, BrokenAudio, AudioTooLong, TooManyChannels, ModelUnusable, ObjectNotFound,
    ObjectForbidden, and what the engine raises. No speech and a truncated file are flags of a report.
    """
    started = time.perf_counter()
    stage_seconds = {} if fetch_seconds is None else {"fetch": fetch_seconds}
    with open_call(path, settings, watcher.on_audio if watcher else None) as call:
        scored, score_seconds = _score_windows(call, engine, options, watcher)
    stage_seconds |= call.stage_seconds | {"score": score_seconds}
    wall_seconds = time.perf_counter() - started
    return Report(
        job_id=job.id if job else None,
        metadata=job.metadata if job else {},
        source=_describe_source(source, call),
        provenance=Provenance(
            warmline_version=version("warmline"),
            model=_describe_model(engine.info),
            options=options,
            stage_seconds={stage: round(seconds, 4) for stage, seconds in stage_seconds.items()},
            rtfx=round(call.duration_seconds / wall_seconds, 2),
            analysed_at=datetime.now(UTC),
        ),
        channels=_describe_channels(scored, call, options),
        flags=_flags(scored, call),
    )


def channel_roles(channels: int, roles: tuple[str, ...]) -> tuple[str, ...]:
    """A role for each channel: as asked for; channels beyond get `channel_N`, and a lone one `mono`.

    Of a call with fewer channels than roles nobody knows which side was recorded, so the roles are left aside.
    """
    if channels < len(roles):
        roles = ()
    if channels == 1 and not roles:
        return ("mono",)
    return roles + tuple(f"channel_{index}" for index in range(len(roles), channels))


def _score_windows(
    call: CallAudio, engine: Engine, options: Options, watcher: Watcher | None
) -> tuple[list[list[ScoredWindow]], float]:
    """The scored windows of each channel, and the wall seconds that the engine worked or kept us waiting."""
    if options.granularity == "utterance":  # a window may be minutes long: one at a time, and one ahead
        windows, at_once, ahead = call.whole_channels(min_samples=engine.min_samples), 1, 1
    else:
        windows, at_once = call.speech_windows(min_samples=engine.min_samples), engine.windows_at_once
        ahead = max(WINDOWS_AHEAD, at_once)
    scored: list[list[ScoredWindow]] = [[] for _ in range(call.info.channels)]
    done = 0
    with Ahead(windows, limit=ahead) as found:

        def take() -> list[Window]:
            batch = found.take(at_once)
            if watcher:  # here and not after the scores: who stops us now saves this batch
                watcher.on_windows(done, 0)
            return batch

        scoring = _Scoring(engine)
        for batch, scores in scoring.run(iter(take, [])):
            for window, row in zip(batch, _checked(scores), strict=True):
                scored[window.channel].append(_scored_window(window, row, engine.info.labels))
            done += len(batch)
    if watcher:
        watcher.on_windows(done, done)
    return scored, scoring.seconds


class _Scoring:
    """The engine as a pipeline: a batch is begun before the one in front of it is finished.

    On a GPU, or with a host, `infer` returns before the work is done, so that the engine never waits for us. On
    the CPU it returns afterwards, and nothing is gained or lost.
    """

    def __init__(self, engine: Engine) -> None:
        self.seconds = 0.0  # that the engine took of our time
        self._engine = engine

    def run(self, batches: Iterator[list[Window]]) -> Iterator[tuple[list[Window], Scores]]:
        """Each batch with its scores, in order; two are under way at most."""
        begun: tuple[list[Window], Any] | None = None
        for batch in batches:
            output = self._timed(self._begin, batch)
            if begun is not None:
                yield begun[0], self._timed(self._engine.finish, begun[1])
            begun = batch, output
        if begun is not None:
            yield begun[0], self._timed(self._engine.finish, begun[1])

    def _begin(self, batch: list[Window]) -> Any:
        return self._engine.infer(self._engine.prepare([window.samples for window in batch]))

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


def _scored_window(window: Window, row: list[float], labels: tuple[str, ...]) -> ScoredWindow:
    scores = dict(zip(labels, row, strict=True))
    return ScoredWindow(
        start_ms=round(window.start_sample * 1000 / SAMPLE_RATE_HZ),
        end_ms=round(window.end_sample * 1000 / SAMPLE_RATE_HZ),
        top=top_label(scores),
        scores=scores,
    )


def _describe_source(source: SourceFacts, call: CallAudio) -> ReportSource:
    return ReportSource(
        **source.model_dump(),
        container=call.info.container,
        codec=call.info.codec,
        sample_rate_hz=call.info.sample_rate_hz,
        channels=call.info.channels,
        duration_seconds=round(call.duration_seconds, 3),
    )


def _describe_model(info: EngineInfo) -> ModelProvenance:
    return ModelProvenance(
        name=info.model,
        hash=info.model_hash,
        mini=info.mini,
        engine=info.engine,
        device=info.device,
        precision=info.precision,
    )


def _describe_channels(
    scored: list[list[ScoredWindow]], call: CallAudio, options: Options
) -> tuple[ChannelReport, ...]:
    roles = channel_roles(call.info.channels, options.roles)
    return tuple(
        ChannelReport(
            index=index,
            role=role,
            speech_seconds=round(speech_seconds, 3),
            summary=summarise(windows),
            windows=tuple(windows),
        )
        for index, (role, speech_seconds, windows) in enumerate(
            zip(roles, call.speech_seconds, scored, strict=True)
        )
    )


def _flags(scored: list[list[ScoredWindow]], call: CallAudio) -> tuple[Flag, ...]:
    flags: list[Flag] = []
    if not any(scored):
        flags.append("no_speech")
    if call.truncated:
        flags.append("truncated")
    return tuple(flags)
