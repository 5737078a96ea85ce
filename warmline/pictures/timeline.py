"""A call as a picture: each channel's emotions over time, what its sides do together, and what categories match.

It reads in grey and with any kind of colour vision: every emotion has a pattern and a letter besides its colour,
and everything else is a shape. Its size is bounded by its width in pixels, not by the call's length.
"""

from __future__ import annotations

from typing import Final

from warmline.calls.report import Report
from warmline.jobs.errors import InvalidRequest
from warmline.pictures import drawing, lanes
from warmline.pictures.columns import COARSE, grain
from warmline.pictures.drawing import FAINT, INK, PAPER, SOFT_INK, Element, group, path, rect, shortened, text
from warmline.pictures.fills import Fills, define_left_out
from warmline.pictures.legend import draw_legend, emotion_samples
from warmline.pictures.signs import sign_samples
from warmline.pictures.time_axis import TimeScale, length

WIDTH: Final = 1040
LEFT: Final = 196
RIGHT_MARGIN: Final = 36
MAX_CATEGORIES: Final = 12
USUAL_EMOTION: Final = "angry"
MINI_NOTE: Final = "Scored by the bundled mini model: for trying Warmline out, not for decisions."


def timeline_svg(report: Report, emotion: str = "") -> str:
    """The report as an SVG document.

    `emotion` is the label whose score is drawn as a line besides the top ones; angry where none is named. Raises
    InvalidRequest for a label that the report has no scores of.
    """
    return drawing.written(_Timeline(report, _chosen(report, emotion)).draw())


def _chosen(report: Report, emotion: str) -> str:
    labels = sorted({label for channel in report.channels for label in channel.summary.scores})
    if emotion and labels and emotion not in labels:
        raise InvalidRequest(f"There is no emotion {emotion!r} in this report; it has {', '.join(labels)}.")
    return emotion or USUAL_EMOTION


class _Timeline:
    """One picture while it is drawn, from the top down."""

    def __init__(self, report: Report, emotion: str) -> None:
        self._report = report
        self._emotion = emotion
        self._scale = TimeScale(LEFT, WIDTH - LEFT - RIGHT_MARGIN, report.duration_ms)
        self._fills = Fills()
        self._name = (report.source.key or report.source.uri).rstrip("/").rpartition("/")[2] or report.source.uri
        self._root, self._defs = drawing.picture(WIDTH, 100, f"Emotions over time: {self._name}", self._told())

    def draw(self) -> Element:
        report, root = self._report, self._root
        excluded = report.conversation.excluded if report.conversation else ()
        top = self._draw_head() + (12 if excluded else 0)
        behind, y = group(root), top + 2
        strip = lanes.channel_height(len(report.channels))
        for channel in report.channels:
            y = lanes.draw_channel(root, self._scale, channel, y, strip, self._fills, self._emotion)
        y = lanes.draw_together(root, self._scale, report, y)
        matches = report.categories.matches if report.categories else ()
        for match in matches[:MAX_CATEGORIES]:
            y = lanes.draw_category(root, self._scale, match, y)
        if len(matches) > MAX_CATEGORIES:
            text(root, lanes.LABELS_X, y + 12, f"and {len(matches) - MAX_CATEGORIES} more categories")
            y += lanes.CATEGORY_HEIGHT
        if excluded:
            define_left_out(self._defs)
            lanes.draw_left_out(behind, self._scale, excluded, top, y)
        y = self._draw_axis(behind, top, y)
        y = self._draw_foot(y + 26)
        self._fills.define(self._defs)
        drawing.resize(root, y)
        return root

    def _draw_head(self) -> float:
        root, report, room = self._root, self._report, WIDTH - lanes.LABELS_X - RIGHT_MARGIN
        x = lanes.LABELS_X
        text(root, x, 30, shortened(self._name, room, 18, bold=True), font_size=18, font_weight="bold")
        y = 50.0
        if report.source.uri != self._name:
            text(root, x, y, shortened(report.source.uri, room), fill=SOFT_INK)
            y += 18
        text(root, x, y, shortened(self._shares(), room, 13), font_size=13)
        if report.provenance.model.mini:
            y += 20
            text(root, x, y, MINI_NOTE, font_size=13, font_weight="bold")
        if report.flags:
            y = self._draw_flags(x, y + 12)
        return y + 18

    def _draw_flags(self, x: float, y: float) -> float:
        for flag in self._report.flags:
            words = flag.replace("_", " ")
            width = drawing.text_width(words) + 16
            rect(self._root, x, y, width, 20, rx=10, fill=PAPER, stroke=INK, stroke_width=1.2)
            text(self._root, x + width / 2, y + 14, words, text_anchor="middle")
            x += width + 8
        return y + 22

    def _shares(self) -> str:
        """The call in a line."""
        report = self._report
        channels = len(report.channels)
        parts = [length(report.duration_ms), drawing.counted(channels, "channel")]
        if report.conversation is not None and report.duration_ms:
            breakdown = report.conversation.breakdown
            named = {
                "one speaks": breakdown.talk_ms,
                "overlap": breakdown.overlap_ms if channels > 1 else 0,
                "silence": breakdown.silence_ms,
                "left out": breakdown.excluded_ms,
            }
            parts += [f"{name} {ms / report.duration_ms:.0%}" for name, ms in named.items() if ms]
        if report.provenance.options.granularity != "segment":
            parts.append(f"by {report.provenance.options.granularity}")
        if report.speakers is not None:
            sure = report.speakers.confidence
            parts.append("speakers split" + ("" if sure is None else f", confidence {sure:.2f}"))
        return drawing.joined(parts)

    def _draw_axis(self, behind: Element, top: float, y: float) -> float:
        ticks = self._scale.ticks()
        lines = "".join(f"M{x:.1f} {top:g}V{y:g}" for x, _ in ticks)
        path(behind, lines, stroke=FAINT, stroke_width=1, fill="none")
        marks = "".join(f"M{x:.1f} {y:g}v5" for x, _ in ticks)
        path(self._root, f"M{self._scale.left} {y:g}H{self._scale.right}{marks}", stroke=INK, fill="none")
        for x, words in ticks:
            text(self._root, x, y + 18, words, text_anchor="middle")
        return y + 18

    def _draw_foot(self, y: float) -> float:
        left, right = lanes.LABELS_X, WIDTH - RIGHT_MARGIN
        emotions = emotion_samples(self._fills)
        if emotions:
            y = draw_legend(self._root, emotions, left, right, y)
        y = draw_legend(self._root, sign_samples(self._report, self._emotion), left, right, y)
        said = []
        if emotions:
            said.append("Bars: the emotion with the highest score, as high as that; capital letters from 0.5 on")
        if any(grain(channel.windows, self._scale) > 1 for channel in self._report.channels):
            said.append(f"Windows within {length(COARSE * self._scale.pixel_ms)} are averaged")
        if said:
            text(self._root, left, y, ". ".join(said) + ".", fill=SOFT_INK)
            y += 17
        text(self._root, left, y, shortened(self._provenance(), right - left), fill=SOFT_INK)
        return y + 14

    def _provenance(self) -> str:
        made = self._report.provenance
        model = made.model
        return drawing.joined([
            f"{model.name} ({model.hash[:8]}) by {model.engine}, {model.precision} on {model.device}",
            f"Warmline {made.warmline_version}",
            f"{made.analysed_at:%Y-%m-%d %H:%M} UTC",
        ])  # fmt: skip

    def _told(self) -> str:
        """The picture in words, for those who do not see it."""
        report = self._report
        told = [f"{report.source.uri}, {self._shares()}."]
        if report.provenance.model.mini:
            told.append(MINI_NOTE)
        for channel in report.channels:
            summary = channel.summary
            told.append(
                f"{channel.role}: no speech."
                if summary.top is None
                else f"{channel.role}: mostly {summary.top} ({summary.scores.get(summary.top, 0.0):.2f}), "
                f"speaks {length(channel.speech_seconds * 1000)}."
            )
        if report.conversation is not None and len(report.channels) > 1:
            told.append(f"Interruptions: {len(report.conversation.interruptions)}.")
        if report.categories is not None and report.categories.matches:
            names = [match.category for match in report.categories.matches]
            more = f" and {len(names) - MAX_CATEGORIES} more" if len(names) > MAX_CATEGORIES else ""
            told.append(f"Categories: {', '.join(names[:MAX_CATEGORIES])}{more}.")
        if report.flags:
            told.append(f"Flags: {', '.join(report.flags)}.")
        return " ".join(told)
