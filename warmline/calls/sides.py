"""The sides of a call: what was heard and scored of each becomes its part of the report.

A side is a channel of the recording, or one of the two speakers that a mono call was split into. Nothing here
needs audio or the model: the same figures can be made again from a stored report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from config.settings import AnalysisSettings
from warmline.calls.conversation import describe_conversation
from warmline.calls.report import (
    ChannelLevel,
    ChannelReport,
    Conversation,
    Flag,
    ScoredWindow,
    Scores,
    Span,
    Tone,
)
from warmline.calls.spans import Coverage, total_ms
from warmline.calls.summary import margin, summarise, top_label


@dataclass(frozen=True, kw_only=True)
class RawWindow:
    """A window as it was scored; milliseconds from the start of the call."""

    start_ms: int
    end_ms: int
    loudness_dbfs: float | None
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is known of one side. All is in order; speech neither overlaps nor touches, without padding."""

    index: int  # the recording's channel
    role: str
    speech: tuple[Span, ...]
    windows: tuple[RawWindow, ...]
    tones: tuple[Tone, ...] = ()
    level: ChannelLevel | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """The call's sides, each for itself and together."""

    channels: tuple[ChannelReport, ...]
    conversation: Conversation
    flags: tuple[Flag, ...]


def describe_sides(
    sides: Sequence[Side],
    *,
    duration_ms: int,
    excluded: Sequence[Span] = (),
    truncated: bool = False,
    recorded_channels: int,
    shared_level: ChannelLevel | None = None,
    settings: AnalysisSettings,
) -> Description:
    """The report's parts about the sides. All times lie inside the call; `excluded` are in order, apart.

    `shared_level` is of the channel that the speakers of a split call share.
    """
    talk_ms = [total_ms(side.speech) for side in sides]
    channels = tuple(
        _describe(side, duration_ms, own_ms, sum(talk_ms)) for side, own_ms in zip(sides, talk_ms, strict=True)
    )
    conversation = describe_conversation(
        [side.speech for side in sides],
        [side.role for side in sides],
        duration_ms=duration_ms,
        excluded=excluded,
        settings=settings,
    )
    levels = [level for level in (*(side.level for side in sides), shared_level) if level is not None]
    flags = _flags(channels, levels, truncated=truncated, recorded_channels=recorded_channels, settings=settings)
    return Description(channels=channels, conversation=conversation, flags=flags)


def score_window(raw: RawWindow, speech: Coverage) -> ScoredWindow:
    """A window as the report has it."""
    span = Span(start_ms=raw.start_ms, end_ms=raw.end_ms)
    return ScoredWindow(
        start_ms=raw.start_ms,
        end_ms=raw.end_ms,
        top=top_label(raw.scores),
        margin=margin(raw.scores),
        speech_share=round(speech.of(span) / max(span.duration_ms, 1), 3),
        loudness_dbfs=raw.loudness_dbfs,
        scores=raw.scores,
    )


def _describe(side: Side, duration_ms: int, own_ms: int, all_ms: int) -> ChannelReport:
    speech = Coverage(side.speech)
    windows = tuple(score_window(raw, speech) for raw in side.windows)
    return ChannelReport(
        index=side.index,
        role=side.role,
        speech_seconds=own_ms / 1000,
        talk_share=round(own_ms / all_ms, 4) if all_ms else None,
        speech=side.speech,
        level=side.level,
        tones=side.tones,
        summary=summarise(windows, duration_ms),
        windows=windows,
    )


def _flags(
    channels: Sequence[ChannelReport],
    levels: Sequence[ChannelLevel],
    *,
    truncated: bool,
    recorded_channels: int,
    settings: AnalysisSettings,
) -> tuple[Flag, ...]:
    sides_speak = [channel.talk_share for channel in channels if channel.talk_share is not None]
    confidences = [channel.summary.confidence for channel in channels if channel.summary.confidence is not None]
    applies: dict[Flag, bool] = {
        "no_speech": not sides_speak,
        "truncated": truncated,
        "mono": recorded_channels == 1,
        "one_sided": len(channels) > 1 and any(share >= settings.one_sided_share for share in sides_speak),
        "low_confidence": any(confidence < settings.low_confidence for confidence in confidences),
        "clipping": any(level.clipped_share >= settings.clipped_share for level in levels),
    }
    return tuple(flag for flag, is_so in applies.items() if is_so)
