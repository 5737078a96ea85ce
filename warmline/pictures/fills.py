"""The emotions' fills: each its colour of the palette and a pattern of its own.

A grey print has no colours, and some pairs of colours are near each other for some eyes: the patterns tell them
apart where there is no room for a letter.
"""

from __future__ import annotations

from typing import Final

from warmline.calls.palette import look_of
from warmline.calls.report import STANDARD_LABELS
from warmline.pictures.drawing import INK, PAPER, Element, add, path, rect

TILE: Final = 8  # pixels; every pattern repeats after so many

_RISING: Final = "M-2 2l4-4M-1 9l10-10M6 10l4-4"
_FALLING: Final = "M-2 6l4 4M-1 -1l10 10M6 -2l4 4"

# By label: the lines' path, their colour and their width in pixels. Dots are lines of no length with round ends.
_PATTERNS: Final[dict[str, tuple[str, str, float]]] = {
    "angry": (_RISING, INK, 2.2),
    "disgusted": (_RISING + _FALLING, INK, 0.9),
    "fearful": ("M2 0v8M6 0v8", INK, 1.1),
    "happy": ("M2 2h0M6 6h0", PAPER, 3.4),
    "neutral": ("", INK, 0),
    "other": ("M4 4h0", INK, 2.4),
    "sad": ("M0 2h8M0 6h8", PAPER, 1.4),
    "surprised": (_FALLING, PAPER, 2.4),
    "unknown": ("M4 1.5v5M1.5 4h5", PAPER, 1.6),
}
# For labels that are not standard, in turn.
_SPARE: Final[tuple[tuple[str, str, float], ...]] = (
    ("M0 4h8", INK, 1.2),
    ("M4 0v8", INK, 1.2),
    ("M0 4h8M4 0v8", INK, 0.8),
    ("M1 1h3v3h-3z", INK, 0.9),
    (_FALLING, INK, 0.9),
)
LEFT_OUT: Final = "wl-left-out"


class Fills:
    """The fills of one picture. Labels that are not standard get theirs in the order in which they are asked."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def of(self, label: str) -> str:
        """The value of `fill` for this emotion."""
        if label not in self._names:
            standard = label in STANDARD_LABELS
            self._names[label] = f"wl-{label}" if standard else f"wl-own-{len(self._names)}"
        return f"url(#{self._names[label]})"

    @property
    def labels(self) -> list[str]:
        """Those that were asked for, the standard ones first and in their order."""
        places = {label: place for place, label in enumerate(STANDARD_LABELS)}
        return sorted(self._names, key=lambda label: (places.get(label, len(places)), label))

    def define(self, defs: Element) -> None:
        """Writes what was asked for into the picture."""
        spare = 0
        for label, name in self._names.items():
            lines = _PATTERNS.get(label)
            if lines is None:
                lines = _SPARE[spare % len(_SPARE)]
                spare += 1
            tile = _tile(defs, name)
            rect(tile, 0, 0, TILE, TILE, fill=look_of(label).colour)
            d, colour, width = lines
            if d:
                path(tile, d, stroke=colour, stroke_width=width, stroke_linecap="round", fill="none")


def define_left_out(defs: Element) -> None:
    """The pattern of what was left out of the analysis: faint lines, which no emotion has."""
    tile = _tile(defs, LEFT_OUT)
    rect(tile, 0, 0, TILE, TILE, fill="#F2F2F2")
    path(tile, _FALLING, stroke="#C4C4C4", stroke_width=1)


def _tile(defs: Element, name: str) -> Element:
    return add(defs, "pattern", id=name, width=TILE, height=TILE, patternUnits="userSpaceOnUse")
