"""Which decoder reads a file. Decided by its content, never by its name.

libsndfile comes first; PyAV (FFmpeg) reads what it cannot: m4a, WebM, AMR, WMA, raw GSM, and MP3, because
libsndfile's MP3 decoder writes its warnings straight to stderr and cannot be told not to.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from warmline.jobs.errors import EmptyAudio, NotAudio, ObjectForbidden, ObjectNotFound, TooManyChannels

Block = NDArray[np.float32]  # (frames, channels), at the file's own rate

# Below 4 kHz there is no speech left to hear; 768 kHz is the fastest that audio interfaces are sold with. A rate
# beyond these is a broken header, and resampling from it could take any amount of memory.
SAMPLE_RATES_HZ = (4_000, 768_000)


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a file says of itself."""

    container: str  # WAV, FLAC, mov, ...
    codec: str  # ULAW, PCM_16, aac, ...
    sample_rate_hz: int
    channels: int
    declared_seconds: float | None  # as the header has it, which may be wrong; None where it does not say


class Decoder(Protocol):
    """An open file. `truncated` is known once `blocks` is exhausted."""

    info: AudioInfo
    truncated: bool  # the file ends before its audio does, or parts of it cannot be decoded

    def blocks(self) -> Iterator[Block]:
        """The samples, in blocks of about a second. Errors in the middle end it and set `truncated`."""

    def close(self) -> None:
        """Releases the file."""


def open_decoder(path: Path, *, max_channels: int) -> Decoder:
    """Opens a file with the decoder that its content asks for.

    Raises ObjectNotFound, ObjectForbidden, EmptyAudio, NotAudio, TooManyChannels.
    """
    head = _read_head(path)
    decoder = _decoder_for(path, head)
    try:
        _check_shape(decoder.info, max_channels)
    except BaseException:
        decoder.close()
        raise
    return decoder


def _decoder_for(path: Path, head: bytes) -> Decoder:
    from warmline.audio.soundfile_decoder import SoundfileDecoder, Unreadable

    if not _starts_like_mp3(head):
        try:
            return SoundfileDecoder(path, head)
        except Unreadable:
            pass
    from warmline.audio.pyav_decoder import PyavDecoder

    return PyavDecoder(path, head)


def _read_head(path: Path) -> bytes:
    """The first 64 KiB of a regular file that is not empty."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotAudio(f"{path} is not a file; name an audio file.")
        with path.open("rb") as file:
            head = file.read(65_536)
    except (FileNotFoundError, NotADirectoryError):
        raise ObjectNotFound(f"There is no file {path}; check the path.") from None
    except PermissionError:
        raise ObjectForbidden(f"The file {path} may not be read; check its permissions.") from None
    except (OSError, ValueError) as error:
        raise NotAudio(f"The file {str(path)!r} cannot be read: {error}.") from None
    if not head:
        raise EmptyAudio("The file is empty; check the recorder or the upload that wrote it.")
    return head


def _starts_like_mp3(head: bytes) -> bool:
    # An ID3 tag, or the 11 set bits that every MPEG audio frame begins with.
    return head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def _check_shape(info: AudioInfo, max_channels: int) -> None:
    lowest, highest = SAMPLE_RATES_HZ
    if not lowest <= info.sample_rate_hz <= highest:
        raise NotAudio(
            f"The file says it has {info.sample_rate_hz:,} samples a second; "
            f"Warmline reads {lowest:,} to {highest:,}. Export the recording again."
        )
    if info.channels < 1:
        raise NotAudio("The file has no audio channel; export the recording again.")
    if info.channels > max_channels:
        raise TooManyChannels(
            f"The call has {info.channels} channels and {max_channels} are allowed; "
            "split it or raise WARMLINE_AUDIO_MAX_CHANNELS."
        )
