"""A window that slides over speech, one hop further each time."""

from __future__ import annotations

from collections.abc import Iterator

from warmline.audio.segments import Segment


class Slide:
    """Follows a channel's segments; those that touch are one stretch of speech. In samples.

    The windows of a stretch begin with it and then every hop, until one ends with the stretch: the last one or two
    are shorter where the stretch ends within them. A remainder of less than `least_samples` gets no window of its
    own.
    """

    def __init__(self, window_samples: int, hop_samples: int, least_samples: int) -> None:
        self._window_samples = window_samples
        self._hop_samples = hop_samples
        self._least_samples = least_samples
        self._stretch: Segment | None = None
        self._next = 0  # where the stretch's next window begins
        self._covered = 0  # where its last one ended

    @property
    def next_start(self) -> int | None:
        """Where the next window may begin; None: with the next segment."""
        return None if self._stretch is None else min(self._next, self._stretch.end)

    def take(self, segment: Segment) -> Iterator[Segment]:
        """The windows that this segment completes."""
        if self._stretch is not None and segment.start == self._stretch.end:
            self._stretch = Segment(self._stretch.start, segment.end)
        else:
            yield from self.finish()
            self._stretch, self._next, self._covered = segment, segment.start, segment.start
        while self._next + self._window_samples <= segment.end:
            yield self._advance(self._next + self._window_samples)

    def end_before(self, next_start: int) -> Iterator[Segment]:
        """No later segment begins before `next_start`: the rest of a stretch that is over."""
        if self._stretch is not None and next_start > self._stretch.end:
            yield from self.finish()

    def finish(self) -> Iterator[Segment]:
        """The rest of the stretch."""
        stretch, self._stretch = self._stretch, None
        if stretch is None:
            return
        while self._covered < stretch.end and self._next < stretch.end:
            remainder = stretch.end - self._next
            if remainder < self._least_samples and self._covered > stretch.start:
                return
            yield self._advance(stretch.end)

    def _advance(self, end: int) -> Segment:
        window = Segment(self._next, end)
        self._next += self._hop_samples
        self._covered = end
        return window
