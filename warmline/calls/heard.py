"""What was heard in a recording, in the report's terms: samples become milliseconds, channels become sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from warmline.audio.call import CallAudio
from warmline.audio.levels import dbfs
from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.segments import Segment
from warmline.audio.tones import FoundTone
from warmline.calls.report import ChannelLevel, Span, Tone
from warmline.calls.sides import RawWindow, Side
from warmline.calls.spans import union, within
from warmline.jobs.records import Options


def milliseconds(samples: int) -> int:
    """Of samples at 16 kHz, rounded."""
    return round(samples * 1000 / SAMPLE_RATE_HZ)


def excluded_samples(options: Options) -> list[Segment]:
    """What the options leave out, in order, none overlapping; 16 kHz samples."""
    return [
        Segment(span.start_ms * SAMPLE_RATE_HZ // 1000, span.end_ms * SAMPLE_RATE_HZ // 1000)
        for span in _excluded(options)
    ]


def excluded_spans(call: CallAudio, options: Options) -> tuple[Span, ...]:
    """What the options leave out of this call."""
    return tuple(within(_excluded(options), duration_ms_of(call)))


def _excluded(options: Options) -> tuple[Span, ...]:
    return union(
        Span(start_ms=round(each.start_seconds * 1000), end_ms=round(each.end_seconds * 1000))
        for each in options.exclude
    )


def sides_of(call: CallAudio, windows: Sequence[Sequence[RawWindow]], roles: tuple[str, ...]) -> list[Side]:
    """Each channel as a side of the call; `windows` are by channel. The call has been read to its end."""
    return [
        _side(index, role, scored, call)
        for index, (role, scored) in enumerate(zip(channel_roles(call.info.channels, roles), windows, strict=True))
    ]


def channel_roles(channels: int, roles: tuple[str, ...]) -> tuple[str, ...]:
    """A role for each channel: as asked for; channels beyond get `channel_N`, and a lone one `mono`.

    Of a call with fewer channels than roles nobody knows which side was recorded, so the roles are left aside.
    """
    if channels < len(roles):
        roles = ()
    if channels == 1 and not roles:
        return ("mono",)
    return roles + tuple(f"channel_{index}" for index in range(len(roles), channels))


def duration_ms_of(call: CallAudio) -> int:
    """How long the call is, as decoded; rounded here alone, so that all figures add up to the same."""
    return round(call.duration_seconds * 1000)


def _side(index: int, role: str, windows: Sequence[RawWindow], call: CallAudio) -> Side:
    duration_ms = duration_ms_of(call)
    facts = call.channels[index]
    spans = (Span(start_ms=milliseconds(start), end_ms=milliseconds(end)) for start, end in facts.speech)
    return Side(
        index=index,
        role=role,
        speech=tuple(within(spans, duration_ms)),
        # Resampling and rounding may put an end a sample's worth behind the call's.
        windows=tuple(replace(raw, end_ms=min(raw.end_ms, duration_ms)) for raw in windows),
        tones=tuple(_tone(found, duration_ms) for found in facts.tones),
        level=ChannelLevel(
            speech_dbfs=facts.speech_dbfs,
            noise_dbfs=facts.noise_dbfs,
            peak_dbfs=dbfs(float(call.meter.peaks[index]) ** 2),
            clipped_share=_clipped_share(call, index),
        ),
    )


def _tone(found: FoundTone, duration_ms: int) -> Tone:
    return Tone(
        kind=found.kind,
        digit=found.digit,
        frequencies_hz=found.frequencies_hz,
        start_ms=milliseconds(found.start),
        end_ms=min(milliseconds(found.end), duration_ms),
    )


def _clipped_share(call: CallAudio, index: int) -> float:
    """Of the speech where there is some, or else of the whole channel: silence must not hide a bad recording."""
    seconds = sum(end - start for start, end in call.channels[index].speech) / SAMPLE_RATE_HZ
    samples = (seconds or call.duration_seconds) * call.info.sample_rate_hz
    return round(min(1.0, float(call.meter.clipped_samples[index]) / samples), 6) if samples else 0.0
