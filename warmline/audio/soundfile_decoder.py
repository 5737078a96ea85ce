"""Reads with libsndfile: WAV (PCM, mu-law, A-law, ADPCM, GSM), FLAC, Ogg Vorbis and Opus, AIFF, AU, CAF."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import soundfile

from warmline.audio.decoding import AudioInfo, Block
from warmline.audio.truncation import libsndfile_log_says_truncated, ogg_ends_early
from warmline.jobs.errors import EmptyAudio, NotAudio

# libsndfile's way to say that a stream's header does not tell its length is the largest number it has.
_UNKNOWN_FRAMES = 2**62


class Unreadable(Exception):
    """libsndfile cannot read this content; another decoder may."""


class SoundfileDecoder:
    """See `warmline.audio.decoding.Decoder`."""

    def __init__(self, path: Path, head: bytes) -> None:
        """Raises Unreadable where libsndfile does not know the content, and EmptyAudio."""
        self._open = contextlib.ExitStack()
        # By descriptor, because given a name libsndfile and soundfile guess from its extension.
        descriptor = os.open(path, os.O_RDONLY)
        self._open.callback(os.close, descriptor)
        try:
            self._file = self._open.enter_context(soundfile.SoundFile(descriptor, closefd=False))
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
            self.close()
            raise Unreadable(str(error)) from None
        if self._file.frames == 0:
            self.close()
            raise EmptyAudio("The file has a header but no audio samples; check the recorder that wrote it.")
        frames = self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None
        rate_hz = self._file.samplerate
        self.info = AudioInfo(
            container=self._file.format,
            codec=self._file.subtype,
            sample_rate_hz=rate_hz,
            channels=self._file.channels,
            declared_seconds=frames / rate_hz if frames is not None and rate_hz > 0 else None,
        )
        self.truncated = libsndfile_log_says_truncated(self._file.extra_info) or (
            head.startswith(b"OggS") and ogg_ends_early(path)
        )
        self._declared_frames = frames

    def blocks(self) -> Iterator[Block]:
        """(frames, channels) float32, a second at a time. Raises NotAudio if not even the first block decodes."""
        frames_read = 0
        while True:
            try:
                block = self._file.read(self.info.sample_rate_hz, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, RuntimeError) as error:
                if not frames_read:
                    raise NotAudio(
                        "The file's audio cannot be decoded from its start; export the recording again."
                    ) from error
                self.truncated = True
                return
            if not len(block):
                break
            frames_read += len(block)
            yield block
        if self._declared_frames is not None and frames_read < self._declared_frames:
            self.truncated = True

    def close(self) -> None:
        """Closes the file. More than once is fine."""
        self._open.close()
