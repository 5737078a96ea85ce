"""An open call: its windows and what is known of it afterwards, without ever holding it."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from config.settings import AudioSettings
from tests.recordings import (
    BILLING,
    BOOKING,
    CANCELLATION,
    DELIVERY,
    REFUND,
    VOICEMAIL,
    read,
    write_flac_without_length,
    write_long_call,
)
from warmline.audio.call import CallAudio, open_call
from warmline.audio.windows import ChannelFacts, Window
from warmline.jobs.errors import AudioTooLong, BrokenAudio

MIN_SAMPLES = 400
AGENT, CUSTOMER = 0, 1


def windows_of(path: Path, **limits: float) -> tuple[CallAudio, list[Window]]:
    with open_call(path, AudioSettings(**limits)) as call:
        return call, list(call.speech_windows(min_samples=MIN_SAMPLES))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            BILLING,
            {
                AGENT: [(1.2, 4.2), (8.6, 11.7), (17.7, 21.2)],
                CUSTOMER: [(5.0, 7.8), (12.1, 16.3), (21.9, 23.6)],
            },
        ),
        (
            DELIVERY,
            {
                AGENT: [(1.3, 4.0), (14.8, 18.3), (21.9, 26.1)],
                CUSTOMER: [(4.8, 8.3), (8.5, 13.4), (26.5, 30.7)],
            },
        ),
        (
            CANCELLATION,
            {AGENT: [(1.2, 5.1), (11.6, 16.2), (21.6, 24.9)], CUSTOMER: [(5.9, 10.8), (16.4, 20.4)]},
        ),
        (REFUND, {AGENT: [(1.3, 3.9), (10.2, 13.5)], CUSTOMER: [(4.7, 9.4), (14.2, 17.3)]}),
        (VOICEMAIL, {0: [(1.3, 5.6), (7.0, 9.6), (9.9, 12.5)]}),
        (
            BOOKING,
            {
                AGENT: [(1.2, 4.8), (4.8, 8.3), (17.7, 20.3), (20.3, 22.9)],
                CUSTOMER: [(9.0, 12.3), (12.3, 15.5), (23.7, 26.5)],
            },
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_the_turns_of_the_sample_calls(path: Path, expected: dict[int, list[tuple[float, float]]]) -> None:
    # Given a call whose turns were heard and written down (seconds); when it is cut into windows
    call, windows = windows_of(path)
    # Then each channel's windows are its turns, long ones halved, short ones joined
    for channel, turns in expected.items():
        found = [(w.start_sample / 16_000, w.end_sample / 16_000) for w in windows if w.channel == channel]
        assert np.array(found) == pytest.approx(np.array(turns), abs=0.15)
    assert {window.channel for window in windows} == set(expected)
    # And what is known afterwards fits
    assert call.duration_seconds == pytest.approx(call.info.declared_seconds)
    assert not call.truncated
    for channel, facts in enumerate(call.channels):
        windows_seconds = sum(len(w.samples) for w in windows if w.channel == channel) / 16_000
        assert 0.7 * windows_seconds < speech_seconds_of(facts) < windows_seconds
    assert all(seconds > 0 for seconds in call.stage_seconds.values())


def speech_seconds_of(facts: ChannelFacts) -> float:
    return sum(end - start for start, end in facts.speech) / 16_000


def test_whole_channels_are_what_funasr_is_given() -> None:
    # Given a stereo call at 8 kHz; when its channels are asked for as they are
    with open_call(BILLING, AudioSettings()) as call:
        agent, customer = call.whole_channels(min_samples=MIN_SAMPLES)
    # Then each is the whole channel, resampled at once
    samples, rate_hz = read(BILLING)
    expected = soxr.resample(samples, rate_hz, 16_000)
    np.testing.assert_allclose(agent.samples, expected[:, AGENT], atol=1e-5)
    np.testing.assert_allclose(customer.samples, expected[:, CUSTOMER], atol=1e-5)
    assert (customer.start_sample, customer.end_sample) == (0, len(expected))
    # And where they speak is known as if windows had been cut
    assert call.channels == windows_of(BILLING)[0].channels


def test_a_whole_channel_of_digital_silence_or_too_few_samples_gives_no_window(tmp_path: Path) -> None:
    samples, rate_hz = read(BILLING, seconds=3)
    samples[:, CUSTOMER] = 0
    soundfile.write(tmp_path / "call.wav", samples, rate_hz)
    with open_call(tmp_path / "call.wav", AudioSettings()) as call:
        assert [window.channel for window in call.whole_channels(min_samples=MIN_SAMPLES)] == [AGENT]
    assert (speech_seconds_of(call.channels[AGENT]) > 1, call.channels[CUSTOMER].speech) == (True, ())
    soundfile.write(tmp_path / "call.wav", samples[-100:], rate_hz)
    with open_call(tmp_path / "call.wav", AudioSettings()) as call:
        assert list(call.whole_channels(min_samples=MIN_SAMPLES)) == []


def test_limits_of_length() -> None:
    # Given a call of 24 s; when less is allowed, then it is refused with a sentence that names the setting, unread
    with (
        open_call(BILLING, AudioSettings(max_seconds=20)) as call,
        pytest.raises(AudioTooLong, match="WARMLINE_AUDIO_MAX_SECONDS"),
    ):
        list(call.speech_windows(min_samples=MIN_SAMPLES))
    assert call.duration_seconds == 0
    assert windows_of(BILLING, max_seconds=25)[1]
    with (
        open_call(BILLING, AudioSettings(utterance_max_seconds=20)) as call,
        pytest.raises(AudioTooLong, match="granularity=segment"),
    ):
        list(call.whole_channels(min_samples=MIN_SAMPLES))


def test_the_limit_of_length_holds_where_the_header_tells_none(tmp_path: Path) -> None:
    # Given a call of 18 s that does not tell its length; when less is allowed
    path = write_flac_without_length(tmp_path / "call.flac")
    with open_call(path, AudioSettings(max_seconds=5)) as call, pytest.raises(AudioTooLong):
        list(call.speech_windows(min_samples=MIN_SAMPLES))
    # Then reading stops where the limit lies
    assert call.info.declared_seconds is None
    assert 5 < call.duration_seconds < 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound(bad: float, tmp_path: Path) -> None:
    samples, rate_hz = read(VOICEMAIL)
    samples[150_000] = bad
    soundfile.write(tmp_path / "call.wav", samples, rate_hz, subtype="FLOAT")
    with pytest.raises(BrokenAudio):
        windows_of(tmp_path / "call.wav")
    with open_call(tmp_path / "call.wav", AudioSettings()) as call, pytest.raises(BrokenAudio):
        list(call.whole_channels(min_samples=MIN_SAMPLES))


@pytest.mark.parametrize(("rate_hz", "channels"), [(96_000, 1), (48_000, 8), (16_000, 16), (4_000, 1)])
def test_unusual_rates_and_numbers_of_channels(rate_hz: int, channels: int, tmp_path: Path) -> None:
    # Given the voicemail in another rate, on the last of several channels
    voicemail, _ = read(VOICEMAIL, seconds=7)
    samples = np.zeros((7 * rate_hz, channels), np.float32)
    samples[:, -1:] = soxr.resample(voicemail, 16_000, rate_hz)
    soundfile.write(tmp_path / "call.wav", samples, rate_hz)
    # When it is cut, then the speech is on that channel, at its time
    call, windows = windows_of(tmp_path / "call.wav")
    assert [window.channel for window in windows] == [channels - 1]
    assert windows[0].start_sample / 16_000 == pytest.approx(1.3, abs=0.2)
    assert call.duration_seconds == pytest.approx(7.0)


DECODE_AND_PRINT_PEAK = """
import sys
from pathlib import Path
from warmline.audio.call import SLAB_SAMPLES
from warmline.audio.decoding import open_decoder
from warmline.audio.resampling import in_slabs, to_16_khz

decoder = open_decoder(Path(sys.argv[1]), max_channels=2)
slabs = in_slabs(to_16_khz(decoder.blocks(), sample_rate_hz=8000, channels=2), SLAB_SAMPLES)
seconds = sum(len(slab) for slab in slabs) / 16_000
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(seconds, int(peak.split()[1]) / 1024)
"""


def decoded_seconds_and_peak_mebibytes(path: Path) -> tuple[float, float]:
    command = [sys.executable, "-c", DECODE_AND_PRINT_PEAK, str(path)]
    seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_decoding_three_hours_takes_no_more_memory_than_one_minute(tmp_path: Path) -> None:
    # Given a call of a minute and one of three hours; when each is decoded, in a process of its own
    minute, minute_peak = decoded_seconds_and_peak_mebibytes(write_long_call(tmp_path / "minute", seconds=60))
    hours, hours_peak = decoded_seconds_and_peak_mebibytes(write_long_call(tmp_path / "hours", seconds=3 * 3600))
    # Then both came out whole, and the peaks of the two processes are the same but for noise
    assert (minute, hours) == (60, 3 * 3600)
    assert hours_peak < minute_peak + 8


def test_cutting_ten_times_the_speech_takes_no_more_memory(tmp_path: Path) -> None:
    # Given speech that goes on for one and for ten minutes
    voicemail, rate_hz = read(VOICEMAIL)
    peaks = []
    for repeats in (5, 50):
        soundfile.write(tmp_path / "call.wav", np.tile(voicemail, (repeats, 1)), rate_hz)
        # When its windows are read and let go one by one
        with open_call(tmp_path / "call.wav", AudioSettings()) as call:
            tracemalloc.start()
            count = sum(1 for _ in call.speech_windows(min_samples=MIN_SAMPLES))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert count == 3 * repeats
    # Then the peak stays where it was
    assert peaks[1] < 1.1 * peaks[0]
