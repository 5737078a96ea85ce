"""The analysis of one call: open, cut into windows, score, summarise, report. The whole road is `analyze_call`.

The command line walks it for local files, workers for fetched objects. Reading, decoding and finding speech run
ahead of the engine in a thread. Nothing of a call is held but some seconds of audio, a bounded number of windows
and the report that grows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import structlog

from config.settings import AnalysisSettings, AudioSettings
from warmline.audio.call import CallAudio, open_call
from warmline.calls.call_metadata import effective_options, unreadable
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.embeddings import EmbeddingWriter
from warmline.calls.heard import duration_ms_of, excluded_spans, sides_of
from warmline.calls.report import Flag, ModelProvenance, Provenance, Report, ReportSource, SourceFacts
from warmline.calls.scoring import Watcher, score_windows
from warmline.calls.sides import describe_sides
from warmline.calls.speakers import splitter_for
from warmline.emotion.engine import Engine, EngineInfo
from warmline.jobs.records import Job, Metadata, Options
from warmline.telemetry.tracing import current, span

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Analyst:
    """What analyses calls, the same for all: a warm engine, where the lines are drawn, and the categories."""

    engine: Engine
    audio: AudioSettings
    analysis: AnalysisSettings
    categories: CategoryRules | None = None  # None: reports are matched with nothing


def analyze_call(
    path: Path,
    analyst: Analyst,
    *,
    source: SourceFacts,
    options: Options,
    job: Job | None = None,
    fetch_seconds: float | None = None,
    watcher: Watcher | None = None,
    embeddings: EmbeddingWriter | None = None,
) -> Report:
    """Scores the call in the file and reports on it. `job` gives the report its id and metadata.

    The windows' embeddings go to the writer, where there is one: the caller gives it if the options ask for them.

    Raises NotAudio, EmptyAudio, BrokenAudio, AudioTooLong, TooManyChannels, ModelUnusable, ObjectNotFound,
    ObjectForbidden, DiariserUnavailable, and what the engine raises. No speech and a truncated file are flags of
    a report.
    """
    started = time.perf_counter()
    metadata = job.metadata if job else {}
    asked, options = options, effective_options(options, metadata)
    stage_seconds = {} if fetch_seconds is None else {"fetch": fetch_seconds}
    with open_call(path, analyst.audio, watcher.on_audio if watcher else None) as call:
        splitter = splitter_for(call.info.channels, options, threads=analyst.engine.info.threads)
        try:
            with span("score"):
                scored = score_windows(call, analyst.engine, options, watcher, embeddings, splitter)
        finally:
            _trace_reading(call)
    summarising = time.perf_counter()
    stage_seconds |= call.stage_seconds | {"score": scored.seconds}
    recorded = sides_of(call, scored.windows, options.roles)
    sides, speakers = splitter.split(recorded[0], options.roles) if splitter else (recorded, None)
    if splitter:
        stage_seconds["speakers"] = splitter.seconds
    described = describe_sides(
        sides,
        duration_ms=duration_ms_of(call),
        excluded=excluded_spans(call, options),
        truncated=call.truncated,
        recorded_channels=call.info.channels,
        shared_level=recorded[0].level if splitter else None,
        settings=analyst.analysis,
    )
    wall_seconds = time.perf_counter() - started
    report = Report(
        job_id=job.id if job else None,
        batch_id=job.batch_id if job else None,
        metadata=metadata,
        source=_describe_source(source, call),
        provenance=Provenance(
            warmline_version=version("warmline"),
            model=_describe_model(analyst.engine.info),
            options=asked,
            window_seconds=analyst.audio.window_seconds,
            speech_threshold=analyst.audio.speech_threshold,
            stage_seconds={stage: round(seconds, 4) for stage, seconds in stage_seconds.items()},
            rtfx=round(call.duration_seconds / wall_seconds, 2),
            analysed_at=datetime.now(UTC),
        ),
        channels=described.channels,
        conversation=described.conversation,
        flags=(*described.flags, *_metadata_flags(asked, metadata)),
        embeddings=embeddings.finish(described.channels) if embeddings else None,
        speakers=speakers,
    )
    if analyst.categories is not None:
        report = report.model_copy(update={"categories": analyst.categories.match(report)})
    current().past("summarise", summarising, time.perf_counter())
    return report


def _trace_reading(call: CallAudio) -> None:
    """They took turns in a thread beside the engine's work: each is one span, and says how long it really took."""
    for stage, (began, ended) in call.stage_spans.items():
        seconds = round(call.stage_seconds[stage], 4)
        current().past(stage, began, ended, attributes={"warmline.busy_seconds": seconds})


def _metadata_flags(options: Options, metadata: Metadata) -> tuple[Flag, ...]:
    """A slip in the call's metadata costs it nothing, and is told of."""
    sentences = unreadable(options, metadata)
    for sentence in sentences:
        log.warning("metadata_unreadable", reason=sentence)
    return ("metadata_unreadable",) if sentences else ()


def _describe_source(source: SourceFacts, call: CallAudio) -> ReportSource:
    return ReportSource(
        **source.model_dump(),
        container=call.info.container,
        codec=call.info.codec,
        sample_rate_hz=call.info.sample_rate_hz,
        channels=call.info.channels,
        duration_seconds=duration_ms_of(call) / 1000,
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
