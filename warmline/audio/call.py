"""A call, opened: what it is, and its windows.

    with open_call(path, settings) as call:
        for window in call.speech_windows(min_samples=400):
            ...
        call.duration_seconds, call.truncated

Decoding, the search for speech and the caller's work on a window take turns: only some seconds of audio are held.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from config.settings import AudioSettings
from warmline.audio.decoding import AudioInfo, Block, Decoder, open_decoder
from warmline.audio.levels import RecordingMeter
from warmline.audio.resampling import SAMPLE_RATE_HZ, in_slabs, to_16_khz
from warmline.audio.segments import Segment
from warmline.audio.speech import SpeechModel
from warmline.audio.windows import SLAB_SAMPLES, ChannelCutter, ChannelFacts, Window
from warmline.jobs.errors import AudioTooLong, BrokenAudio

# The largest integer sample there is, for files that store integers as floats without scaling them. Beyond it lies
# no recording, and the model's variance over a window would overflow.
LARGEST_SAMPLE = 2.0**31

# Told after each block, in the thread that reads, how many seconds the call has at least: as its header says or as
# decoded so far, whichever is more. What it raises ends the reading.
OnAudio = Callable[[float], None]

_T = TypeVar("_T")


class CallAudio:
    """An open call. Its windows can be read once; what follows is known afterwards.

    `duration_seconds`  as decoded
    `truncated`         the file ends before its audio does, or parts of it could not be decoded
    `channels`          what was heard in each, besides its windows
    `meter`             what was measured at the recording's own rate
    `stage_seconds`     wall seconds spent on `decode` (resampling included) and on `speech`
    `stage_spans`       from when to when that was, by `time.perf_counter()`; in turns
    """

    def __init__(self, decoder: Decoder, limits: AudioSettings, on_audio: OnAudio | None = None) -> None:
        self.info: AudioInfo = decoder.info
        self.channels: tuple[ChannelFacts, ...] = (ChannelFacts(),) * decoder.info.channels
        self.meter = RecordingMeter(decoder.info.channels)
        self.stage_seconds: dict[str, float] = {"decode": 0.0, "speech": 0.0}
        self.stage_spans: dict[str, tuple[float, float]] = {}
        self._decoder = decoder
        self._limits = limits
        self._on_audio = on_audio
        self._frames_decoded = 0

    @property
    def duration_seconds(self) -> float:
        """Seconds decoded so far."""
        return self._frames_decoded / self.info.sample_rate_hz

    @property
    def truncated(self) -> bool:
        """See the class."""
        return self._decoder.truncated

    def speech_windows(
        self, *, min_samples: int, hop_seconds: float | None = None, excluded: Sequence[Segment] = ()
    ) -> Iterator[Window]:
        """The windows within speech; each channel's in order, the channels' side by side.

        `min_samples` is the model's shortest window. With `hop_seconds` a window slides so far each time. Nothing
        in `excluded` (in order, none overlapping, in 16 kHz samples) is speech. Raises NotAudio, BrokenAudio,
        AudioTooLong.
        """
        cutters = self._cutters(min_samples, excluded, hop_seconds)
        for slab in self._timed("decode", in_slabs(self._read(self._limits.max_seconds), SLAB_SAMPLES)):
            for channel, cutter in enumerate(cutters):
                yield from self._timed("speech", cutter.push(slab[:, channel]))
        for cutter in cutters:
            yield from self._timed("speech", cutter.finish())
        self.channels = tuple(cutter.facts for cutter in cutters)

    def whole_channels(self, *, min_samples: int, excluded: Sequence[Segment] = ()) -> Iterator[Window]:
        """Each channel as one window, as FunASR sees a clip; one of digital silence gives none.

        What is `excluded` is cut out of it. Raises NotAudio, BrokenAudio, and AudioTooLong beyond
        `utterance_max_seconds`, since all of it is held.
        """
        try:
            blocks = list(self._timed("decode", self._read(self._limits.utterance_max_seconds)))
        except AudioTooLong:
            raise AudioTooLong(
                f"A channel longer than {self._limits.utterance_max_seconds:g} s cannot be scored as one window; "
                "use granularity=segment or raise WARMLINE_AUDIO_UTTERANCE_MAX_SECONDS."
            ) from None
        whole = np.concatenate(blocks)
        cutters = self._cutters(min_samples, excluded)
        for channel, cutter in enumerate(cutters):
            # Where it speaks is told, too; the windows are of no interest.
            for windows in (cutter.push(whole[:, channel]), cutter.finish()):
                deque(self._timed("speech", windows), maxlen=0)
        self.channels = tuple(cutter.facts for cutter in cutters)
        kept = np.ones(len(whole), bool)
        for start, end in excluded:
            kept[start:end] = False
        for channel in range(self.info.channels):
            samples = np.ascontiguousarray(whole[kept, channel])
            if len(samples) >= min_samples and samples.any():
                yield Window(channel=channel, start_sample=0, end_sample=len(whole), samples=samples)

    def _cutters(
        self, min_samples: int, excluded: Sequence[Segment], hop_seconds: float | None = None
    ) -> list[ChannelCutter]:
        model = SpeechModel()
        return [
            ChannelCutter(
                channel,
                model,
                window_samples=round(self._limits.window_seconds * SAMPLE_RATE_HZ),
                threshold=self._limits.speech_threshold,
                min_samples=min_samples,
                hop_samples=None if hop_seconds is None else round(hop_seconds * SAMPLE_RATE_HZ),
                excluded=excluded,
                sound_span=partial(self._sound_span, channel),
            )
            for channel in range(self.info.channels)
        ]

    def _sound_span(self, channel: int) -> tuple[int, int]:
        """From a channel's first sound to its last so far; 16 kHz samples."""
        first, last = self.meter.first_sounds[channel], self.meter.last_sounds[channel]
        rate_hz = self.info.sample_rate_hz
        return int(first) * SAMPLE_RATE_HZ // rate_hz, -(-(int(last) + 1) * SAMPLE_RATE_HZ // rate_hz)

    def _read(self, max_seconds: float) -> Iterator[Block]:
        """(samples, channels) at 16 kHz, checked and counted."""
        declared_seconds = self.info.declared_seconds
        if declared_seconds is not None and declared_seconds > max_seconds:
            raise AudioTooLong
        yield from to_16_khz(
            self._checked(self._decoder.blocks(), max_seconds),
            sample_rate_hz=self.info.sample_rate_hz,
            channels=self.info.channels,
        )

    def _checked(self, blocks: Iterable[Block], max_seconds: float) -> Iterator[Block]:
        for block in blocks:
            self._frames_decoded += len(block)
            # Counted, because a header may claim less than what follows it.
            if self.duration_seconds > max_seconds:
                raise AudioTooLong
            if self._on_audio is not None:
                self._on_audio(max(self.duration_seconds, self.info.declared_seconds or 0.0))
            # A NaN fails every comparison, so one comparison finds it and infinity too.
            if not (np.abs(block) <= LARGEST_SAMPLE).all():
                raise BrokenAudio(
                    "The audio holds samples that are not numbers, or far beyond any level; export it again."
                )
            self.meter.push(block)
            yield block

    def _timed(self, stage: str, steps: Iterator[_T]) -> Iterator[_T]:
        """Adds the time that each step takes to the stage, and leaves out what its receiver does with it."""
        while True:
            started = time.perf_counter()
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                ended = time.perf_counter()
                self.stage_seconds[stage] += ended - started
                self.stage_spans[stage] = self.stage_spans.get(stage, (started,))[0], ended
            yield step


@contextmanager
def open_call(path: Path, limits: AudioSettings, on_audio: OnAudio | None = None) -> Iterator[CallAudio]:
    """Opens a file by its content. `on_audio` is called while it is read, and may end that: see `OnAudio`.

    Raises ObjectNotFound, ObjectForbidden, EmptyAudio, NotAudio, TooManyChannels.
    """
    decoder = open_decoder(path, max_channels=limits.max_channels)
    try:
        yield CallAudio(decoder, limits, on_audio)
    finally:
        decoder.close()
