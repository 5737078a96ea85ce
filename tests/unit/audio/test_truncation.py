"""A file that was cut off says so, and one that was not does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from tests.recordings import ALL_CALLS, AV_FORMS, BILLING, CANCELLATION, VOICEMAIL, read, wav_header, write_av
from warmline.audio.decoding import open_decoder
from warmline.audio.truncation import mp3_states_its_length, ogg_ends_early


def decoded_seconds(path: Path) -> tuple[float, bool]:
    decoder = open_decoder(path, max_channels=16)
    try:
        frames = sum(len(block) for block in decoder.blocks())
        return frames / decoder.info.sample_rate_hz, decoder.truncated
    finally:
        decoder.close()


@pytest.mark.parametrize("path", ALL_CALLS, ids=lambda path: path.name)
def test_half_a_file_is_read_and_flagged(path: Path, tmp_path: Path) -> None:
    # Given a call, and its first half
    whole = path.read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    seconds, truncated = decoded_seconds(path)
    # When both are read
    half_seconds, half_truncated = decoded_seconds(tmp_path / "half")
    # Then the half is read as far as it goes, and only the half is flagged
    assert 0.4 * seconds < half_seconds < 0.6 * seconds
    assert (truncated, half_truncated) == (False, True)


@pytest.mark.parametrize("container", ["AIFF", "AU", "W64", "RF64", "WAVEX"])
def test_other_containers_cut_off(container: str, tmp_path: Path) -> None:
    call, rate_hz = read(VOICEMAIL, seconds=4)
    soundfile.write(tmp_path / "call", call, rate_hz, format=container, subtype="PCM_16")
    assert decoded_seconds(tmp_path / "call") == (pytest.approx(4.0), False)
    whole = (tmp_path / "call").read_bytes()
    (tmp_path / "call").write_bytes(whole[: len(whole) // 2])
    assert decoded_seconds(tmp_path / "call") == (pytest.approx(2.0, abs=0.05), True)


@pytest.mark.parametrize("form", [form for form in AV_FORMS if form != "m4a"])
def test_forms_of_ffmpeg_cut_off(form: str, tmp_path: Path) -> None:
    # An m4a is left out: its index lies at its end, so a half is no audio at all (see test_damaged_files.py).
    call, rate_hz = read(BILLING, seconds=6)
    whole = write_av(tmp_path / "call", form, call, rate_hz).read_bytes()
    # One byte more than half, so that a frame of the frame-by-frame forms is cut too.
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2 + 1])
    half_seconds, truncated = decoded_seconds(tmp_path / "half")
    assert 2.0 < half_seconds < 4.0
    assert truncated


@pytest.mark.parametrize("claimed_bytes", [0x7FFF_F000, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_stream_of_unknown_length_is_not_truncated(claimed_bytes: int, tmp_path: Path) -> None:
    # Given a WAV as a pipe writes it: the length cannot be known beforehand, so the header has the largest
    (tmp_path / "call.wav").write_bytes(wav_header(data_bytes=claimed_bytes) + b"\x10\x20" * 8000)
    assert decoded_seconds(tmp_path / "call.wav") == (1.0, False)


def test_what_follows_the_audio_is_not_missed(tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(wav_header(data_bytes=16_000) + b"\x10\x20" * 8000 + b"LIST\x04\0\0\0abcd")
    assert decoded_seconds(tmp_path / "call.wav") == (1.0, False)


def test_an_ogg_cut_within_its_last_page(tmp_path: Path) -> None:
    whole = CANCELLATION.read_bytes()
    (tmp_path / "call.ogg").write_bytes(whole[:-10])
    assert not ogg_ends_early(CANCELLATION)
    assert ogg_ends_early(tmp_path / "call.ogg")


def test_an_mp3s_length_is_believed_only_where_it_is_written() -> None:
    frame = b"\xff\xf3\x88\x64" + bytes(17)
    id3_tag = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)
    assert mp3_states_its_length(frame + b"Xing")
    assert mp3_states_its_length(id3_tag + frame + b"Info")
    assert not mp3_states_its_length(frame + bytes(300))
    assert not mp3_states_its_length(id3_tag + frame + bytes(300))
