"""The calls of an overview that have a row of their own: name, length, each side's emotions by tenths, a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from warmline.calls.brief_reports import AnyReport
from warmline.calls.palette import letter_of, look_of
from warmline.calls.report import PartSummary
from warmline.pictures.drawing import FAINT, INK, SOFT_INK, Element, group, rect, shortened, text
from warmline.pictures.panels import TENTHS, group_of_letters
from warmline.pictures.time_axis import length

ROW: Final = 20
CELL: Final = 18
NAME_X: Final = 16
NAME_WIDTH: Final = 300
LENGTH_X: Final = 400  # right-aligned
STRIPS_X: Final = (420, 624)
SCORE_X: Final = 836
SCORE_WIDTH: Final = 140


@dataclass(frozen=True)
class CallRow:
    """What a row shows. `sides`: by role, each tenth's letter and label, None without speech."""

    name: str
    duration_ms: int
    score: float
    sides: Mapping[str, tuple[tuple[str, str] | None, ...]]

    def shown(self, roles: Sequence[str]) -> list[tuple[tuple[str, str] | None, ...]]:
        """The sides with these roles; of a call that has none of them its first ones."""
        if not self.sides.keys() & set(roles):
            return list(self.sides.values())
        return [self.sides.get(role, ()) for role in roles]

    @classmethod
    def of(cls, report: AnyReport, score: float) -> Self:
        """A report's row; of two channels in one role the first is shown."""
        sides: dict[str, tuple[tuple[str, str] | None, ...]] = {}
        for channel in report.channels:
            sides.setdefault(channel.role, tuple(map(_cell, channel.summary.tenths)))
        return cls(report.source.key or report.source.uri, report.duration_ms, score, sides)


def _cell(part: PartSummary) -> tuple[str, str] | None:
    return None if part.top is None else (letter_of(part.top, part.scores), part.top)


def draw_rows(parent: Element, y: float, rows: Sequence[CallRow], roles: Sequence[str], emotion: str) -> float:
    """The rows below their headings, with letters on plain colours. Returns their end."""
    headings = group(parent, fill=SOFT_INK, font_weight="bold")
    text(headings, NAME_X, y, "call")
    text(headings, LENGTH_X, y, "length", text_anchor="end")
    for x, role in zip(STRIPS_X, roles, strict=False):
        text(headings, x, y, shortened(role, TENTHS * CELL))
    text(headings, SCORE_X, y, shortened(f"highest {emotion}", 188))
    cells = group(parent)
    letters = group_of_letters(parent)
    for row in rows:
        y += ROW
        text(parent, NAME_X, y, shortened(row.name, NAME_WIDTH))
        text(parent, LENGTH_X, y, length(row.duration_ms), text_anchor="end")
        for x, side in zip(STRIPS_X, row.shown(roles), strict=False):
            _draw_strip(cells, letters, x, y, side)
        rect(parent, SCORE_X, y - 10, SCORE_WIDTH * row.score, 12, fill=INK)
        text(parent, SCORE_X + SCORE_WIDTH * row.score + 6, y, f"{row.score:.2f}", fill=SOFT_INK)
    return y + ROW


def _draw_strip(
    cells: Element, letters: Element, x: float, y: float, side: Sequence[tuple[str, str] | None]
) -> None:
    if side:
        rect(cells, x, y + 3, TENTHS * CELL, 1, fill=FAINT)
    for place, cell in enumerate(side):
        if cell is not None:
            letter, label = cell
            rect(cells, x + place * CELL, y - 12, CELL - 1, 15, fill=look_of(label).colour)
            text(letters, x + place * CELL + CELL / 2 - 0.5, y, letter)
