"""The lanes of a timeline: what one channel shows, what its sides do together, and where categories apply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from warmline.calls.palette import letter_of
from warmline.calls.report import CategoryMatch, ChannelReport, Interruption, Report, Span
from warmline.pictures.columns import Run, runs
from warmline.pictures.drawing import (
    FAINT,
    INK,
    PAPER,
    SOFT_INK,
    Element,
    add,
    clean,
    counted,
    group,
    joined,
    path,
    rect,
    shortened,
    text,
    text_width,
)
from warmline.pictures.fills import LEFT_OUT, Fills
from warmline.pictures.time_axis import TimeScale, gaps, length, on_pixels, overlaps

LABELS_X: Final = 16  # where the lanes' names begin
SMALL: Final = 11.0
LETTER_ROW: Final = 14
CELL: Final = 12  # pixels; a letter stands for what is on top in most of its cell
SPEECH_HEIGHT: Final = 6
CHANNEL_GAP: Final = 14
TRIANGLE: Final = 4.5
SILENCE: Final = "#BBBBBB"
LANE_HEIGHT: Final = 34
CATEGORY_HEIGHT: Final = 24

Spans = list[tuple[int, int]]


def channel_height(channels: int) -> int:
    """How high each channel's strip is: many have to share a screen."""
    return {1: 110, 2: 96, 3: 72, 4: 64}.get(channels, 44 if channels <= 8 else 32)


def lane_name(parent: Element, scale: TimeScale, y: float, words: str, *notes: str) -> None:
    """A lane's name and what there is to say of it, left of the lane."""
    room = scale.left - LABELS_X - 30
    text(parent, LABELS_X, y, shortened(words, room, 13, bold=True), font_weight="bold", font_size=13)
    for place, note in enumerate(notes, start=1):
        text(parent, LABELS_X, y + 15 * place, shortened(note, room), fill=SOFT_INK)


def draw_channel(
    parent: Element, scale: TimeScale, channel: ChannelReport, y: float, strip: int, fills: Fills, emotion: str
) -> float:
    """A channel from `y` on: letters, bars as high as the top score, `emotion`'s line, speech. Returns its end."""
    notes = [_verdict(channel)]
    if channel.speech:
        notes.append(f"talks {length(channel.speech_seconds * 1000)}")
        notes += [] if channel.talk_share is None else [f"{channel.talk_share:.0%} of the talk"]
    top = y + LETTER_ROW
    base = top + strip
    lane_name(parent, scale, y + 12, channel.role, *notes[: 1 + strip // 20])
    _draw_grid(parent, scale, top, strip)
    shown = runs(channel.windows, scale)
    if not shown:
        text(
            parent, (scale.left + scale.right) / 2, top + strip / 2 + 4, "no speech",
            text_anchor="middle", fill=SOFT_INK, font_style="italic",
        )  # fmt: skip
    _draw_bars(parent, scale, shown, base, strip, fills)
    _draw_letters(parent, scale, shown, y + LETTER_ROW - 3)
    _draw_line(parent, scale, shown, base, strip, emotion)
    _draw_spans(parent, scale, _plain(channel.speech), base + 3, SPEECH_HEIGHT, INK)
    _draw_tones(parent, scale, channel, base)
    return base + 3 + SPEECH_HEIGHT + CHANNEL_GAP


def _verdict(channel: ChannelReport) -> str:
    summary = channel.summary
    return "no speech" if summary.top is None else f"{summary.top} {summary.scores.get(summary.top, 0.0):.2f}"


def _draw_grid(parent: Element, scale: TimeScale, top: float, strip: int) -> None:
    lines = group(parent, stroke_width=1)
    for share in (0.0, 0.5, 1.0):
        y = top + strip * (1 - share)
        path(lines, f"M{scale.left} {y:.1f}H{scale.right}", stroke=FAINT if share else SOFT_INK)
        if strip >= 60:
            text(parent, scale.left - 6, y + 4, f"{share:g}", text_anchor="end", fill=SOFT_INK, font_size=SMALL)


def _draw_bars(
    parent: Element, scale: TimeScale, shown: Sequence[Run], base: float, strip: int, fills: Fills
) -> None:
    """One path for each emotion, so that ten thousand windows are nine elements."""
    paths: dict[str, list[str]] = {}
    for run in shown:
        width = run.width - 1 if run.width >= 6 else run.width  # neighbours show as two where there is room
        height = max(round(run.score * strip), 1)
        bar = f"M{scale.left + run.start} {base:g}v-{height}h{width}v{height}z"
        paths.setdefault(run.top, []).append(bar)
    for label, bars in paths.items():
        path(parent, "".join(bars), fill=fills.of(label))


def _draw_letters(parent: Element, scale: TimeScale, shown: Sequence[Run], y: float) -> None:
    """Letters as the terminal's: once where one window, or one emotion, fills several cells on end."""
    cells: list[dict[str, int]] = [{} for _ in range(-(-scale.pixels // CELL))]
    for run in shown:
        letter = letter_of(run.top, run.scores)
        for cell in range(run.start // CELL, (run.end - 1) // CELL + 1):
            inside = min(run.end, (cell + 1) * CELL) - max(run.start, cell * CELL)
            cells[cell][letter] = cells[cell].get(letter, 0) + inside
    letters = group(parent, text_anchor="middle", font_size=SMALL, font_weight="bold")
    first, held = 0, ""
    for cell in range(len(cells) + 1):
        here = cells[cell] if cell < len(cells) else {}
        letter = max(here, key=here.__getitem__) if here else ""
        if letter == held:
            continue
        if held:
            text(letters, scale.left + (first + cell) * CELL / 2, y, held)
        first, held = cell, letter


def _draw_line(
    parent: Element, scale: TimeScale, shown: Sequence[Run], base: float, strip: int, emotion: str
) -> None:
    """The score of one emotion over time, as steps; dark in a light seam, so that it shows on every fill."""
    steps: list[str] = []
    last = -1
    for run in shown:
        if emotion not in run.scores:
            continue
        left, y = scale.left + run.start, base - run.scores[emotion] * strip
        steps.append(f"V{y:.1f}" if run.start == last else f"M{left} {y:.1f}")
        steps.append(f"H{scale.left + run.end}")
        last = run.end
    if steps:
        d = "".join(steps)
        path(parent, d, fill="none", stroke=PAPER, stroke_width=3, stroke_opacity="0.7")
        path(parent, d, fill="none", stroke=INK, stroke_width=1.3)


def _draw_spans(parent: Element, scale: TimeScale, spans: Spans, y: float, height: float, fill: str) -> None:
    bars = [
        f"M{left:.1f} {y:g}h{right - left:.1f}v{height:g}h-{right - left:.1f}z"
        for left, right in on_pixels(spans, scale)
    ]
    if bars:
        path(parent, "".join(bars), fill=fill)


def _draw_tones(parent: Element, scale: TimeScale, channel: ChannelReport, base: float) -> None:
    """Open boxes on the strip's ground line, with a key's sign above where there is room."""
    boxes = [
        f"M{left:.1f} {base:g}v-8h{max(right - left, 2):.1f}v8z"
        for left, right in on_pixels(_plain(channel.tones), scale)
    ]
    if not boxes:
        return
    path(parent, "".join(boxes), fill=PAPER, stroke=SOFT_INK, stroke_width=1)
    free = scale.left - 6.0
    signs = group(parent, text_anchor="middle", font_size=SMALL, fill=SOFT_INK)
    for tone in channel.tones:
        middle = (scale.x(tone.start_ms) + scale.x(tone.end_ms)) / 2
        if tone.digit is not None and middle - 4 >= free:
            text(signs, middle, base - 11, tone.digit)
            free = middle + 6


def draw_together(parent: Element, scale: TimeScale, report: Report, y: float) -> float:
    """What the sides do together: overlaps and interruptions, then the longest silences. Returns its end."""
    conversation = report.conversation
    if conversation is None:
        return y
    if len(report.channels) > 1:
        count = len(conversation.interruptions)
        overlap_ms = conversation.breakdown.overlap_ms
        all_of_it = f"{length(overlap_ms)} in all" if overlap_ms else "none"
        lane_name(parent, scale, y + 12, "overlaps", all_of_it, counted(count, "interruption"))
        _ground(parent, scale, y + 21)
        spans = overlaps([_plain(channel.speech) for channel in report.channels])
        _draw_spans(parent, scale, spans, y + 13, 8, INK)
        _draw_interruptions(parent, scale, conversation.interruptions, y + 13)
        y += LANE_HEIGHT + 16
    lane_name(parent, scale, y + 12, "silences", f"{length(conversation.breakdown.silence_ms)} in all")
    _ground(parent, scale, y + 21)
    heard = [*conversation.excluded, *(span for channel in report.channels for span in channel.speech)]
    silent = gaps(_plain(heard), report.duration_ms)
    _draw_spans(parent, scale, silent, y + 18, SPEECH_HEIGHT, SILENCE)
    _draw_silences(parent, scale, conversation.longest_silences, y + 17)
    return y + LANE_HEIGHT + 6


def _ground(parent: Element, scale: TimeScale, y: float) -> None:
    path(parent, f"M{scale.left} {y:g}H{scale.right}", stroke=FAINT, stroke_width=1)


def _draw_interruptions(
    parent: Element, scale: TimeScale, interruptions: Sequence[Interruption], y: float
) -> None:
    """A triangle where each begins, pointing from the channel above down or from the one below up."""
    marks: list[str] = []
    free = {True: float("-inf"), False: float("-inf")}
    for found in interruptions:
        x, down = scale.x(found.start_ms), found.by_channel < found.of_channel
        if x < free[down]:
            continue
        free[down] = x + TRIANGLE
        marks.append(triangle(x, y - 9 if down else y + 18, down=down))
    if marks:
        path(parent, "".join(marks), fill=INK, stroke=PAPER, stroke_width=0.8)


def triangle(x: float, y: float, *, down: bool) -> str:
    """The path of one that points down (its top at `y`) or up (its ground at `y`)."""
    turn = 1 if down else -1
    return f"M{x - TRIANGLE:.1f} {y:g}h{2 * TRIANGLE:g}l-{TRIANGLE:g} {turn * 8}z"


def _draw_silences(parent: Element, scale: TimeScale, silences: Sequence[Span], y: float) -> None:
    """Brackets, each with its length above where there is room: the longest first to take it."""
    taken: Spans = []
    for silence in silences:
        left, right = scale.x(silence.start_ms), scale.x(silence.end_ms)
        bracket(parent, left, right, y)
        words, middle = length(silence.duration_ms), (left + right) / 2
        half = text_width(words, SMALL) / 2 + 3
        start, end = max(middle - half, scale.left), min(middle + half, scale.right)
        if all(end <= other_start or other_end <= start for other_start, other_end in taken):
            taken.append((int(start), int(end) + 1))
            middle = min(max(middle, scale.left + half), scale.right - half)
            text(parent, middle, y - 4, words, text_anchor="middle", font_size=SMALL)


def bracket(parent: Element, left: float, right: float, y: float, dashes: str = "") -> None:
    """|----| from left to right, 8 pixels high from `y` on."""
    right = max(right, left + 1.5)
    d = f"M{left:.1f} {y:g}v8m0 -4H{right:.1f}m0 -4v8"
    drawn = path(parent, d, fill="none", stroke=INK, stroke_width=1.5)
    if dashes:
        drawn.set("stroke-dasharray", dashes)


def draw_category(parent: Element, scale: TimeScale, match: CategoryMatch, y: float) -> float:
    """Where a category applies: brackets, of several roles each with its own; dashed for the whole call.

    Returns the lane's end.
    """
    roles = _by_role(match)
    whole = match.category if len(roles) != 1 else joined([match.category, *roles])
    name = text(parent, LABELS_X, y + 12, shortened(whole, scale.left - LABELS_X - 12))
    add(name, "title").text = clean(whole)  # what a pointer that rests on it shows
    if not match.ranges:
        bracket(parent, scale.left, scale.right, y + 4, dashes="6 4")
        middle, words = (scale.left + scale.right) / 2, "the whole call"
        half = text_width(words, SMALL) / 2 + 4
        rect(parent, middle - half, y, 2 * half, 15, fill=PAPER)
        text(parent, middle, y + 12, words, text_anchor="middle", font_size=SMALL)
        return y + CATEGORY_HEIGHT
    _ground(parent, scale, y + 8)
    placed = sorted(
        (left, right, role if len(roles) > 1 else "")
        for role, spans in roles.items()
        for left, right in on_pixels(spans, scale)
    )
    for place, (left, right, role) in enumerate(placed):
        bracket(parent, left, right, y + 4)
        following = min((each[0] for each in placed[place + 1 :]), default=float(scale.right))
        if role and right + text_width(role, SMALL) + 8 <= following:
            text(parent, right + 4, y + 12, role, font_size=SMALL, fill=SOFT_INK)
    return y + CATEGORY_HEIGHT


def _by_role(match: CategoryMatch) -> dict[str, Spans]:
    found: dict[str, Spans] = {}
    for matched in match.ranges:
        found.setdefault(matched.role or "", []).append((matched.start_ms, matched.end_ms))
    return found


def draw_left_out(parent: Element, scale: TimeScale, excluded: Sequence[Span], top: float, bottom: float) -> None:
    """Bands behind everything, where the call was not looked at."""
    for left, right in on_pixels(_plain(excluded), scale):
        rect(parent, left, top, right - left, bottom - top, fill=f"url(#{LEFT_OUT})")
        words = "left out"
        if right - left >= text_width(words, SMALL):
            text(parent, (left + right) / 2, top - 3, words, text_anchor="middle", font_size=SMALL, fill=SOFT_INK)


def _plain(spans: Sequence[Span]) -> Spans:
    return [(span.start_ms, span.end_ms) for span in spans]
