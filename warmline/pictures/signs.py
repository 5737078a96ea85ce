"""The signs of a timeline besides the emotions: those that a picture has, as samples for its legend."""

from __future__ import annotations

from collections.abc import Iterator

from warmline.calls.report import Conversation, Report
from warmline.pictures import lanes
from warmline.pictures.drawing import INK, PAPER, SOFT_INK, Element, path, rect
from warmline.pictures.fills import LEFT_OUT
from warmline.pictures.legend import Sample


def sign_samples(report: Report, emotion: str) -> list[tuple[Sample, str]]:
    """The signs that a picture of this report has, with what they mean."""
    signs = list(_of_channels(report, emotion))
    if report.conversation is not None:
        signs += _of_conversation(report.conversation, channels=len(report.channels))
    return signs


def _of_channels(report: Report, emotion: str) -> Iterator[tuple[Sample, str]]:
    if any(emotion in window.scores for channel in report.channels for window in channel.windows):
        yield _line_sample, f"score of {emotion}"
    if any(channel.speech for channel in report.channels):
        yield _bar_sample(5), "speaks"
    if any(channel.tones for channel in report.channels):
        yield _tone_sample, "tone or telephone key"


def _of_conversation(conversation: Conversation, *, channels: int) -> Iterator[tuple[Sample, str]]:
    if conversation.breakdown.overlap_ms:
        yield _bar_sample(8), "two or more speak" if channels > 2 else "both speak"
    for down in (True, False):
        who = {found.by for found in conversation.interruptions if (found.by_channel < found.of_channel) is down}
        if who:
            name = who.pop() if len(who) == 1 else "one above" if down else "one below"
            yield _triangle_sample(down=down), f"{name} interrupts"
    if conversation.breakdown.silence_ms:
        yield _bar_sample(lanes.SPEECH_HEIGHT, lanes.SILENCE), "nobody speaks"
    if conversation.longest_silences:
        yield _bracket_sample, "longest silences"
    if conversation.excluded:
        yield _left_out_sample, "left out"


def _line_sample(parent: Element, x: float, y: float) -> None:
    path(parent, f"M{x:g} {y - 1:g}h7v-6h13", fill="none", stroke=INK, stroke_width=1.5)


def _bar_sample(height: float, fill: str = INK) -> Sample:
    def draw(parent: Element, x: float, y: float) -> None:
        rect(parent, x, y - 4 - height / 2, 20, height, fill=fill)

    return draw


def _tone_sample(parent: Element, x: float, y: float) -> None:
    rect(parent, x + 4, y - 8, 12, 8, fill=PAPER, stroke=SOFT_INK, stroke_width=1)


def _triangle_sample(*, down: bool) -> Sample:
    def draw(parent: Element, x: float, y: float) -> None:
        path(parent, lanes.triangle(x + 10, y - 8 if down else y, down=down), fill=INK)

    return draw


def _bracket_sample(parent: Element, x: float, y: float) -> None:
    lanes.bracket(parent, x, x + 20, y - 8)


def _left_out_sample(parent: Element, x: float, y: float) -> None:
    rect(parent, x, y - 11, 20, 14, fill=f"url(#{LEFT_OUT})", stroke=SOFT_INK, stroke_width=0.6)
