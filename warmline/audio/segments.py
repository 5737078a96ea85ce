"""From speech probabilities to segments: where a channel speaks, and where it only breathes.

The rule is silero-vad's own (utils_vad.get_speech_timestamps_from_probs), made to run on a stream: a chunk at or
above the threshold opens a segment, and one that stays below a lower threshold for long enough closes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.speech import CHUNK_SAMPLES

# How far below the opening threshold the probability must fall to close a segment: silero's own figure. Without
# it, a voice near the threshold would be cut to pieces.
HYSTERESIS = 0.15
# Speech shorter than this is a click or a cough: silero's own figure, and too little to hear an emotion in.
MIN_SPEECH_SAMPLES = round(0.25 * SAMPLE_RATE_HZ)
# Soft beginnings and endings of words lie below the threshold; this much is added on either side.
PADDING_SAMPLES = round(0.1 * SAMPLE_RATE_HZ)
# Closures of plosives last up to 0.15 s and are no pause. Twice the padding, so that segments never overlap.
MIN_SILENCE_SAMPLES = round(0.2 * SAMPLE_RATE_HZ)


class Segment(NamedTuple):
    """A stretch of speech with its padding; in 16 kHz samples from the channel's start."""

    start: int
    end: int


@dataclass
class _OpenSegment:
    start: int  # padding included
    speech_from: int
    quiet_since: int | None = None


class SegmentFinder:
    """Follows one channel, and hands out a segment that grows too long in pieces while it goes on.

    `speech` has the speech found so far, without padding: in order, none touching another.
    """

    def __init__(
        self, *, threshold: float, min_speech_samples: int, piece_samples: int, rest_samples: int
    ) -> None:
        """Of unbroken speech, `piece_samples` are handed out as soon as `rest_samples` more are there."""
        self._opens_at = threshold
        self._closes_below = max(threshold - HYSTERESIS, threshold / 2)
        self._min_speech_samples = max(MIN_SPEECH_SAMPLES, min_speech_samples)
        if rest_samples < self._min_speech_samples + MIN_SILENCE_SAMPLES + CHUNK_SAMPLES:
            raise ValueError("a rest that may fall silent at once must still be long enough for a segment")
        self._piece_samples = piece_samples
        self._rest_samples = rest_samples
        self._position = 0  # where the next chunk begins
        self._last_end = 0
        self._open: _OpenSegment | None = None
        self.speech: list[Segment] = []

    @property
    def next_start(self) -> int:
        """No later segment begins before this sample."""
        if self._open is not None:
            return self._open.start
        return max(self._last_end, self._position - PADDING_SAMPLES)

    def push(self, probabilities: Iterable[float]) -> Iterator[Segment]:
        """Follows the next chunks, one probability each; yields the segments that end in them."""
        for probability in probabilities:
            if self._open is None:
                if probability >= self._opens_at:
                    self._open = _OpenSegment(start=self.next_start, speech_from=self._position)
            elif probability >= self._opens_at:
                self._open.quiet_since = None
            else:
                yield from self._go_quiet(self._open, probability)
            self._position += CHUNK_SAMPLES
            if (
                self._open is not None
                and self._position - self._open.start >= self._piece_samples + self._rest_samples
            ):
                yield self._hand_out_piece(self._open)

    def finish(self, total_samples: int) -> Iterator[Segment]:
        """Ends the channel, which has `total_samples`; closes what is open."""
        if self._open is not None:
            quiet_since = self._open.quiet_since
            yield from self._close(
                self._open, total_samples if quiet_since is None else quiet_since, total_samples
            )

    def _go_quiet(self, segment: _OpenSegment, probability: float) -> Iterator[Segment]:
        if segment.quiet_since is None and probability < self._closes_below:
            segment.quiet_since = self._position
        if segment.quiet_since is not None and self._position - segment.quiet_since >= MIN_SILENCE_SAMPLES:
            yield from self._close(segment, segment.quiet_since, self._position)

    def _close(self, segment: _OpenSegment, speech_end: int, limit: int) -> Iterator[Segment]:
        self._open = None
        speech_samples = speech_end - segment.speech_from
        if speech_samples >= self._min_speech_samples:
            self._add_speech(segment.speech_from, speech_end)
            self._last_end = min(speech_end + PADDING_SAMPLES, limit)
            yield Segment(segment.start, self._last_end)

    def _hand_out_piece(self, segment: _OpenSegment) -> Segment:
        piece = Segment(segment.start, segment.start + self._piece_samples)
        self._add_speech(segment.speech_from, piece.end)
        self._last_end = segment.start = segment.speech_from = piece.end
        return piece

    def _add_speech(self, start: int, end: int) -> None:
        if self.speech and self.speech[-1].end == start:  # it goes on after a piece
            start = self.speech.pop().start
        self.speech.append(Segment(start, end))
