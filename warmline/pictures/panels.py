"""The charts of an overview: shares of emotions along the calls, and counts as bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from warmline.calls.palette import look_of
from warmline.calls.report import STANDARD_LABELS
from warmline.pictures.drawing import (
    FAINT,
    INK,
    PAPER,
    SOFT_INK,
    Element,
    group,
    path,
    rect,
    shortened,
    text,
)
from warmline.pictures.fills import Fills

TENTHS: Final = 10
SHARES_HEIGHT: Final = 160
COUNT_LINE: Final = 20
SMALL: Final = 11


def draw_shares(
    parent: Element, x: float, y: float, width: float, title: str, tenths: Sequence[Counter[str]], fills: Fills
) -> float:
    """Ten bars of shares that make up a whole, one for each tenth of the call. Returns the panel's end."""
    text(parent, x, y, shortened(title, width, 13, bold=True), font_size=13, font_weight="bold")
    left, top = x + 42, y + 10
    base, step = top + SHARES_HEIGHT, (width - 42) / TENTHS
    for share in (0.0, 0.5, 1.0):
        line = base - share * SHARES_HEIGHT
        path(parent, f"M{left:g} {line:g}H{x + width:g}", stroke=FAINT if share else SOFT_INK, stroke_width=1)
        text(parent, left - 6, line + 4, f"{share:.0%}", text_anchor="end", font_size=SMALL, fill=SOFT_INK)
    bars, letters = group(parent), group_of_letters(parent)
    for place, counts in enumerate(tenths):
        _draw_stack(bars, letters, left + place * step, base, step, counts, fills)
    text(parent, left, base + 16, "start", font_size=SMALL, fill=SOFT_INK)
    text(parent, x + width, base + 16, "end", font_size=SMALL, fill=SOFT_INK, text_anchor="end")
    return base + 40


def _draw_stack(
    bars: Element, letters: Element, x: float, base: float, step: float, counts: Counter[str], fills: Fills
) -> None:
    total = counts.total()
    places = {label: place for place, label in enumerate(STANDARD_LABELS)}
    y = base
    for label in sorted(counts, key=lambda each: (places.get(each, len(places)), each)):
        height = counts[label] / total * SHARES_HEIGHT
        y -= height
        rect(bars, x + 1, y, step - 2, height, fill=fills.of(label), stroke=PAPER, stroke_width=0.6)
        if height >= 14:
            text(letters, x + step / 2, y + height / 2 + 4, look_of(label).letter.upper())


def group_of_letters(parent: Element) -> Element:
    """A group for letters on colours: each has a light seam around it."""
    return group(
        parent, text_anchor="middle", font_size=SMALL, font_weight="bold",
        stroke=PAPER, stroke_width=3, stroke_linejoin="round", paint_order="stroke",
    )  # fmt: skip


def draw_counts(
    parent: Element, x: float, y: float, width: float, title: str, rows: Sequence[tuple[str, int]], of: int,
    empty: str,
) -> float:  # fmt: skip
    """Bars of how many calls, `of` all, with their number and their share. Returns the panel's end."""
    text(parent, x, y, title, font_size=15, font_weight="bold")
    y += 24
    if not rows:
        text(parent, x, y, empty, fill=SOFT_INK, font_style="italic")
        return y + COUNT_LINE
    names, numbers = 128.0, 84.0
    room = width - names - numbers
    for words, count in rows:
        text(parent, x, y, shortened(words, names - 8))
        rect(parent, x + names, y - 10, max(room * count / of, 1 if count else 0), 12, fill=INK)
        share = f"{count:,} ({count / of:.0%})" if 200 * count >= of else f"{count:,} (< 1%)" if count else "0"
        text(parent, x + width, y, share, text_anchor="end", fill=SOFT_INK)
        y += COUNT_LINE
    return y
