"""The report: what a job leaves behind. A versioned document; unknown fields are an error.

Times are milliseconds from the start of the call, so that reports of two channels and two tools line up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from warmline.jobs.records import Metadata, Options, Record

# The keys of every `scores`, where the model has these labels. A model with others keeps its own.
STANDARD_LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")

Flag = Literal["no_speech", "truncated"]


class SourceFacts(Record):
    """Where a call came from: known before it is opened."""

    uri: str = Field(description="s3://bucket/key, or a file's path")
    bucket: str | None = None
    key: str | None = None
    etag: str | None = None
    version_id: str | None = None
    size_bytes: int


class ReportSource(SourceFacts):
    """The call that was analysed, as it was found."""

    container: str = Field(description="e.g. WAV, FLAC, MP3, mov")
    codec: str = Field(description="e.g. ULAW, PCM_16, OPUS, aac")
    sample_rate_hz: int
    channels: int
    duration_seconds: float = Field(description="as decoded, which a broken header may contradict")


class ModelProvenance(Record):
    """Which model made the scores, and how."""

    name: str
    hash: str = Field(description="sha256 of the weights, hex")
    mini: bool = Field(description="true: made by the small bundled model, which is for trying things out")
    engine: str
    device: str
    precision: str


class Provenance(Record):
    """Everything that decided this report besides the call."""

    warmline_version: str
    model: ModelProvenance
    options: Options
    stage_seconds: dict[str, float] = Field(
        description="wall seconds by stage: fetch; decode and speech, which run beside score; and score, during "
        "which the engine worked or kept the call waiting. So their sum may pass the wall time of the analysis"
    )
    rtfx: float = Field(
        description="seconds of call per wall second of the analysis; a second counts once, whatever its channels"
    )
    analysed_at: datetime


class ScoredWindow(Record):
    """One stretch of one channel that the model scored as a whole."""

    start_ms: int
    end_ms: int
    top: str = Field(description="the label with the highest score")
    scores: dict[str, float] = Field(description="probability by label; sums to 1")


class ChannelSummary(Record):
    """A channel in one line. Windows count by their duration."""

    top: str | None = Field(description="the label with the highest mean score; null without speech")
    scores: dict[str, float] = Field(description="duration-weighted mean of the windows' scores")


class ChannelReport(Record):
    """One side of the call."""

    index: int
    role: str = Field(description="from the options; else mono, or channel_0, channel_1, …")
    speech_seconds: float
    summary: ChannelSummary
    windows: tuple[ScoredWindow, ...] = Field(description="in order, none overlapping")


class Report(Record):
    """The result of a job."""

    version: Literal["1"] = "1"
    job_id: str | None = Field(description="null when made without a queue (warmline analyze)")
    metadata: Metadata = Field(default_factory=dict)
    source: ReportSource
    provenance: Provenance
    channels: tuple[ChannelReport, ...]
    flags: tuple[Flag, ...] = ()
