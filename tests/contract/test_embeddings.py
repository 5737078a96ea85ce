"""An analysis with embeddings: a row for each window of the report, the window's own, and the report as ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from config.settings import AudioSettings, EmotionSettings
from tests.analysts import analyst_with
from warmline.audio.call import open_call
from warmline.calls.analyze import analyze_call
from warmline.calls.embeddings import EmbeddingWriter
from warmline.calls.heard import milliseconds
from warmline.calls.report import Report, SourceFacts
from warmline.emotion.engine import Embeddings, Engine
from warmline.emotion.loading import load_engine
from warmline.jobs.records import Options

CALL = Path(__file__).parents[2] / "samples" / "calls" / "call-001-billing.wav"  # 24 s, two channels


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The mini model, four windows at once as a GPU takes them: batches of both channels, two under way."""
    made = load_engine(EmotionSettings(model="mini", device="cpu", precision="fp32"), threads=1)
    made.windows_at_once = 4
    return made


def analyse(engine: Engine, options: Options, writer: EmbeddingWriter | None = None) -> Report:
    facts = SourceFacts(uri="x", size_bytes=0)
    return analyze_call(CALL, analyst_with(engine), source=facts, options=options, embeddings=writer)


def embed_each(engine: Engine, options: Options) -> dict[tuple[int, int], Embeddings]:
    """The embedding of each of the call's windows, scored alone, by channel and start."""
    with open_call(CALL, AudioSettings()) as call:
        if options.granularity == "utterance":
            windows = list(call.whole_channels(min_samples=engine.min_samples))
        else:
            hop_seconds = options.hop_seconds if options.granularity == "frame" else None
            windows = list(call.speech_windows(min_samples=engine.min_samples, hop_seconds=hop_seconds))
    return {
        (window.channel, milliseconds(window.start_sample)): engine.embeddings(
            engine.infer(engine.prepare([window.samples]), embeddings=True)
        )[0]
        for window in windows
    }


@pytest.mark.parametrize(
    "options",
    [Options(), Options(granularity="utterance"), Options(granularity="frame", hop_seconds=0.7)],
    ids=lambda options: options.granularity,
)
def test_each_window_of_the_report_has_its_row(engine: Engine, tmp_path: Path, options: Options) -> None:
    # When a call of two channels is analysed with embeddings
    path = tmp_path / "x.npy"
    with EmbeddingWriter(path, file_format="npy", dimensions=engine.embedding_dimensions, uri="here") as writer:
        report = analyse(engine, options, writer)
    # Then each window has its own in its place
    expected = embed_each(engine, options)
    rows = np.load(path)
    windows = [(channel.index, window) for channel in report.channels for window in channel.windows]
    assert len(rows) == len(windows) == len(expected) >= 2
    for row, (channel, window) in zip(rows, windows, strict=True):
        np.testing.assert_allclose(row, expected[channel, window.start_ms], rtol=0, atol=1e-6)
    assert report.embeddings is not None
    assert (report.embeddings.uri, report.embeddings.rows) == ("here", len(rows))
    assert report.embeddings.dimensions == rows.shape[1] == engine.embedding_dimensions
    # And beside them the report is what it is without
    without = analyse(engine, options)
    assert without.embeddings is None
    assert report.channels == without.channels
