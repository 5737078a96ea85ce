"""Reads with PyAV, which carries FFmpeg: MP3, m4a, WebM, AMR, WMA, raw GSM and the like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from warmline.audio.decoding import AudioInfo, Block
from warmline.audio.truncation import mp3_states_its_length, ogg_ends_early
from warmline.jobs.errors import EmptyAudio, NotAudio

# FFmpeg's demuxers for recordings that lie in one file. The others stay out: playlists (hls, concat, dash) make
# FFmpeg open further files and addresses that the uploader names, and headerless formats match any bytes.
_DEMUXERS_THAT_STATE_A_LENGTH = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "asf", "flac", "wav", "w64", "caf", "aiff"),
    *("avi", "flv", "wv", "tta", "ape"),
)
_DEMUXERS_THAT_GUESS = ("aac", "ac3", "eac3", "amr", "amrnb", "amrwb", "au", "gsm", "mp3", "mpeg", "mpegts", "ogg")
_DEMUXERS = ",".join((*_DEMUXERS_THAT_STATE_A_LENGTH, *_DEMUXERS_THAT_GUESS))

# What full scale is in the sample formats that FFmpeg decodes to.
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}

# FFmpeg's errors come as FFmpegError; PyAV adds Python's own where a stream or a frame is not what it expects.
PYAV_ERRORS = (av.FFmpegError, OSError, RuntimeError, ValueError, LookupError, TypeError)


class PyavDecoder:
    """See `warmline.audio.decoding.Decoder`."""

    def __init__(self, path: Path, head: bytes) -> None:
        """Decodes the first frame, because a header may have a rate that the codec then doubles (HE-AAC).

        Raises NotAudio and EmptyAudio.
        """
        self.truncated = head.startswith(b"OggS") and ogg_ends_early(path)
        try:
            self._container = av.open(
                f"file:{path}", metadata_errors="ignore", options={"format_whitelist": _DEMUXERS}
            )
        except PYAV_ERRORS:
            raise NotAudio from None
        try:
            self._stream = self._audio_stream()
            self._frames = self._decode()
            self._first = self._first_frame()
            self.info = AudioInfo(
                container=self._container.format.name.split(",")[0],
                codec=self._stream.codec_context.codec.canonical_name,
                sample_rate_hz=self._first.sample_rate,
                channels=self._first.layout.nb_channels,
                declared_seconds=self._declared_seconds(head),
            )
        except BaseException:
            self.close()
            raise

    def blocks(self) -> Iterator[Block]:
        """(frames, channels) float32, in blocks of about a second."""
        rate_hz = self.info.sample_rate_hz
        held, held_frames, frames_yielded = [_samples(self._first)], self._first.samples, 0
        for frame in self._frames:
            if frame.sample_rate != rate_hz or frame.layout.nb_channels != self.info.channels:
                # A damaged frame header, or a recording that changes its form midway: of no use either way.
                self.truncated = True
                continue
            if held_frames >= rate_hz:
                yield np.concatenate(held)
                frames_yielded += held_frames
                held, held_frames = [], 0
            held.append(_samples(frame))
            held_frames += frame.samples
        yield np.concatenate(held)
        seconds = (frames_yielded + held_frames) / rate_hz
        # A header may count the codec's padding, so a little less is no loss.
        if self.info.declared_seconds and seconds < 0.98 * self.info.declared_seconds - 0.5:
            self.truncated = True

    def close(self) -> None:
        """Closes the file. More than once is fine."""
        self._container.close()

    def _audio_stream(self) -> av.AudioStream:
        stream = self._container.streams.best("audio")
        # A stream whose codec FFmpeg does not know has no codec context.
        if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
            raise NotAudio("The file holds no audio stream that can be decoded; check that it plays elsewhere.")
        # A call decodes hundreds of times faster than it plays: more threads would only take other jobs' cores.
        stream.codec_context.thread_count = 1
        return stream

    def _first_frame(self) -> av.AudioFrame:
        first = next(self._frames, None)
        if first is not None:
            return first
        if self.truncated:
            raise NotAudio("The file's audio cannot be decoded; export the recording again.")
        raise EmptyAudio("The file holds no audio samples; check the recorder that wrote it.")

    def _declared_seconds(self, head: bytes) -> float | None:
        container = self._container.format.name.split(",")[0]
        if container not in _DEMUXERS_THAT_STATE_A_LENGTH and not (
            container == "mp3" and mp3_states_its_length(head)
        ):
            return None  # FFmpeg would guess, from the bit rate
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration is not None and len(self._container.streams) == 1:
            return self._container.duration / av.time_base
        return None

    def _decode(self) -> Iterator[av.AudioFrame]:
        """Frame after frame. A packet that cannot be decoded is left out and sets `truncated`."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except PYAV_ERRORS:
                self.truncated = True
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.EOFError:
                return
            except PYAV_ERRORS:
                self.truncated = True
                continue
            yield from (frame for frame in frames if isinstance(frame, av.AudioFrame) and frame.samples)


def _samples(frame: av.AudioFrame) -> Block:
    """(samples, channels), in [-1, 1] where the codec has integers."""
    name = frame.format.packed.name
    if name not in _FULL_SCALE:
        raise NotAudio(f"The audio decodes to the sample format {name}, which Warmline does not read; convert it.")
    values = frame.to_ndarray()  # (channels, samples) where the format is planar, else (1, samples x channels)
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if name == "u8":
        values = values.astype(np.float32) - _FULL_SCALE[name]
    return np.ascontiguousarray((values.astype(np.float32) / _FULL_SCALE[name]).T, dtype=np.float32)
