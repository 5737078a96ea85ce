"""`warmline analyze`: one process, the bundled model, real recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.conftest import SAMPLES, Warmline
from warmline.calls.report import STANDARD_LABELS, Report


def test_json_prints_one_report_a_line_in_the_files_order_and_nothing_else(warmline: Warmline) -> None:
    # Given the samples in an order of our own
    files = [SAMPLES[4], SAMPLES[0], SAMPLES[1]]
    # When they are analysed with --json
    done = warmline("analyze", *files, "--json")
    # Then stdout holds a report for each, in that order, and each says that the mini model made it
    assert done.returncode == 0, done.stderr
    reports = [Report.model_validate_json(line) for line in done.stdout.splitlines()]
    assert [report.source.uri for report in reports] == [str(path) for path in files]
    assert all(report.provenance.model.mini for report in reports)
    windows = [window for report in reports for channel in report.channels for window in channel.windows]
    assert windows
    assert all(set(window.scores) == set(STANDARD_LABELS) for window in windows)
    assert all(sum(window.scores.values()) == pytest.approx(1, abs=1e-5) for window in windows)


def test_a_bad_file_costs_neither_its_neighbours_nor_the_order(warmline: Warmline, tmp_path: Path) -> None:
    # Given a text file named .wav between two recordings, and one that is not there
    text = tmp_path / "notes.wav"
    text.write_text("this is not audio\n")
    # When all are analysed
    done = warmline("analyze", SAMPLES[0], text, tmp_path / "gone.wav", SAMPLES[4], "--json")
    # Then the good ones have their reports, the bad ones a sentence with a code, and the exit code is 1
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["source"]["uri"] for report in reports] == [str(SAMPLES[0]), str(SAMPLES[4])]
    assert "[not_audio]" in done.stderr
    assert "[object_not_found]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_for_people_it_prints_channels_roles_and_windows(warmline: Warmline) -> None:
    done = warmline("analyze", SAMPLES[0], "--roles", "agent,customer")
    assert done.returncode == 0, done.stderr
    assert "agent" in done.stdout
    assert "customer" in done.stdout
    assert "mini model" in done.stdout


def test_utterance_scores_each_whole_channel_as_funasr_does(warmline: Warmline, tmp_path: Path) -> None:
    # Given a stereo recording of a second and a half, at the model's own rate, with different channels
    rng = np.random.default_rng(7)
    samples = (rng.standard_normal((24_000, 2)) * [0.05, 0.2]).cumsum(axis=0).astype(np.float32)
    samples /= np.abs(samples).max() * 1.1
    call = tmp_path / "stereo.wav"
    soundfile.write(call, samples, 16_000, subtype="FLOAT")
    # When FunASR itself and our engine score it
    ours, theirs = (
        Report.model_validate_json(
            warmline(
                *("analyze", call, "--json", "--granularity", "utterance", "--engine", engine, *fp32),
                *("--embedding", "npy", "--embeddings-dir", tmp_path / engine / "made"),
            ).stdout
        )
        for engine, fp32 in (("torch", ("--precision", "fp32")), ("funasr", ()))
    )
    # Then every channel is one window with FunASR's scores
    assert theirs.provenance.model.engine == "funasr"
    for mine, reference in zip(ours.channels, theirs.channels, strict=True):
        assert len(mine.windows) == len(reference.windows) == 1
        assert mine.windows[0].end_ms == 1500
        assert mine.windows[0].scores == pytest.approx(reference.windows[0].scores, abs=1e-4)
    assert ours.channels[0].windows[0].scores != ours.channels[1].windows[0].scores
    # And FunASR's embeddings, in the file that the report names
    places = [report.embeddings.uri for report in (ours, theirs) if report.embeddings]
    assert places == [str(tmp_path / engine / "made" / "stereo.wav.npy") for engine in ("torch", "funasr")]
    mine, reference = map(np.load, places)
    assert mine.shape == (2, ours.embeddings.dimensions if ours.embeddings else 0)
    np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "warp"], "WARMLINE_ENGINE"),
        (["--precision", "int3"], "WARMLINE_PRECISION"),
        (["--granularity", "phoneme"], "granularity"),
        (["--model", "nosuchmodel"], "nosuchmodel"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--embeddings-dir", "."], "--embedding npy"),
        ([SAMPLES[0], "--embedding", "npy", "--embeddings-dir", "."], SAMPLES[0].name),
        (["--embedding", "npy", "--embeddings-dir", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_a_bad_option_is_one_line_and_not_a_traceback(
    warmline: Warmline, arguments: list[str], message: str
) -> None:
    done = warmline("analyze", SAMPLES[0], *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
