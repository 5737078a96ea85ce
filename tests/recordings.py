"""Recordings for tests: the checked-in sample calls, and files of every form and defect made from them."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_CALLS = Path(__file__).parents[1] / "samples" / "calls"
BILLING = SAMPLE_CALLS / "call-001-billing.wav"  # stereo, 8 kHz mu-law WAV
DELIVERY = SAMPLE_CALLS / "call-002-delivery.mp3"  # stereo, 16 kHz MP3 with a Xing header
CANCELLATION = SAMPLE_CALLS / "call-003-cancellation.ogg"  # stereo, 16 kHz Opus
REFUND = SAMPLE_CALLS / "call-004-refund.flac"  # stereo, 8 kHz FLAC
VOICEMAIL = SAMPLE_CALLS / "call-005-voicemail.wav"  # mono, 16 kHz PCM WAV
BOOKING = SAMPLE_CALLS / "call-006-booking.ogg"  # stereo, 16 kHz Vorbis
ALL_CALLS = (BILLING, DELIVERY, CANCELLATION, REFUND, VOICEMAIL, BOOKING)

Audio = NDArray[np.float32]  # (frames, channels)

# Forms that libsndfile cannot write: file's ending, codec, muxer, rate in hertz, channels.
AV_FORMS = {
    "m4a": ("aac", "ipod", 16_000, 2),
    "webm": ("libopus", "webm", 48_000, 2),
    "amr": ("libopencore_amrnb", "amr", 8_000, 1),
    "aac": ("aac", "adts", 16_000, 2),
    "wma": ("wmav2", "asf", 16_000, 2),
    "mkv": ("pcm_s16le", "matroska", 8_000, 2),
}


def read(path: Path, *, seconds: float | None = None) -> tuple[Audio, int]:
    """A file's samples and rate, by libsndfile."""
    rate_hz = soundfile.info(path).samplerate
    frames = -1 if seconds is None else round(seconds * rate_hz)
    samples: Audio
    samples, _ = soundfile.read(path, frames=frames, dtype="float32", always_2d=True)
    return samples, rate_hz


def write_av(path: Path, form: str, samples: Audio, rate_hz: int) -> Path:
    """Encodes with FFmpeg, in the form's own rate and number of channels, in frames of 20 ms."""
    codec, muxer, form_rate_hz, channels = AV_FORMS[form]
    samples = soxr.resample(samples[:, :channels], rate_hz, form_rate_hz).astype(np.float32)
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=form_rate_hz, layout=layout)
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = {"amr": 12_200}.get(form, 48_000)
        resampler = av.AudioResampler(
            format=stream.format,
            layout=layout,
            rate=form_rate_hz,
            frame_size=stream.codec_context.frame_size or form_rate_hz // 50,
        )
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate = form_rate_hz
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))
    return path


def write_raw_gsm(path: Path, samples: Audio) -> Path:
    """GSM 06.10 frames without any header; 8 kHz mono."""
    soundfile.write(path, samples[:, 0], 8000, format="RAW", subtype="GSM610")
    return path


def wav_header(
    *,
    data_bytes: int,
    channels: int = 1,
    sample_rate_hz: int = 8000,
    bits: int = 16,
    codec: int = 1,
) -> bytes:
    """A WAV header that may say anything; `codec` 1 is PCM, 7 mu-law. Fields are cut to the header's widths."""
    frame_bytes = channels * bits // 8
    return (
        struct.pack("<4sI4s", b"RIFF", (data_bytes + 36) & 0xFFFF_FFFF, b"WAVE")
        + struct.pack("<4sIHHI", b"fmt ", 16, codec, channels & 0xFFFF, sample_rate_hz & 0xFFFF_FFFF)
        + struct.pack("<IHH", (sample_rate_hz * frame_bytes) & 0xFFFF_FFFF, frame_bytes & 0xFFFF, bits)
        + struct.pack("<4sI", b"data", data_bytes & 0xFFFF_FFFF)
    )


def write_long_call(path: Path, *, seconds: int) -> Path:
    """Stereo 8 kHz mu-law WAV: the billing call, then a hole in the file (sparse) up to the full length."""
    data_bytes = seconds * 8000 * 2
    head = BILLING.read_bytes()
    audio = head[head.index(b"data") + 8 :][:data_bytes]
    with path.open("wb") as file:
        file.write(wav_header(data_bytes=data_bytes, channels=2, bits=8, codec=7) + audio)
        file.truncate(44 + data_bytes)
    return path


def write_flac_without_length(path: Path) -> Path:
    """The refund call as a streaming encoder writes it: the total of samples, 36 bits of its header, is 0."""
    flac = bytearray(REFUND.read_bytes())
    facts = int.from_bytes(flac[18:26], "big")
    flac[18:26] = (facts >> 36 << 36).to_bytes(8, "big")
    path.write_bytes(flac)
    return path
