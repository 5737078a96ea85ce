"""Files are read by their content, whatever their form and name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.recordings import (
    ALL_CALLS,
    AV_FORMS,
    BILLING,
    BOOKING,
    CANCELLATION,
    DELIVERY,
    REFUND,
    VOICEMAIL,
    Audio,
    read,
    wav_header,
    write_av,
    write_flac_without_length,
    write_raw_gsm,
)
from warmline.audio.decoding import AudioInfo, open_decoder
from warmline.jobs.errors import (
    EmptyAudio,
    NotAudio,
    ObjectForbidden,
    ObjectNotFound,
    TooManyChannels,
    WarmlineError,
)


def decode(path: Path) -> tuple[AudioInfo, Audio, bool]:
    decoder = open_decoder(path, max_channels=16)
    try:
        samples = np.concatenate(list(decoder.blocks()))
        return decoder.info, samples, decoder.truncated
    finally:
        decoder.close()


@pytest.mark.parametrize(
    ("path", "container", "codec", "rate_hz", "channels"),
    [
        (BILLING, "WAV", "ULAW", 8000, 2),
        (DELIVERY, "mp3", "mp3", 16000, 2),
        (CANCELLATION, "OGG", "OPUS", 16000, 2),
        (REFUND, "FLAC", "PCM_16", 8000, 2),
        (VOICEMAIL, "WAV", "PCM_16", 16000, 1),
        (BOOKING, "OGG", "VORBIS", 16000, 2),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else None,
)
def test_sample_calls_decode_as_libsndfile_decodes_them(
    path: Path, container: str, codec: str, rate_hz: int, channels: int
) -> None:
    # Given a sample call and libsndfile's own reading of the whole of it
    expected, _ = read(path)
    # When it is decoded block by block
    info, samples, truncated = decode(path)
    # Then form and samples are the same (two MP3 decoders round differently)
    assert (info.container, info.codec, info.sample_rate_hz, info.channels) == (
        container,
        codec,
        rate_hz,
        channels,
    )
    assert info.declared_seconds == pytest.approx(len(samples) / rate_hz)
    np.testing.assert_allclose(samples, expected, atol=1e-4 if codec == "mp3" else 0)
    assert not truncated


@pytest.mark.parametrize("form", AV_FORMS)
def test_forms_that_libsndfile_cannot_read(form: str, tmp_path: Path) -> None:
    # Given six seconds of a call in which the agent speaks first and the customer last, under a name that lies
    call, rate_hz = read(BILLING, seconds=6)
    path = write_av(tmp_path / "call.wav", form, call, rate_hz)
    _, _, form_rate_hz, channels = AV_FORMS[form]
    # When it is decoded
    info, samples, truncated = decode(path)
    # Then it is whole
    assert (info.sample_rate_hz, info.channels) == (form_rate_hz, channels)
    assert len(samples) / form_rate_hz == pytest.approx(6.0, abs=0.15)
    assert np.abs(samples).max() == pytest.approx(np.abs(call).max(), rel=0.5)
    assert not truncated
    # And its channels are kept apart: the first four seconds are the agent's, the last one the customer's
    if channels == 2:
        agent_seconds, customer_second = samples[: 4 * form_rate_hz], samples[5 * form_rate_hz :]
        assert agent_seconds[:, 0].std() > 10 * agent_seconds[:, 1].std()
        assert customer_second[:, 1].std() > 10 * customer_second[:, 0].std()


def test_raw_gsm_without_any_header(tmp_path: Path) -> None:
    call, _ = read(BILLING, seconds=6)
    info, samples, _ = decode(write_raw_gsm(tmp_path / "call", call))
    assert (info.codec, info.sample_rate_hz, info.channels) == ("gsm", 8000, 1)
    assert len(samples) / 8000 == pytest.approx(6.0, abs=0.05)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "IMA_ADPCM"])
def test_codecs_within_wav(subtype: str, tmp_path: Path) -> None:
    call, rate_hz = read(VOICEMAIL, seconds=3)
    soundfile.write(tmp_path / "call.wav", call, rate_hz, subtype=subtype)
    info, samples, truncated = decode(tmp_path / "call.wav")
    assert info.codec == subtype
    assert not truncated
    assert (samples[: len(call)] - call).std() < 0.1 * call.std()


@pytest.mark.parametrize("path", ALL_CALLS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["call.raw", "call.vox", "call.mp3", "call.wav", "call"])
def test_a_name_decides_nothing(path: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(path)
    assert decode(tmp_path / name)[0] == decode(path)[0]


def test_a_recorder_that_never_closed_its_wav(tmp_path: Path) -> None:
    # Given samples behind a header that still says 0 bytes
    audio = b"\x10\x20" * 8000
    (tmp_path / "call.wav").write_bytes(wav_header(data_bytes=0) + audio)
    # When it is decoded, then all of it is there
    assert len(decode(tmp_path / "call.wav")[1]) == 8000


def test_a_flac_stream_that_does_not_tell_its_length(tmp_path: Path) -> None:
    # Given a FLAC whose header has no total of samples; when it is decoded
    info, samples, truncated = decode(write_flac_without_length(tmp_path / "call.flac"))
    # Then it is read to its end, and nothing is said to be missing
    assert (len(samples), info.declared_seconds, truncated) == (len(read(REFUND)[0]), None, False)


NOISE = np.random.default_rng(1).integers(0, 256, 40_000, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", EmptyAudio, id="no bytes"),
        pytest.param(wav_header(data_bytes=0), EmptyAudio, id="header without samples"),
        pytest.param(b"This is a letter, not a call.\n" * 50, NotAudio, id="text"),
        pytest.param(NOISE, NotAudio, id="random bytes"),
        pytest.param(b"RIFF", NotAudio, id="four bytes"),
        pytest.param(wav_header(data_bytes=16_000)[:20], NotAudio, id="half a header"),
        pytest.param(wav_header(data_bytes=16_000, channels=0) + NOISE, NotAudio, id="0 channels"),
        pytest.param(wav_header(data_bytes=16_000, channels=65_535) + NOISE, NotAudio, id="65,535 channels"),
        pytest.param(wav_header(data_bytes=34_000, channels=17) + NOISE, TooManyChannels, id="17 channels"),
        pytest.param(wav_header(data_bytes=16_000, sample_rate_hz=0) + NOISE, NotAudio, id="0 Hz"),
        pytest.param(wav_header(data_bytes=16_000, sample_rate_hz=1) + NOISE, NotAudio, id="1 Hz"),
        pytest.param(wav_header(data_bytes=16_000, sample_rate_hz=2 * 10**9) + NOISE, NotAudio, id="2 GHz"),
        pytest.param(wav_header(data_bytes=16_000, bits=77) + NOISE, NotAudio, id="77 bits"),
        pytest.param(
            b".snd" + b"".join(n.to_bytes(4, "big") for n in (24, 8000, 1, 8000, 2**31)) + NOISE,
            NotAudio,
            id="2**31 channels",
        ),
    ],
)
def test_what_is_no_call_is_a_typed_error(content: bytes, expected: type[WarmlineError], tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(content)
    with pytest.raises(expected) as raised:
        decode(tmp_path / "call.wav")
    assert raised.value.message.endswith(".")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    # Given playlists in two forms that FFmpeg follows, each naming another recording beside it
    (tmp_path / "other.mp3").symlink_to(DELIVERY)
    (tmp_path / "call.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:31\n#EXTINF:31,\nother.mp3\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "call.wav").write_text("ffconcat version 1.0\nfile other.mp3\n")
    # When one is decoded, then it is not audio
    for name in ("call.m3u8", "call.wav"):
        with pytest.raises(NotAudio):
            decode(tmp_path / name)


def test_paths_without_a_readable_file(tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match="no file"):
        decode(tmp_path / "nothing.wav")
    with pytest.raises(NotAudio, match="not a file"):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAudio, match="not a file"):
        decode(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(VOICEMAIL.read_bytes())
    (tmp_path / "call.wav").chmod(0)
    with pytest.raises(ObjectForbidden):
        decode(tmp_path / "call.wav")


def test_the_decoding_libraries_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Given an MP3 whose end is missing and whose frames are damaged, which libsndfile would complain about
    mp3 = bytearray(DELIVERY.read_bytes()[:60_000])
    mp3[5_000:20_000:97] = b"\xff" * len(mp3[5_000:20_000:97])
    (tmp_path / "call.mp3").write_bytes(mp3)
    (tmp_path / "call.m4a").write_bytes(NOISE)
    # When it is decoded
    _, _, truncated = decode(tmp_path / "call.mp3")
    with pytest.raises(NotAudio):
        decode(tmp_path / "call.m4a")
    # Then neither library wrote to the terminal
    assert truncated
    assert capfd.readouterr() == ("", "")


def test_reading_a_wav_does_not_import_ffmpeg_or_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from config.settings import AudioSettings\n"
        "from warmline.audio.call import open_call\n"
        f"with open_call(Path({str(VOICEMAIL)!r}), AudioSettings()) as call:\n"
        "    assert list(call.speech_windows(min_samples=400))\n"
        "print(sorted({'av', 'torch', 'silero_vad'} & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_every_error_of_the_libraries_is_one_that_is_mapped() -> None:
    # Given what PyAV, libsndfile's wrapper and their errors are in the installed versions
    import av.error

    from warmline.audio.pyav_decoder import PYAV_ERRORS
    from warmline.audio.soundfile_decoder import SOUNDFILE_ERRORS

    def errors_of(module: object) -> list[type[Exception]]:
        found = [value for value in vars(module).values() if isinstance(value, type)]
        return [value for value in found if issubclass(value, Exception)]

    # Then none of them would get past the decoders
    assert len(errors_of(av.error)) > 20
    assert [error for error in errors_of(av.error) if not issubclass(error, PYAV_ERRORS)] == []
    assert errors_of(soundfile)
    assert [error for error in errors_of(soundfile) if not issubclass(error, SOUNDFILE_ERRORS)] == []
