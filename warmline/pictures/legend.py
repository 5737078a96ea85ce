"""What the signs of a picture mean: samples with words, in lines as wide as the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from warmline.calls.palette import look_of
from warmline.pictures.drawing import SOFT_INK, Element, rect, shortened, text, text_width
from warmline.pictures.fills import Fills

SAMPLE_WIDTH: Final = 20
LINE: Final = 20

# Draws a sample with its left edge at x in a line of text whose baseline is at y.
Sample = Callable[[Element, float, float], None]


def emotion_samples(fills: Fills) -> list[tuple[Sample, str]]:
    """The emotions that were drawn, each with its fill and its letter."""

    def sample(label: str) -> Sample:
        return lambda parent, x, y: _swatch(parent, x, y, fills.of(label))

    return [(sample(label), f"{look_of(label).letter.upper()} {label}") for label in fills.labels]


def draw_legend(parent: Element, items: list[tuple[Sample, str]], left: float, right: float, y: float) -> float:
    """Draws the items, line by line; returns where the next line would be."""
    x = left
    for sample, whole in items:
        words = shortened(whole, right - left - SAMPLE_WIDTH - 6)
        needed = SAMPLE_WIDTH + 6 + text_width(words) + 16
        if x > left and x + needed > right:
            x, y = left, y + LINE
        sample(parent, x, y)
        text(parent, x + SAMPLE_WIDTH + 6, y, words)
        x += needed
    return y + LINE


def _swatch(parent: Element, x: float, y: float, fill: str) -> None:
    rect(parent, x, y - 11, SAMPLE_WIDTH, 14, fill=fill, stroke=SOFT_INK, stroke_width=0.6)
