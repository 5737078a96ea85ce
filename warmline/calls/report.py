"""The report, version 1: what a job leaves behind. A versioned document.

A field may be added to version 1, with a default that says that it was not looked at; nothing of it is ever taken
away or given another meaning without another version. `warmline.calls.report_reading` reads what is stored.

Times are milliseconds from the start of the call, so that reports of two channels and two tools line up. Spans are
half-open: `end_ms` is the first millisecond that is not part of one. Levels are in dBFS: decibels of the RMS below
full scale, where a square wave of full scale has 0. docs/reports.md says how each figure is made.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, WithJsonSchema

from warmline.jobs.records import Metadata, Options, Record

REPORT_VERSION: Final = "1"

# No recording, and nothing that is counted in one, comes near: 300 years in milliseconds, 10 TB. Reports are read
# from a bucket that others can write to, and a figure beyond this, or none at all (NaN), would end an export of a
# million reports instead of one. The published schema does not speak of it.
_MOST: Final = 10**13
Whole = Annotated[int, Field(ge=-_MOST, le=_MOST), WithJsonSchema({"type": "integer"})]
Number = Annotated[float, Field(ge=-_MOST, le=_MOST), WithJsonSchema({"type": "number"})]
Seconds = Annotated[float, Field(ge=-_MOST / 1e4, le=_MOST / 1e4), WithJsonSchema({"type": "number"})]

# The keys of every `scores`, where the model has these labels. A model with others keeps its own.
STANDARD_LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")

Scores = dict[str, Number]

Flag = Literal[
    "no_speech",  # nothing to score: a result, not an error
    "truncated",  # the file ends before its audio does, or parts of it could not be decoded
    "mono",  # one channel: nobody can tell whose voice it is, or both are mixed
    "one_sided",  # nearly all speech is in one of several channels
    "low_confidence",  # in a channel even the dominant emotion is a guess
    "clipping",  # a channel was recorded too loud: its peaks are cut off
    "metadata_unreadable",  # the call's metadata say roles or ranges in a way that cannot be read: left aside
]


class Span(Record):
    """A stretch of time."""

    start_ms: Whole
    end_ms: Whole

    @property
    def duration_ms(self) -> int:
        """How long it is."""
        return self.end_ms - self.start_ms


class SourceFacts(Record):
    """Where a call came from: known before it is opened."""

    uri: str = Field(description="s3://bucket/key, or a file's path")
    bucket: str | None = None
    key: str | None = None
    etag: str | None = None
    version_id: str | None = None
    size_bytes: Whole


class ReportSource(SourceFacts):
    """The call that was analysed, as it was found."""

    container: str = Field(description="e.g. WAV, FLAC, MP3, mov")
    codec: str = Field(description="e.g. ULAW, PCM_16, OPUS, aac")
    sample_rate_hz: Whole
    channels: Whole
    duration_seconds: Seconds = Field(description="as decoded, which a broken header may contradict")


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
    options: Options = Field(description="as asked for; what is not said has its default")
    window_seconds: Number = Field(5.0, description="the longest window (WARMLINE_AUDIO_WINDOW_SECONDS)")
    speech_threshold: Number = Field(0.5, description="WARMLINE_AUDIO_SPEECH_THRESHOLD")
    stage_seconds: dict[str, Number] = Field(
        description="wall seconds by stage: fetch; decode and speech, which run beside score; speakers, "
        "where they are split, too; and score, during which the engine worked or kept the call waiting. So their "
        "sum may pass the wall time of the analysis"
    )
    rtfx: Number = Field(
        description="seconds of call per wall second of the analysis; a second counts once, whatever its channels"
    )
    analysed_at: datetime


class ScoredWindow(Span):
    """One stretch of one channel that the model scored as a whole."""

    top: str = Field(description="the label with the highest score")
    margin: Number = Field(0.0, description="how far the highest score is above the second")
    speech_share: Number = Field(1.0, description="which part of it is speech, 0 to 1")
    loudness_dbfs: Number | None = Field(None, description="RMS of all of it; null for digital silence")
    scores: Scores = Field(description="probability by label; sums to 1")


class PartSummary(Span):
    """A quarter or a tenth of the call. Of a window that lies across its edge the part inside counts."""

    scored_ms: Whole = Field(description="how much of it windows cover; each window's time counts")
    top: str | None = Field(description="the label with the highest mean score; null without windows")
    scores: Scores = Field(description="duration-weighted mean of the windows' scores; empty without windows")


class ChannelSummary(Record):
    """A channel in one line. Windows count by their duration."""

    top: str | None = Field(description="the dominant emotion: the highest mean score; null without speech")
    confidence: Number | None = Field(
        None, description="the dominant emotion's mean score where it is on top, 0 to 1; null without speech"
    )
    top_share: Number | None = Field(
        None, description="share of the scored time in which the dominant emotion is on top"
    )
    scores: Scores = Field(description="the distribution: duration-weighted mean of the windows' scores")
    quarters: tuple[PartSummary, ...] = Field((), description="four equal parts of the call")
    tenths: tuple[PartSummary, ...] = Field((), description="ten equal parts of the call")
    change: Scores = Field(
        default_factory=dict,
        description="by label: mean score of the last quarter minus the first's; empty where one has no windows",
    )
    volatility: Number | None = Field(
        None,
        description="how much the emotion changes from one window to the next: half the sum of the scores' "
        "absolute differences, 0 (never) to 1 (entirely, each time), averaged; null with fewer than two windows",
    )


class ChannelLevel(Record):
    """How loud a channel is; null where there is nothing to measure."""

    speech_dbfs: Number | None = Field(description="RMS of the stretches of speech")
    noise_dbfs: Number | None = Field(description="RMS of everything else, digital silence left out")
    peak_dbfs: Number | None = Field(description="the largest sample")
    clipped_share: Number = Field(description="share of the samples that lie in a cut-off peak, 0 to 1")


class Tone(Span):
    """A signal that is no speech, whatever it sounds like to a voice activity detector."""

    kind: Literal["dtmf", "tone"] = Field(description="dtmf: a key of the telephone; tone: any other steady tone")
    digit: str | None = Field(None, description="the key, where it is one: 0 to 9, *, #, A to D")
    frequencies_hz: tuple[int, ...] = Field(description="the strongest one or two")


class ChannelReport(Record):
    """One side of the call, or one of the two speakers that a mono call was split into."""

    index: Whole = Field(description="the channel of the recording; the two speakers of a split call share it")
    role: str = Field(description="from the call's metadata or the options; else mono, channel_0, channel_1, …")
    speech_seconds: Seconds = Field(description="talk time: how long this side speaks")
    talk_share: Number | None = Field(
        None, description="its part of all sides' talk time; null without any speech"
    )
    speech: tuple[Span, ...] = Field((), description="where it speaks, in order, without padding")
    level: ChannelLevel | None = Field(None, description="null for a speaker of a split call")
    tones: tuple[Tone, ...] = Field(
        (), description="DTMF and long tones, which do not count as speech; at most 500"
    )
    summary: ChannelSummary
    windows: tuple[ScoredWindow, ...] = Field(
        description="in order; none overlapping, but for granularity=frame and across speakers of a split call"
    )


class Breakdown(Record):
    """Where the call's time goes. Adds up to the call's duration, to the millisecond."""

    talk_ms: Whole = Field(description="exactly one side speaks")
    overlap_ms: Whole = Field(description="two or more speak at once")
    silence_ms: Whole = Field(description="nobody speaks")
    excluded_ms: Whole = Field(0, description="left out by the call's metadata or the options")


class Interruption(Span):
    """One side begins while the other speaks, and the other gives way or is talked over."""

    by: str = Field(description="the role of the side that begins")
    by_channel: Whole = Field(description="its place in `channels`")
    of: str = Field(description="the role of the side that was speaking")
    of_channel: Whole = Field(description="its place in `channels`")
    overlap_ms: Whole = Field(description="how long both speak; start_ms to end_ms")


class Conversation(Record):
    """The call's sides together."""

    breakdown: Breakdown
    longest_silences: tuple[Span, ...] = Field(description="the longest first; nobody speaks")
    interruptions: tuple[Interruption, ...] = Field(
        (), description="in order, between any two sides; none inside what is left out"
    )
    excluded: tuple[Span, ...] = Field((), description="left out of speech, scores and silences, in order")


class MatchedRange(Span):
    """Where a category applies."""

    channel: Whole | None = Field(None, description="the place in `channels`; null: the whole call")
    role: str | None = None


class CategoryMatch(Record):
    """A category that applies to this call."""

    category: str
    ranges: tuple[MatchedRange, ...] = Field(description="in order; empty for one that is about the whole call")


class Categories(Record):
    """What the rules of WARMLINE_CATEGORIES_FILE make of this call."""

    digest: str = Field(description="of the rules, 16 hex digits; other rules give another")
    matches: tuple[CategoryMatch, ...] = ()


class EmbeddingFile(Record):
    """Where the windows' embeddings lie: a row a window, channel after channel as in the report."""

    format: Literal["npy", "parquet"]
    uri: str = Field(description="s3://bucket/key, or a file's path")
    rows: Whole
    dimensions: Whole = Field(
        description="float32 values in a row: the model's features, averaged over the window"
    )


class SpeakerSplit(Record):
    """How a mono call was split into two speakers, and how far that can be trusted."""

    method: str = Field(description="what did it, with its version")
    confidence: Number | None = Field(
        description="0 (one voice, or a guess) to 1 (two clearly different voices); null without speech"
    )
    uncertain_share: Number | None = Field(
        description="share of the speech that could be either speaker's; null without speech"
    )


class Report(Record):
    """The result of a job."""

    version: Literal["1"] = REPORT_VERSION
    job_id: str | None = Field(description="null when made without a queue (warmline analyze)")
    batch_id: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    source: ReportSource
    provenance: Provenance
    channels: tuple[ChannelReport, ...]
    conversation: Conversation | None = Field(
        None, description="null in reports that were made before it was looked at"
    )
    flags: tuple[Flag, ...] = ()
    categories: Categories | None = Field(None, description="null where no rules were given")
    embeddings: EmbeddingFile | None = Field(None, description="null where none were asked for")
    speakers: SpeakerSplit | None = Field(None, description="null where the channels are the recording's own")

    @property
    def duration_ms(self) -> int:
        """The call's length."""
        return round(self.source.duration_seconds * 1000)
