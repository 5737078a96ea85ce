"""From segments to windows: what the model scores at once.

A segment longer than a window is cut into equal windows, because a short rest would be scored on too little. Short
neighbours are joined across a short pause while they fit into one window, because a window of half a second tells
less of an emotion than the sentence it belongs to.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from warmline.audio.edges import SoundOnly, SoundSpan
from warmline.audio.levels import SpeechLevelMeter
from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.segments import MIN_SPEECH_SAMPLES, PADDING_SAMPLES, Segment, SegmentFinder
from warmline.audio.sliding import Slide
from warmline.audio.speech import CHUNK_SAMPLES, SpeechModel, SpeechState
from warmline.audio.tones import FoundTone, ToneFinder

# 16 s at once: onnxruntime's cost of a call is spread over enough chunks, and a slab of 16 channels is 16 MB.
SLAB_SAMPLES = 512 * CHUNK_SAMPLES

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


@dataclass(frozen=True, kw_only=True)
class ChannelFacts:
    """What was heard in a channel, besides its windows; in 16 kHz samples from its beginning."""

    speech: tuple[Segment, ...] = ()  # in order, none touching another, without padding
    tones: tuple[FoundTone, ...] = ()  # in order
    speech_dbfs: float | None = None
    noise_dbfs: float | None = None


class ChannelCutter:
    """Turns one channel, slab after slab, into windows in order; holds the samples that one may still need.

    The chunks, the segments and the windows count from the channel's first sound; what is handed out counts from
    the channel's beginning.
    """

    def __init__(
        self,
        channel: int,
        model: SpeechModel,
        *,
        window_samples: int,
        threshold: float,
        min_samples: int,
        hop_samples: int | None = None,
        excluded: Sequence[Segment] = (),
        sound_span: SoundSpan | None = None,
    ) -> None:
        """Windows have `min_samples` to `window_samples`. Raises ValueError where that leaves no room.

        With `hop_samples` they slide over each segment, so far each time. In `excluded`, which are in order, from
        the channel's beginning, nothing counts as speech.
        """
        shortest_window = MIN_SPEECH_SAMPLES + 2 * PADDING_SAMPLES
        if window_samples < max(2 * min_samples, shortest_window):
            raise ValueError(f"a window of {window_samples} samples is too short for the model or for speech")
        self._channel = channel
        self._model = model
        self._state = SpeechState.initial()
        self._window_samples = window_samples
        self._min_samples = min_samples
        self._excluded = excluded
        self._sound = SoundOnly(SLAB_SAMPLES, sound_span)
        self._tones = ToneFinder()
        self._meter = SpeechLevelMeter()
        self._finder = SegmentFinder(
            threshold=threshold,
            min_speech_samples=min_samples,
            piece_samples=PIECE_WINDOWS * window_samples,
            rest_samples=window_samples,
        )
        self._probabilities = np.zeros(0, np.float32)  # of the chunks that may yet be tones
        self._chunks = 0  # that were decided
        self._joined: Segment | None = None  # segments that may yet be joined with the next
        self._slide = None if hop_samples is None else Slide(window_samples, hop_samples, MIN_SPEECH_SAMPLES)
        self._held = np.zeros(0, np.float32)
        self._held_from = 0  # position of the first held sample

    @property
    def facts(self) -> ChannelFacts:
        """What was heard so far."""
        lead = self._sound.lead
        return ChannelFacts(
            speech=tuple(Segment(start + lead, end + lead) for start, end in self._finder.speech),
            tones=tuple(replace(tone, start=tone.start + lead, end=tone.end + lead) for tone in self._tones.tones),
            speech_dbfs=self._meter.speech_dbfs,
            noise_dbfs=self._meter.noise_dbfs,
        )

    def push(self, samples: Samples) -> Iterator[Window]:
        """The windows that the next (samples,) complete."""
        for slab in self._sound.push(samples):
            yield from self._hear(slab)

    def finish(self) -> Iterator[Window]:
        """The windows that were waiting for the channel's end."""
        for slab in self._sound.finish():
            yield from self._hear(slab)
        for segment in self._find(self._tones.finish()):
            yield from self._take(segment)
        for segment in self._finder.finish(self._held_from + len(self._held)):
            yield from self._take(segment)
        if self._slide is not None:
            yield from self._cut(self._slide.finish())
        elif self._joined is not None:
            yield from self._cut(self._parts(self._joined))
            self._joined = None
        self._meter.settle(self._chunks * CHUNK_SAMPLES, self._finder.speech)

    def _hear(self, slab: Samples) -> Iterator[Window]:
        """A slab; all but the channel's last have whole chunks."""
        probabilities = self._model.probabilities(slab, self._state)
        self._probabilities = np.concatenate((self._probabilities, probabilities))
        self._held = np.concatenate((self._held, slab))
        chunks = np.pad(slab, (0, -len(slab) % CHUNK_SAMPLES))
        self._meter.push(chunks)
        for segment in self._find(self._tones.push(chunks)):
            yield from self._take(segment)
        needed_from = self._finder.next_start
        if self._slide is not None:
            yield from self._cut(self._slide.end_before(needed_from))
            waits_from = self._slide.next_start
            needed_from = needed_from if waits_from is None else min(waits_from, needed_from)
        elif self._joined is not None:
            if self._may_join(self._joined, needed_from):
                needed_from = self._joined.start
            else:
                yield from self._cut(self._parts(self._joined))
                self._joined = None
        self._meter.settle(self._finder.next_start, self._finder.speech)
        self._forget_before(needed_from)

    def _find(self, are_tones: NDArray[np.bool_]) -> Iterator[Segment]:
        """The segments that end in the next chunks, of which it is known now whether they are tones."""
        count = len(are_tones)
        left_out = are_tones | self._are_excluded(count)
        decided = np.where(left_out, np.float32(0), self._probabilities[:count])
        self._probabilities = self._probabilities[count:]
        self._chunks += count
        self._meter.leave_out(left_out)
        return self._finder.push(decided.tolist())

    def _are_excluded(self, count: int) -> NDArray[np.bool_]:
        if not self._excluded:
            return np.zeros(count, bool)
        middles = self._sound.lead + (self._chunks + np.arange(count) + 0.5) * CHUNK_SAMPLES
        edges = np.array(self._excluded).reshape(-1)  # start, end, start, end, …
        inside: NDArray[np.bool_] = np.searchsorted(edges, middles, side="right") % 2 == 1
        return inside

    def _take(self, segment: Segment) -> Iterator[Window]:
        if self._slide is not None:
            yield from self._cut(self._slide.take(segment))
            return
        if self._joined is not None:
            if (
                self._may_join(self._joined, segment.start)
                and segment.end <= self._joined.start + self._window_samples
            ):
                self._joined = Segment(self._joined.start, segment.end)
                return
            yield from self._cut(self._parts(self._joined))
        self._joined = segment

    def _may_join(self, joined: Segment, next_start: int) -> bool:
        """False once no segment that begins at `next_start` or later can be joined."""
        lead = self._sound.lead
        return (
            next_start - joined.end <= MAX_JOINED_PAUSE_SAMPLES
            and next_start < joined.start + self._window_samples
            and not any(start < next_start + lead and end > joined.end + lead for start, end in self._excluded)
        )

    def _parts(self, segment: Segment) -> Iterator[Segment]:
        """Equal parts, none longer than a window."""
        length = segment.end - segment.start
        count = -(-length // self._window_samples)
        edges = [segment.start + length * i // count for i in range(count + 1)]
        return (Segment(start, end) for start, end in itertools.pairwise(edges))

    def _cut(self, parts: Iterable[Segment]) -> Iterator[Window]:
        lead = self._sound.lead
        for start, end in parts:
            # Copied, so that a window does not keep the whole slab alive.
            samples = self._held[start - self._held_from : end - self._held_from].copy()
            yield Window(channel=self._channel, start_sample=start + lead, end_sample=end + lead, samples=samples)

    def _forget_before(self, position: int) -> None:
        self._held = self._held[position - self._held_from :].copy()
        self._held_from = position
