"""Many calls in one picture: how emotions go along the calls, what stands out, and which to listen to first.

Reports are added one after the other and not kept, so a picture of a hundred thousand takes no more memory, and no
more room on the page, than one of fifty.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from warmline.calls.brief_reports import AnyChannel, AnyReport
from warmline.jobs.errors import InvalidRequest
from warmline.pictures import drawing
from warmline.pictures.call_rows import CallRow, draw_rows
from warmline.pictures.drawing import SOFT_INK, Element, counted, shortened, text
from warmline.pictures.fills import Fills
from warmline.pictures.legend import draw_legend, emotion_samples
from warmline.pictures.panels import TENTHS, draw_counts, draw_shares
from warmline.pictures.time_axis import HOUR_MS, length
from warmline.pictures.timeline import MINI_NOTE, USUAL_EMOTION

WIDTH: Final = 1040
MARGIN: Final = 16
ROWS: Final = 40  # calls that have a row of their own
ROLES: Final = 4  # with a panel of their own, those of the most calls; the rows show the first two
COUNTED: Final = 8  # flags or categories that are listed; the others are counted as one
KNOWN: Final = 1000  # different roles or categories that are counted at all

# Upper bounds in seconds.
_LENGTHS: Final = (
    *((30, "under 30 s"), (60, "30 s to 1 min"), (180, "1 to 3 min"), (300, "3 to 5 min")),
    *((600, "5 to 10 min"), (1200, "10 to 20 min"), (3600, "20 to 60 min"), (float("inf"), "an hour and more")),
)


@dataclass
class _Role:
    """What is known of one role's side over all calls."""

    calls: int = 0
    tenths: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(TENTHS)])


class Overview:
    """Reports are added, then it is drawn. `emotion` decides which calls come first; angry where none is named."""

    def __init__(self, name: str, emotion: str = "") -> None:
        self._name = name
        self._emotion = emotion or USUAL_EMOTION
        self._calls = 0
        self._duration_ms = 0
        self._mini = False
        self._asked = bool(emotion)
        self._labels: set[str] = set()
        self._roles: dict[str, _Role] = {}
        self._lengths: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._categories: Counter[str] = Counter()
        self._rows: list[tuple[float, int, CallRow]] = []  # a heap: the one to give way is the first

    def add(self, report: AnyReport) -> None:
        """Counts one more call."""
        self._calls += 1
        self._duration_ms += report.duration_ms
        self._mini = self._mini or report.provenance.model.mini
        seconds = report.source.duration_seconds
        self._lengths[next(words for bound, words in _LENGTHS if seconds < bound)] += 1
        self._flags.update(flag.replace("_", " ") for flag in report.flags)
        for match in report.categories.matches if report.categories else ():
            if match.category in self._categories or len(self._categories) < KNOWN:
                self._categories[match.category] += 1
        for channel in report.channels:
            if channel.role in self._roles or len(self._roles) < KNOWN:
                self._add_side(self._roles.setdefault(channel.role, _Role()), channel)
        self._add_row(report)

    def svg(self, *notes: str) -> str:
        """The picture, an SVG document. `notes` are lines that say which reports these are.

        Raises InvalidRequest when no report has scores of the emotion.
        """
        if self._asked and self._labels and self._emotion not in self._labels:
            labels = ", ".join(sorted(self._labels))
            raise InvalidRequest(f"There is no emotion {self._emotion!r} in these reports; they have {labels}.")
        root, defs = drawing.picture(WIDTH, 100, f"Overview: {self._name}", self._told(notes))
        fills = Fills()
        y = self._draw_head(root, notes)
        if self._calls:
            y = self._draw_shares(root, y, fills)
            y = self._draw_counts(root, y)
            y = self._draw_rows(root, y)
        fills.define(defs)
        drawing.resize(root, y + 8)
        return drawing.written(root)

    @staticmethod
    def _add_side(role: _Role, channel: AnyChannel) -> None:
        role.calls += 1
        for tenth, part in zip(role.tenths, channel.summary.tenths, strict=False):
            if part.top is not None:
                tenth[part.top] += 1

    def _add_row(self, report: AnyReport) -> None:
        if len(self._labels) < KNOWN:
            self._labels.update(label for channel in report.channels for label in channel.summary.scores)
        scores = (
            part.scores.get(self._emotion, 0.0)
            for channel in report.channels
            for part in channel.summary.tenths or (channel.summary,)
        )
        highest = max(scores, default=0.0)
        place = (highest, -self._calls)  # of two alike the earlier one stays
        if len(self._rows) < ROWS:
            heapq.heappush(self._rows, (*place, CallRow.of(report, highest)))
        elif place > self._rows[0][:2]:
            heapq.heapreplace(self._rows, (*place, CallRow.of(report, highest)))

    def _common_roles(self) -> list[str]:
        return sorted(self._roles, key=lambda role: (-self._roles[role].calls, role))

    def _facts(self) -> str:
        hours = self._duration_ms / HOUR_MS
        audio = f"{hours:,.0f} hours" if hours >= 10 else length(self._duration_ms)
        return f"{counted(self._calls, 'call')}, {audio} of audio" if self._calls else "no reports"

    def _draw_head(self, root: Element, notes: tuple[str, ...]) -> float:
        room = WIDTH - 2 * MARGIN
        text(root, MARGIN, 30, shortened(self._name, room, 18, bold=True), font_size=18, font_weight="bold")
        y = 52.0
        text(root, MARGIN, y, self._facts(), font_size=13)
        for note in notes:
            y += 18
            text(root, MARGIN, y, shortened(note, room), fill=SOFT_INK)
        if self._mini:
            y += 20
            text(root, MARGIN, y, MINI_NOTE, font_size=13, font_weight="bold")
        return y + 34

    def _draw_shares(self, root: Element, y: float, fills: Fills) -> float:
        """A panel for each role, two beside each other."""
        roles = self._common_roles()[:ROLES]
        text(root, MARGIN, y, "Emotions along the calls", font_size=15, font_weight="bold")
        text(root, MARGIN, y + 17, "Calls by the emotion on top in each tenth of their length.", fill=SOFT_INK)
        y += 42
        half = (WIDTH - 2 * MARGIN - 32) / 2
        end = y
        for place, role in enumerate(roles):
            known = self._roles[role]
            x = MARGIN + (place % 2) * (half + 32)
            y = end if x == MARGIN else y
            end = draw_shares(root, x, y, half, f"{role}, {counted(known.calls, 'call')}", known.tenths, fills)
        return draw_legend(root, emotion_samples(fills), MARGIN, WIDTH - MARGIN, end + 8) + 20

    def _draw_counts(self, root: Element, y: float) -> float:
        counted = [place for place, (_, words) in enumerate(_LENGTHS) if self._lengths[words]]
        between = _LENGTHS[counted[0] : counted[-1] + 1]
        lengths = [(words, self._lengths[words]) for _, words in between]
        counts = [
            ("Lengths", lengths, ""),
            ("Flags", _most(self._flags), "no flags"),
            ("Categories", _most(self._categories), "no categories apply"),
        ]
        third = (WIDTH - 2 * MARGIN - 2 * 28) / 3
        ends = [
            draw_counts(root, MARGIN + place * (third + 28), y, third, title, rows, self._calls, empty)
            for place, (title, rows, empty) in enumerate(counts)
        ]
        return max(ends) + 26

    def _draw_rows(self, root: Element, y: float) -> float:
        rows = [row for *_, row in sorted(self._rows, key=lambda entry: entry[:2], reverse=True)]
        ranked = f"The {ROWS} calls with the highest score of {self._emotion}"
        which = "All calls" if self._calls <= ROWS else ranked
        text(root, MARGIN, y, which, font_size=15, font_weight="bold")
        words = f"By the highest score of {self._emotion} that a side has in any tenth of the call."
        words += " Letters: the top emotion of each tenth."
        roles = self._common_roles()[:2]
        if any(not row.sides.keys() & set(roles) for row in rows):
            words += " Calls without these roles: their first sides."
        text(root, MARGIN, y + 17, words, fill=SOFT_INK)
        return draw_rows(root, y + 40, rows, roles, self._emotion)

    def _told(self, notes: tuple[str, ...]) -> str:
        """The picture in words, for those who do not see it."""
        told = [f"{self._facts()}.", *notes]
        for role in self._common_roles()[:ROLES]:
            tops = sum(self._roles[role].tenths, Counter[str]()).most_common(1)
            told += [f"{role}: most often {tops[0][0]}."] if tops else []
        for title, counter in (("Flags", self._flags), ("Categories", self._categories)):
            if counter:
                told.append(f"{title}: {', '.join(f'{name} {count:,}' for name, count in _most(counter))}.")
        return " ".join(told)


def _most(counter: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent ones, the others as one."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) <= COUNTED:
        return ordered
    rest = ordered[COUNTED - 1 :]
    return [*ordered[: COUNTED - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
