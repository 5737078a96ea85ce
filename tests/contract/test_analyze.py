"""From a call to its report, with the bundled model."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.analysts import analyst_with
from tests.recordings import ALL_CALLS, BILLING, VOICEMAIL, read
from warmline.calls.analyze import analyze_call
from warmline.calls.report import STANDARD_LABELS, Report, ScoredWindow, SourceFacts
from warmline.emotion.engine import Engine, score
from warmline.jobs.records import Job, Options, Source


def analyze(path: Path, engine: Engine, options: Options | None = None, **more: object) -> Report:
    source = SourceFacts(uri=str(path), size_bytes=path.stat().st_size)
    return analyze_call(path, analyst_with(engine), source=source, options=options or Options(), **more)


def scores_of(window: ScoredWindow) -> list[float]:
    return [window.scores[label] for label in STANDARD_LABELS]


@pytest.mark.parametrize("path", ALL_CALLS, ids=lambda path: path.name)
def test_a_report_of_every_sample_call(path: Path, engine: Engine) -> None:
    # Given a sample call; when it is analysed
    report = analyze(path, engine)
    # Then the report survives its own wire form
    assert Report.model_validate_json(report.model_dump_json()) == report
    # And every channel has windows in order, with probabilities for the standard labels
    assert set(report.flags) <= {"low_confidence", "mono"}
    assert ("mono" in report.flags) == (path == VOICEMAIL)
    for channel in report.channels:
        assert channel.windows
        edges = [edge for window in channel.windows for edge in (window.start_ms, window.end_ms)]
        assert edges == sorted(edges)
        assert edges[-1] <= report.source.duration_seconds * 1000 + 1
        for window in channel.windows:
            assert tuple(window.scores) == STANDARD_LABELS
            assert sum(window.scores.values()) == pytest.approx(1.0, abs=1e-6)
            assert window.scores[window.top] == max(window.scores.values())
        assert 0 < channel.speech_seconds < report.source.duration_seconds
        assert channel.summary.top in STANDARD_LABELS


def test_what_a_report_says_of_its_making(engine: Engine) -> None:
    # Given a job; when its call is analysed for it
    job = Job(
        id="0" * 32,
        source=Source(bucket="calls", key="billing.wav"),
        options=Options(roles=("agent", "customer")),
        metadata={"queue": "billing"},
        created_at=datetime.now(UTC),
    )
    report = analyze(BILLING, engine, job.options, job=job, fetch_seconds=0.25)
    # Then the report names job, call, model and times
    assert (report.job_id, report.metadata) == (job.id, {"queue": "billing"})
    assert [channel.role for channel in report.channels] == ["agent", "customer"]
    source = report.source
    assert (source.container, source.codec, source.sample_rate_hz, source.channels) == ("WAV", "ULAW", 8000, 2)
    assert source.duration_seconds == pytest.approx(24.336)
    assert source.size_bytes == BILLING.stat().st_size
    made = report.provenance
    assert made.warmline_version == importlib.metadata.version("warmline")
    assert (made.model.name, made.model.mini, made.model.hash) == ("mini", True, engine.info.model_hash)
    assert made.options == job.options
    assert set(made.stage_seconds) == {"fetch", "decode", "speech", "score"}
    assert made.stage_seconds["fetch"] == 0.25
    assert all(seconds > 0 for seconds in made.stage_seconds.values())
    wall_seconds = source.duration_seconds / made.rtfx
    assert wall_seconds >= max(made.stage_seconds[stage] for stage in ("decode", "speech", "score")) - 0.01
    # And without a job it names none
    alone = analyze(BILLING, engine)
    assert (alone.job_id, alone.metadata) == (None, {})
    assert "fetch" not in alone.provenance.stage_seconds


def test_a_windows_scores_are_those_of_its_samples(engine: Engine) -> None:
    # Given a report of a call at 16 kHz, whose samples the windows' times lead back to
    report = analyze(VOICEMAIL, engine)
    samples = read(VOICEMAIL)[0][:, 0]
    # When each window's samples are scored by themselves
    windows = report.channels[0].windows
    alone = [score(engine, [samples[window.start_ms * 16 : window.end_ms * 16]])[0].tolist() for window in windows]
    # Then the scores are the report's (times are rounded to the millisecond, so a few samples may differ)
    np.testing.assert_allclose([scores_of(window) for window in windows], alone, atol=2e-3)
    # And the channel's is their mean, weighted by duration
    durations = [window.end_ms - window.start_ms for window in windows]
    summary = [report.channels[0].summary.scores[label] for label in STANDARD_LABELS]
    np.testing.assert_allclose(summary, np.average(alone, axis=0, weights=durations), atol=2e-3)


def test_an_utterance_is_the_whole_channel(engine: Engine) -> None:
    # Given a stereo call; when its channels are scored as utterances
    report = analyze(BILLING, engine, Options(granularity="utterance"))
    # Then each has one window, from its first sample to its last, scored as it is
    samples, rate_hz = read(BILLING)
    whole = soxr.resample(samples, rate_hz, 16_000)
    for index, channel in enumerate(report.channels):
        (window,) = channel.windows
        assert (window.start_ms, window.end_ms) == (0, 24_336)
        expected = score(engine, [np.ascontiguousarray(whole[:, index])])[0]
        np.testing.assert_allclose(scores_of(window), expected, atol=1e-5)
        assert channel.summary.scores == window.scores


class Told:
    """A watcher that remembers what it was told, and ends the analysis where it is to."""

    def __init__(self, *, stop_at_windows: int = 10**9, stop_at_seconds: float = 10**9) -> None:
        self.windows: list[tuple[int, int]] = []
        self.seconds: list[float] = []
        self._stop_at = stop_at_windows, stop_at_seconds

    def on_windows(self, done: int, total: int) -> None:
        self.windows.append((done, total))
        if done >= self._stop_at[0]:
            raise InterruptedError

    def on_audio(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if seconds >= self._stop_at[1]:
            raise InterruptedError


def test_a_watcher_is_told_of_windows_and_of_audio(engine: Engine) -> None:
    told = Told()
    report = analyze(BILLING, engine, watcher=told)
    windows = sum(len(channel.windows) for channel in report.channels)
    assert told.windows[-1] == (windows, windows)
    assert {total for _, total in told.windows[:-1]} == {0}
    assert all(left[0] <= right[0] for left, right in pairwise(told.windows))
    # The header says how long the call is, so that is known from the first block on
    assert told.seconds == pytest.approx([report.source.duration_seconds] * len(told.seconds), abs=1e-3)
    assert len(told.seconds) > 20


def test_a_watcher_ends_the_analysis_before_the_next_window(engine: Engine) -> None:
    # Given a watcher that has seen enough after the first window; when it says so
    told = Told(stop_at_windows=1)
    with pytest.raises(InterruptedError):
        analyze(BILLING, engine, watcher=told)
    # Then it is not asked again
    assert [done for done, _ in told.windows if done] == [engine.windows_at_once]


def test_a_watcher_ends_the_reading(engine: Engine) -> None:
    told = Told(stop_at_seconds=1)
    with pytest.raises(InterruptedError):
        analyze(BILLING, engine, watcher=told)
    assert len(told.seconds) == 1
