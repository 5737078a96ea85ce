"""Reads with libsndfile: WAV (PCM, mu-law, A-law, ADPCM, GSM), FLAC, Ogg Vorbis and Opus, AIFF, AU, CAF."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import soundfile

from warmline.audio.decoding import AudioInfo, Block
from warmline.audio.truncation import libsndfile_log_says_truncated, ogg_ends_early
from warmline.jobs.errors import NotAudio

# Of a FLAC stream that does not tell its length, libsndfile says the largest number it has and then fails near the
# end; of a WAV that its recorder never closed, it says 0. FFmpeg reads both to their end.
_UNKNOWN_FRAMES = 2**62

# TypeError and ValueError come from soundfile's own checks of what libsndfile says.
SOUNDFILE_ERRORS = (soundfile.SoundFileError, RuntimeError, TypeError, ValueError)


class Unreadable(Exception):
    """libsndfile cannot read this content; another decoder may."""


class SoundfileDecoder:
    """See `warmline.audio.decoding.Decoder`."""

    def __init__(self, path: Path, head: bytes) -> None:
        """Raises Unreadable where libsndfile does not know the content or its length."""
        self._open = contextlib.ExitStack()
        # By descriptor, because given a name libsndfile and soundfile guess from its extension.
        descriptor = os.open(path, os.O_RDONLY)
        self._open.callback(os.close, descriptor)
        try:
            self._file = self._open.enter_context(soundfile.SoundFile(descriptor, closefd=False))
        except SOUNDFILE_ERRORS as error:
            self.close()
            raise Unreadable(str(error)) from None
        if not 0 < self._file.frames < _UNKNOWN_FRAMES:
            self.close()
            raise Unreadable("the header does not say how long the audio is")
        rate_hz = self._file.samplerate
        self.info = AudioInfo(
            container=self._file.format,
            codec=self._file.subtype,
            sample_rate_hz=rate_hz,
            channels=self._file.channels,
            declared_seconds=self._file.frames / rate_hz if rate_hz > 0 else None,
        )
        self.truncated = libsndfile_log_says_truncated(self._file.extra_info) or (
            head.startswith(b"OggS") and ogg_ends_early(path)
        )

    def blocks(self) -> Iterator[Block]:
        """(frames, channels) float32, a second at a time. Raises NotAudio if not even the first block decodes."""
        frames_read = 0
        while True:
            try:
                block = self._file.read(self.info.sample_rate_hz, dtype="float32", always_2d=True)
            except SOUNDFILE_ERRORS as error:
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
        if frames_read < self._file.frames:
            self.truncated = True

    def close(self) -> None:
        """Closes the file. More than once is fine."""
        self._open.close()
