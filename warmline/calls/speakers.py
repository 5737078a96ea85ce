"""The two speakers of a mono call: their voices are heard while its windows pass, and told apart at its end.

The windows are scored as they were cut, before anyone knows who speaks: each goes to the speaker who has most of
it, and what the other one says in it counts as uncertain. A stretch of speech is cut where the speaker changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from warmline.audio.resampling import SAMPLE_RATE_HZ
from warmline.audio.windows import Samples, Window
from warmline.calls.diarisation import Diarisation, Embeddings, Piece, tell_apart
from warmline.calls.report import Span, SpeakerSplit
from warmline.calls.sides import RawWindow, Side
from warmline.calls.spans import Coverage, union
from warmline.jobs.records import Options

log = structlog.get_logger()

# As 3D-Speaker's own recipe has it: long enough to know a voice, short enough to lie within a turn.
CLIP_SAMPLES: Final = round(1.5 * SAMPLE_RATE_HZ)
STEP_SAMPLES: Final = CLIP_SAMPLES // 2
SHORTEST_SAMPLES: Final = SAMPLE_RATE_HZ // 4
CLIPS_AT_ONCE: Final = 16
SPEAKERS: Final = ("speaker_1", "speaker_2")


class Voices(Protocol):
    """What tells voices apart: `warmline.emotion.voices.VoiceModel`."""

    name: str

    def embed(self, clips: Sequence[Samples]) -> Embeddings:
        """Of clips of one length; a row of length 1 for each."""


def splitter_for(channels: int, options: Options, *, threads: int) -> SpeakerSplitter | None:
    """What splits a call of so many channels, as its options ask; None where nothing is to be split.

    Channels of their own are never mixed to be split again. Raises DiariserUnavailable.
    """
    if not options.split_speakers:
        return None
    if channels != 1:
        log.info("speakers_not_split", channels=channels)
        return None
    from warmline.emotion.voices import VoiceModel

    return SpeakerSplitter(VoiceModel(threads=threads))


class SpeakerSplitter:
    """Hears one channel's windows pass. Holds seconds of audio and some 800 bytes for each second of speech.

    `seconds` is the wall time that it took.
    """

    def __init__(self, voices: Voices) -> None:
        self.seconds = 0.0
        self._voices = voices
        self._run = np.zeros(0, np.float32)  # what may yet be needed of the speech without a gap that goes on
        self._run_from = 0  # the place in the channel of the first sample held
        self._run_start = 0  # where the run began
        self._heard_until = 0
        self._covered_until = 0  # by the run's clips
        self._next = 0  # where its next clip begins
        self._waiting: list[tuple[Span, Samples]] = []
        self._clips: list[Span] = []
        self._embeddings: list[NDArray[np.float32]] = []

    def follow(self, windows: Iterator[Window]) -> Iterator[Window]:
        """The same windows; after the last one all has been heard."""
        for window in windows:
            started = time.perf_counter()
            self._hear(window)
            self.seconds += time.perf_counter() - started
            yield window
        started = time.perf_counter()
        self._end_run()
        self._embed_waiting()
        self.seconds += time.perf_counter() - started

    def split(self, mono: Side, roles: tuple[str, ...]) -> tuple[list[Side], SpeakerSplit]:
        """The one side as two, the first to speak first, and how far that can be trusted.

        `roles` are theirs in this order, if they are two. Tones, which are nobody's, stay with the first.
        """
        started = time.perf_counter()
        embeddings = np.concatenate(self._embeddings) if self._embeddings else np.zeros((0, 1), np.float32)
        found = tell_apart(self._clips, embeddings, mono.speech)
        names = roles if len(roles) == len(SPEAKERS) else SPEAKERS
        speech = [_speech_of(found, speaker) for speaker in range(len(SPEAKERS))]
        windows = _shared_out(mono.windows, speech)
        sides = [
            Side(
                index=mono.index,
                role=names[speaker],
                speech=speech[speaker],
                windows=tuple(windows[speaker]),
                tones=mono.tones if speaker == 0 else (),
            )
            for speaker in range(len(SPEAKERS))
        ]
        split = SpeakerSplit(
            method=f"{self._voices.name}, k-means of 2, hidden Markov model",
            confidence=found.confidence,
            uncertain_share=_uncertain_share(found, sides),
        )
        self.seconds += time.perf_counter() - started
        return sides, split

    def _hear(self, window: Window) -> None:
        if window.start_sample > self._heard_until or not len(self._run):
            self._end_run()
            self._run = window.samples
            self._run_from = self._run_start = self._covered_until = self._next = window.start_sample
        elif window.end_sample > self._heard_until:  # windows that slide: only what is new of it
            self._run = np.concatenate((self._run, window.samples[self._heard_until - window.start_sample :]))
        self._heard_until = max(self._heard_until, window.end_sample)
        while self._next + CLIP_SAMPLES <= self._heard_until:
            self._take(self._next, self._next + CLIP_SAMPLES)
            self._covered_until = self._next + CLIP_SAMPLES
            self._next += STEP_SAMPLES
        needed_from = min(self._next, self._last_clip_from())
        self._run = self._run[needed_from - self._run_from :].copy()
        self._run_from = needed_from

    def _end_run(self) -> None:
        """The end of a run has its clip too, wherever the steps fell; a short run has one of its own length."""
        start = self._last_clip_from()
        if self._heard_until > self._covered_until and self._heard_until - start >= SHORTEST_SAMPLES:
            self._take(start, self._heard_until)
        self._run = np.zeros(0, np.float32)

    def _last_clip_from(self) -> int:
        return max(self._run_start, self._heard_until - CLIP_SAMPLES)

    def _take(self, start: int, end: int) -> None:
        clip = self._run[start - self._run_from : end - self._run_from].copy()
        if self._waiting and len(self._waiting[-1][1]) != len(clip):
            self._embed_waiting()
        span = Span(start_ms=start * 1000 // SAMPLE_RATE_HZ, end_ms=end * 1000 // SAMPLE_RATE_HZ)
        self._waiting.append((span, clip))
        if len(self._waiting) >= CLIPS_AT_ONCE:
            self._embed_waiting()

    def _embed_waiting(self) -> None:
        if self._waiting:
            self._embeddings.append(self._voices.embed([clip for _, clip in self._waiting]))
            self._clips.extend(span for span, _ in self._waiting)
            self._waiting.clear()


def _speech_of(found: Diarisation, speaker: int) -> tuple[Span, ...]:
    return union(
        Span(start_ms=piece.start_ms, end_ms=piece.end_ms) for piece in found.pieces if piece.speaker == speaker
    )


def _shared_out(windows: Sequence[RawWindow], speech: Sequence[Sequence[Span]]) -> list[list[RawWindow]]:
    """Each speaker's windows: those in which they have the most speech; of equals the first speaker's."""
    coverages = [Coverage(spans) for spans in speech]
    shares: list[list[RawWindow]] = [[] for _ in speech]
    for window in windows:
        span = Span(start_ms=window.start_ms, end_ms=window.end_ms)
        spoken = [coverage.of(span) for coverage in coverages]
        shares[spoken.index(max(spoken))].append(window)
    return shares


def _uncertain_share(found: Diarisation, sides: Sequence[Side]) -> float | None:
    """Of the speech: what could be either's, and what lies in windows that were counted as the other's."""
    if not found.pieces:
        return None
    own = [
        Coverage(union(Span(start_ms=window.start_ms, end_ms=window.end_ms) for window in side.windows))
        for side in sides
    ]
    uncertain = [piece for piece in found.pieces if not piece.sure or _is_mixed(piece, own[piece.speaker])]
    everything = sum(piece.duration_ms for piece in found.pieces)
    return round(sum(piece.duration_ms for piece in uncertain) / everything, 3)


def _is_mixed(piece: Piece, own_windows: Coverage) -> bool:
    span = Span(start_ms=piece.start_ms, end_ms=piece.end_ms)
    return own_windows.of(span) * 2 < span.duration_ms
