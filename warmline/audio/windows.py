"""From segments to windows: what the model scores at once.

A segment longer than a window is cut into equal windows, because a short rest would be scored on too little. Short
neighbours are joined across a short pause while they fit into one window, because a window of half a second tells
less of an emotion than the sentence it belongs to.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.segments import MIN_SPEECH_SAMPLES, PADDING_SAMPLES, Segment, SegmentFinder
from warmline.audio.speech import SpeechModel, SpeechState

# Pauses within a turn are mostly shorter than a second; beyond that, someone else had time to speak.
MAX_JOINED_PAUSE_SAMPLES = SAMPLE_RATE_HZ
# Speech that never pauses is cut after this many windows, so that memory stays flat in an hour's monologue.
PIECE_WINDOWS = 6

Samples = NDArray[np.float32]  # (samples,), 16 kHz


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A stretch of one channel; `samples` are (end_sample - start_sample,), mono, 16 kHz."""

    channel: int
    start_sample: int
    end_sample: int
    samples: Samples


class ChannelCutter:
    """Turns one channel, slab after slab, into windows in order; holds the samples that one may still need."""

    def __init__(
        self, channel: int, model: SpeechModel, *, window_samples: int, threshold: float, min_samples: int
    ) -> None:
        """Windows have `min_samples` to `window_samples`. Raises ValueError where that leaves no room."""
        shortest_window = MIN_SPEECH_SAMPLES + 2 * PADDING_SAMPLES
        if window_samples < max(2 * min_samples, shortest_window):
            raise ValueError(f"a window of {window_samples} samples is too short for the model or for speech")
        self._channel = channel
        self._model = model
        self._state = SpeechState.initial()
        self._window_samples = window_samples
        self._finder = SegmentFinder(
            threshold=threshold,
            min_speech_samples=min_samples,
            piece_samples=PIECE_WINDOWS * window_samples,
            rest_samples=window_samples,
        )
        self._joined: Segment | None = None  # segments that may yet be joined with the next
        self._held = np.zeros(0, np.float32)
        self._held_from = 0  # position of the first held sample

    @property
    def speech_seconds(self) -> float:
        """Speech found so far, without padding."""
        return self._finder.speech_samples / SAMPLE_RATE_HZ

    def push(self, samples: Samples) -> Iterator[Window]:
        """The windows that the next (samples,) complete. All but the last push have whole chunks."""
        probabilities = self._model.probabilities(samples, self._state)
        self._held = np.concatenate((self._held, samples))
        for segment in self._finder.push(probabilities.tolist()):
            yield from self._take(segment)
        if self._joined is not None and not self._may_join(self._joined, self._finder.next_start):
            yield from self._cut(self._joined)
            self._joined = None
        self._forget_before(self._joined.start if self._joined is not None else self._finder.next_start)

    def finish(self) -> Iterator[Window]:
        """The windows that were waiting for the channel's end."""
        for segment in self._finder.finish(self._held_from + len(self._held)):
            yield from self._take(segment)
        if self._joined is not None:
            yield from self._cut(self._joined)
            self._joined = None

    def _take(self, segment: Segment) -> Iterator[Window]:
        if self._joined is not None:
            if (
                self._may_join(self._joined, segment.start)
                and segment.end <= self._joined.start + self._window_samples
            ):
                self._joined = Segment(self._joined.start, segment.end)
                return
            yield from self._cut(self._joined)
        self._joined = segment

    def _may_join(self, joined: Segment, next_start: int) -> bool:
        """False once no segment that begins at `next_start` or later can be joined."""
        return (
            next_start - joined.end <= MAX_JOINED_PAUSE_SAMPLES
            and next_start < joined.start + self._window_samples
        )

    def _cut(self, segment: Segment) -> Iterator[Window]:
        length = segment.end - segment.start
        count = -(-length // self._window_samples)
        edges = [segment.start + length * i // count for i in range(count + 1)]
        for start, end in itertools.pairwise(edges):
            # Copied, so that a window does not keep the whole slab alive.
            samples = self._held[start - self._held_from : end - self._held_from].copy()
            yield Window(channel=self._channel, start_sample=start, end_sample=end, samples=samples)

    def _forget_before(self, position: int) -> None:
        self._held = self._held[position - self._held_from :].copy()
        self._held_from = position
