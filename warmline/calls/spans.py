"""Stretches of time and what can be done with them: joined, cut out of one another, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from warmline.calls.report import Span
from warmline.calls.stretches import Covered, join


def union(spans: Iterable[Span], *, gap_ms: int = 0) -> tuple[Span, ...]:
    """In order and without overlaps; those that lie at most `gap_ms` apart are one. Empty ones are left out."""
    joined = join(((span.start_ms, span.end_ms) for span in spans), gap_ms=gap_ms)
    return tuple(Span(start_ms=start_ms, end_ms=end_ms) for start_ms, end_ms in joined)


def without(spans: Sequence[Span], holes: Sequence[Span]) -> tuple[Span, ...]:
    """What is left of `spans` outside of `holes`. Both are in order and do not overlap among themselves."""
    left: list[Span] = []
    first = 0
    for span in spans:
        start_ms = span.start_ms
        while first < len(holes) and holes[first].end_ms <= start_ms:
            first += 1
        for place in range(first, len(holes)):
            hole = holes[place]
            if hole.start_ms >= span.end_ms:
                break
            if hole.start_ms > start_ms:
                left.append(Span(start_ms=start_ms, end_ms=hole.start_ms))
            start_ms = hole.end_ms
        if start_ms < span.end_ms:
            left.append(Span(start_ms=start_ms, end_ms=span.end_ms))
    return tuple(left)


def within(spans: Iterable[Span], duration_ms: int) -> Iterator[Span]:
    """Those parts that lie inside a call of this length."""
    for span in spans:
        start_ms, end_ms = max(span.start_ms, 0), min(span.end_ms, duration_ms)
        if start_ms < end_ms:
            yield Span(start_ms=start_ms, end_ms=end_ms)


def total_ms(spans: Iterable[Span]) -> int:
    """How long they are together."""
    return sum(span.duration_ms for span in spans)


class Coverage:
    """How much of a stretch is covered by spans, which are in order and do not overlap."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._covered = Covered([(span.start_ms, span.end_ms) for span in spans])

    def of(self, stretch: Span) -> int:
        """Milliseconds."""
        return self._covered.of((stretch.start_ms, stretch.end_ms))
