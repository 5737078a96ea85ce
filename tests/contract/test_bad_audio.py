"""Bad input gets a report with a flag, or a typed, permanent failure with a code and a sentence. Nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.analysts import analyst_with
from tests.recordings import BILLING, VOICEMAIL, read, wav_header, write_long_call
from warmline.calls.analyze import analyze_call
from warmline.calls.report import Report, SourceFacts
from warmline.emotion.engine import Engine
from warmline.jobs.errors import PermanentError
from warmline.jobs.records import Options

SEGMENT, UTTERANCE = Options(), Options(granularity="utterance")


def analyze(path: Path, engine: Engine, options: Options = SEGMENT) -> Report:
    size_bytes = path.stat().st_size if path.exists() else 0
    return analyze_call(
        path,
        analyst_with(engine),
        source=SourceFacts(uri=path.name, size_bytes=size_bytes),
        options=options,
    )


def samples_with(value: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        samples, rate_hz = read(VOICEMAIL)
        samples[100_000] = value
        soundfile.write(path, samples, rate_hz, subtype="FLOAT")

    return write


def content(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize("options", [SEGMENT, UTTERANCE], ids=["segment", "utterance"])
@pytest.mark.parametrize(
    ("write", "code"),
    [
        pytest.param(nothing, "object_not_found", id="no file"),
        pytest.param(content(b""), "empty_audio", id="empty file"),
        pytest.param(content(wav_header(data_bytes=0)), "empty_audio", id="no samples"),
        pytest.param(content(b"Dear customer,\n" * 99), "not_audio", id="text named .wav"),
        pytest.param(content(wav_header(data_bytes=9999, channels=0) + bytes(9999)), "not_audio", id="0 channels"),
        pytest.param(
            content(wav_header(data_bytes=34_000, channels=17) + bytes(34_000)),
            "too_many_channels",
            id="17 channels",
        ),
        pytest.param(samples_with(np.nan), "broken_audio", id="NaN"),
        pytest.param(samples_with(np.inf), "broken_audio", id="infinity"),
    ],
)
def test_failures_with_a_code_and_a_sentence(
    write: Callable[[Path], None], code: str, options: Options, engine: Engine, tmp_path: Path
) -> None:
    # Given bad input
    write(tmp_path / "call.wav")
    # When it is analysed, then the failure has a code and a sentence, and trying again would not mend it
    with pytest.raises(PermanentError) as raised:
        analyze(tmp_path / "call.wav", engine, options)
    assert raised.value.code == code
    assert raised.value.message.endswith(".")
    assert "Error" not in raised.value.message


@pytest.mark.parametrize("options", [SEGMENT, UTTERANCE], ids=["segment", "utterance"])
def test_silence_is_a_report(options: Options, engine: Engine, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", np.zeros((160_000, 2)), 16_000)
    report = analyze(tmp_path / "call.wav", engine, options)
    assert report.flags == ("no_speech",)
    assert [(c.windows, c.summary.top, c.speech_seconds) for c in report.channels] == [((), None, 0.0)] * 2
    assert report.source.duration_seconds == 10.0


def test_half_a_call_is_a_report(engine: Engine, tmp_path: Path) -> None:
    whole = BILLING.read_bytes()
    (tmp_path / "call.wav").write_bytes(whole[: len(whole) // 2])
    report = analyze(tmp_path / "call.wav", engine)
    assert "truncated" in report.flags
    assert "truncated" not in analyze(BILLING, engine).flags
    assert report.source.duration_seconds == pytest.approx(12.17, abs=0.05)
    assert all(channel.windows for channel in report.channels)


@pytest.mark.parametrize("options", [SEGMENT, UTTERANCE], ids=["segment", "utterance"])
def test_a_call_shorter_than_the_models_shortest_window(options: Options, engine: Engine, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", read(VOICEMAIL)[0][40_000:40_100], 16_000)
    assert analyze(tmp_path / "call.wav", engine, options).flags == ("no_speech", "mono")


def test_96_khz_and_8_channels(engine: Engine, tmp_path: Path) -> None:
    # Given the voicemail with every sample six times, on 8 channels
    samples = np.repeat(np.tile(read(VOICEMAIL)[0], (1, 8)), 6, axis=0)
    soundfile.write(tmp_path / "call.wav", samples, 96_000)
    # When it is analysed, then each channel tells the same
    report = analyze(tmp_path / "call.wav", engine)
    assert (report.source.sample_rate_hz, report.source.channels) == (96_000, 8)
    assert len({channel.summary.model_dump_json() for channel in report.channels}) == 1
    assert report.channels[7].role == "channel_7"
    assert report.channels[7].windows


def test_an_hour_as_one_utterance_is_too_long(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="granularity=segment") as raised:
        analyze(write_long_call(tmp_path / "call.wav", seconds=3600), engine, UTTERANCE)
    assert raised.value.code == "audio_too_long"


def test_a_call_of_seven_hours_is_refused_before_it_is_read(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="WARMLINE_AUDIO_MAX_SECONDS"):
        analyze(write_long_call(tmp_path / "call.wav", seconds=7 * 3600), engine)


def analyzed_alone(path: Path) -> tuple[Report, float]:
    """The report and the peak memory in MiB of a process that analyses this call and nothing else."""
    command = [sys.executable, "-m", "warmline.cli.main", "analyze", "--json", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        report = Report.model_validate_json(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return report, usage.ru_maxrss / 1024


@pytest.mark.slow
def test_a_stereo_call_of_three_hours_is_a_report_in_the_memory_of_one_minute(
    engine: Engine, tmp_path: Path
) -> None:
    # Given a minute and three hours in stereo at 16 kHz with the voicemail at their beginning and at their end
    samples, _ = read(VOICEMAIL)
    voicemail = np.repeat((samples * 32_767).astype("<i2"), 2, axis=1).tobytes()
    data_bytes = {"minute": 60 * 16_000 * 4, "hours": 3 * 3600 * 16_000 * 4}
    for name, count in data_bytes.items():
        with (tmp_path / f"{name}.wav").open("wb") as file:
            header = wav_header(data_bytes=count, sample_rate_hz=16_000, channels=2)
            file.write(header + voicemail)
            file.seek(len(header) + count - len(voicemail))
            file.write(voicemail)
    # When each is analysed in a process of its own
    (_, minute_peak), (report, hours_peak) = (analyzed_alone(tmp_path / f"{name}.wav") for name in data_bytes)
    # Then the long one's windows are the voicemail's, twice, to within one step of the search for speech
    assert report.source.duration_seconds == 3 * 3600
    assert set(report.flags) <= {"low_confidence"}
    once = [window.start_ms for window in analyze(VOICEMAIL, engine).channels[0].windows]
    second_at_ms = (data_bytes["hours"] - len(voicemail)) / 64
    expected = [*once, *(second_at_ms + start_ms for start_ms in once)]
    for channel in report.channels:
        assert [window.start_ms for window in channel.windows] == pytest.approx(expected, abs=64)
    # And it took no more memory
    assert hours_peak < 1.1 * minute_peak
