"""Stretches of time and what can be done with them: joined, cut out of one another, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from warmline.calls.report import Span


def union(spans: Iterable[Span], *, gap_ms: int = 0) -> tuple[Span, ...]:
    """In order and without overlaps; those that lie at most `gap_ms` apart are one. Empty ones are left out."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda each: each.start_ms):
        if span.end_ms <= span.start_ms:
            continue
        if joined and span.start_ms - joined[-1].end_ms <= gap_ms:
            joined[-1] = Span(start_ms=joined[-1].start_ms, end_ms=max(joined[-1].end_ms, span.end_ms))
        else:
            joined.append(Span(start_ms=span.start_ms, end_ms=span.end_ms))
    return tuple(joined)


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
    """How much of a stretch spans cover that are in order; it is asked for stretches in order of their starts."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._first = 0

    def of(self, stretch: Span) -> int:
        """Milliseconds."""
        while self._first < len(self._spans) and self._spans[self._first].end_ms <= stretch.start_ms:
            self._first += 1
        covered = 0
        for place in range(self._first, len(self._spans)):
            span = self._spans[place]
            if span.start_ms >= stretch.end_ms:
                break
            covered += min(span.end_ms, stretch.end_ms) - max(span.start_ms, stretch.start_ms)
        return covered
