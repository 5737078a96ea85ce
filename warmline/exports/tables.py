"""The tables that reports are flattened into: their columns, types and meaning, whatever the format.

Columns keep their names, types and order: a new one is added at the end. A model with other labels than the
standard ones leaves those null and has its own scores as JSON in `other_scores`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

from warmline.calls.report import STANDARD_LABELS, ChannelReport, Report, Scores
from warmline.calls.stored_reports import StoredReport

Kind = Literal["text", "integer", "number", "yes_no", "moment", "day", "texts", "document"]
Row = tuple[object, ...]

TABLE_NAMES = ("calls", "channels", "windows", "matches")
REPORTS = "reports"  # the reports themselves, which only JSON lines can hold
ROLES = ("agent", "customer")  # those that `calls` has columns for; `channels` has all


@dataclass(frozen=True)
class Column:
    """One column of a table. Any but `report_id` may be null."""

    name: str
    kind: Kind
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table's name and columns, in order. The first one is `report_id`."""

    name: str
    columns: tuple[Column, ...]


def report_id(place: str) -> str:
    """Names a report in every table and every export: 32 hex digits that its place decides."""
    return hashlib.blake2b(place.encode(), digest_size=16).hexdigest()


def tables(names: Sequence[str], metadata_keys: Sequence[str]) -> tuple[Table, ...]:
    """The tables with these names; `calls` has a column for each of the metadata keys."""
    columns = {
        "calls": (*_CALLS, *(Column(f"metadata_{key}", "text", f"`metadata.{key}`") for key in metadata_keys)),
        "channels": _CHANNELS,
        "windows": _WINDOWS,
        "matches": _MATCHES,
        REPORTS: _REPORTS,
    }
    return tuple(Table(name=name, columns=columns[name]) for name in names)


def with_day(table: Table) -> Table:
    """The table with the call's day behind the id: for a file that has no folder to say it."""
    return Table(name=table.name, columns=(table.columns[0], _DAY, *table.columns[1:]))


def rows(stored: StoredReport, table: str, metadata_keys: Sequence[str]) -> Iterator[Row]:
    """A report's rows of one table; each has the values of the table's columns, in their order."""
    match table:
        case "reports":
            yield report_id(stored.place), stored.place, stored.report.model_dump_json()
        case "calls":
            yield _call(stored, metadata_keys)
        case "channels":
            yield from _channels(stored)
        case "windows":
            yield from _windows(stored)
        case "matches":
            yield from _matches(stored)


_ID = Column("report_id", "text", "names the report in every table, and in every export of the same reports")
_POSITION = Column("position", "integer", "the channel's place in the report's `channels`, from 0")
_ROLE = Column("role", "text", "the channel's role")
_DAY = Column("date", "day", "the call's day; null: none was found")

_REPORTS = (
    _ID,
    Column("report_uri", "text", "where the report lies"),
    Column("report", "document", "all of it"),
)


def score_columns(prefix: str, meaning: str) -> tuple[Column, ...]:
    """A column for each standard label, and one for all others; `{label}` in `meaning` is each one's."""
    return (
        *(Column(f"{prefix}_{label}", "number", meaning.format(label=label)) for label in STANDARD_LABELS),
        Column(f"other_{prefix}s", "text", "the same for the model's other labels, a JSON object; null: none"),
    )


_CALLS = (
    _ID,
    Column("report_uri", "text", "where the report lies"),
    Column("job_id", "text", "the job; null where it was made without a queue"),
    Column("batch_id", "text", "the batch"),
    Column("source_uri", "text", "the call"),
    Column("source_bucket", "text", "its bucket"),
    Column("source_key", "text", "its key"),
    Column("source_etag", "text", "its ETag"),
    Column("source_version_id", "text", "its version, in a bucket that keeps them"),
    Column("size_bytes", "integer", "the recording's size"),
    Column("container", "text", "e.g. WAV"),
    Column("codec", "text", "e.g. ULAW"),
    Column("sample_rate_hz", "integer", "samples a second"),
    Column("channels", "integer", "channels of the recording"),
    Column("duration_ms", "integer", "the call's length"),
    Column("talk_ms", "integer", "exactly one side speaks; null, as the next six, in the earliest reports"),
    Column("overlap_ms", "integer", "two or more speak at once"),
    Column("silence_ms", "integer", "nobody speaks"),
    Column("excluded_ms", "integer", "left out; the four add up to `duration_ms`"),
    Column("longest_silence_ms", "integer", "of the silences that the report lists; 0: none"),
    Column("interruptions", "integer", "how many"),
    Column("interruptions_by_agent", "integer", "of them, those where the agent begins"),
    *(
        column
        for role in ROLES
        for column in (
            Column(f"{role}_dominant", "text", f"the {role}'s dominant emotion; null: no such channel, no speech"),
            Column(f"{role}_confidence", "number", "its mean score where it is on top, 0 to 1"),
            Column(f"{role}_talk_share", "number", f"the {role}'s part of the talk time, 0 to 1"),
        )
    ),
    Column("flags", "texts", "the report's flags"),
    Column("categories", "texts", "the categories that apply"),
    Column("categories_digest", "text", "of the rules that were applied; null: none were"),
    Column("granularity", "text", "segment, utterance or frame"),
    Column("model", "text", "which model made the scores"),
    Column("model_hash", "text", "sha256 of its weights"),
    Column("mini", "yes_no", "true: by the small bundled model, which is for trying things out"),
    Column("engine", "text", "what ran it"),
    Column("device", "text", "where"),
    Column("precision", "text", "in which arithmetic"),
    Column("warmline_version", "text", "by which Warmline"),
    Column("rtfx", "number", "seconds of call per second of analysis"),
    Column("analysed_at", "moment", "when"),
    Column("metadata", "text", "the job's metadata, a JSON object"),
    Column("speakers_confidence", "number", "how far to trust a split of a mono call by its voices, 0 to 1"),
    Column("embeddings_uri", "text", "where the windows' embeddings lie; null: none were asked for"),
)  # fmt: skip

_CHANNELS = (
    _ID,
    _POSITION,
    _ROLE,
    Column("channel_index", "integer", "the channel of the recording; two speakers of a split call share it"),
    Column("talk_ms", "integer", "how long this side speaks"),
    Column("talk_share", "number", "its part of all sides' talk time, 0 to 1"),
    Column("windows", "integer", "how many windows were scored"),
    Column("scored_ms", "integer", "their time; weigh the scores by it"),
    Column("dominant", "text", "the label with the highest mean score; null: no speech"),
    Column("confidence", "number", "its mean score where it is on top, 0 to 1"),
    Column("dominant_share", "number", "share of the scored time in which it is on top"),
    Column("volatility", "number", "how much the emotion changes between windows, 0 to 1"),
    *score_columns("score", "mean score of {label}, weighted by the windows' time"),
    *score_columns("change", "mean score of {label} in the last quarter of the call minus the first's"),
    Column("speech_dbfs", "number", "RMS of the speech"),
    Column("noise_dbfs", "number", "RMS of everything else"),
    Column("peak_dbfs", "number", "the largest sample"),
    Column("clipped_share", "number", "share of the samples in cut-off peaks, 0 to 1"),
    Column("tones", "integer", "DTMF and long tones that were found"),
)

_WINDOWS = (
    _ID,
    _POSITION,
    _ROLE,
    Column("number", "integer", "the window's place in its channel, from 0"),
    Column("start_ms", "integer", "from the start of the call"),
    Column("end_ms", "integer", "the first millisecond that is not part of it"),
    Column("top", "text", "the label with the highest score"),
    Column("margin", "number", "how far that is above the second"),
    Column("speech_share", "number", "which part of it is speech, 0 to 1"),
    Column("loudness_dbfs", "number", "RMS; null: digital silence"),
    *score_columns("score", "probability of {label}"),
)

_MATCHES = (
    _ID,
    Column("category", "text", "the category that applies"),
    Column("number", "integer", "the range's place in its category, from 0; null: it is about the whole call"),
    _POSITION,
    _ROLE,
    Column("start_ms", "integer", "from the start of the call"),
    Column("end_ms", "integer", "the first millisecond that is not part of it"),
    Column("categories_digest", "text", "of the rules that were applied"),
)  # fmt: skip


def _call(stored: StoredReport, metadata_keys: Sequence[str]) -> Row:
    report = stored.report
    source, provenance, categories = report.source, report.provenance, report.categories
    model = provenance.model
    return (
        report_id(stored.place),
        stored.place,
        report.job_id,
        report.batch_id,
        *(source.uri, source.bucket, source.key, source.etag, source.version_id, source.size_bytes),
        *(source.container, source.codec, source.sample_rate_hz, source.channels, report.duration_ms),
        *_conversation(report),
        *(value for role in ROLES for value in _side(report, role)),
        report.flags,
        () if categories is None else tuple(match.category for match in categories.matches),
        None if categories is None else categories.digest,
        provenance.options.granularity,
        *(model.name, model.hash, model.mini, model.engine, model.device, model.precision),
        provenance.warmline_version,
        provenance.rtfx,
        provenance.analysed_at,
        json.dumps(report.metadata, ensure_ascii=False, sort_keys=True),
        None if report.speakers is None else report.speakers.confidence,
        None if report.embeddings is None else report.embeddings.uri,
        *(report.metadata.get(key) for key in metadata_keys),
    )


def _conversation(report: Report) -> Row:
    conversation = report.conversation
    if conversation is None:
        return (None,) * 7
    breakdown = conversation.breakdown
    return (
        *(breakdown.talk_ms, breakdown.overlap_ms, breakdown.silence_ms, breakdown.excluded_ms),
        max((span.duration_ms for span in conversation.longest_silences), default=0),
        len(conversation.interruptions),
        sum(interruption.by == "agent" for interruption in conversation.interruptions),
    )


def _side(report: Report, role: str) -> Row:
    channel = next((channel for channel in report.channels if channel.role == role), None)
    if channel is None:
        return None, None, None
    return channel.summary.top, channel.summary.confidence, channel.talk_share


def _channels(stored: StoredReport) -> Iterator[Row]:
    for position, channel in enumerate(stored.report.channels):
        summary, level = channel.summary, channel.level
        yield (
            report_id(stored.place),
            *(position, channel.role, channel.index),
            *(round(channel.speech_seconds * 1000), channel.talk_share, len(channel.windows)),
            scored_ms(channel),
            *(summary.top, summary.confidence, summary.top_share, summary.volatility),
            *score_values(summary.scores),
            *score_values(summary.change),
            *(
                (None, None, None, None)
                if level is None
                else (level.speech_dbfs, level.noise_dbfs, level.peak_dbfs, level.clipped_share)
            ),
            len(channel.tones),
        )


def scored_ms(channel: ChannelReport) -> int:
    """How much of a channel its windows cover; each window's time counts."""
    return sum(window.end_ms - window.start_ms for window in channel.windows)


def _windows(stored: StoredReport) -> Iterator[Row]:
    name = report_id(stored.place)
    for position, channel in enumerate(stored.report.channels):
        for number, window in enumerate(channel.windows):
            yield (
                *(name, position, channel.role, number, window.start_ms, window.end_ms),
                *(window.top, window.margin, window.speech_share, window.loudness_dbfs),
                *score_values(window.scores),
            )


def score_values(scores: Scores) -> Row:
    """The standard labels' values in their order, then the others' as JSON."""
    if scores.keys() == _STANDARD:  # nearly always, and of every window
        return (*_all_nine(scores), None)
    others = {label: score for label, score in scores.items() if label not in _STANDARD}
    return (
        *(scores.get(label) for label in STANDARD_LABELS),
        json.dumps(others, ensure_ascii=False) if others else None,
    )


_STANDARD = frozenset(STANDARD_LABELS)
_all_nine = itemgetter(*STANDARD_LABELS)


def _matches(stored: StoredReport) -> Iterator[Row]:
    categories = stored.report.categories
    if categories is None:
        return
    name = report_id(stored.place)
    for match in categories.matches:
        if not match.ranges:
            yield name, match.category, None, None, None, None, None, categories.digest
        for number, part in enumerate(match.ranges):
            yield (
                *(name, match.category, number, part.channel, part.role, part.start_ms, part.end_ms),
                categories.digest,
            )
