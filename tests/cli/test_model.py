"""`warmline model check` and `quantize`: measured on recordings, remembered, said in a table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLES, Warmline


@pytest.fixture
def own_dir(tmp_path: Path) -> str:
    """Where a test may convert, quantize and remember."""
    return str(tmp_path / "models")


def test_a_check_without_clips_uses_the_sample_calls_and_does_not_judge_by_so_few(
    warmline: Warmline, own_dir: str
) -> None:
    done = warmline(
        "model", "check", "mini", "--precision", "bf16", "--engine", "torch", WARMLINE_MODELS_DIR=own_dir
    )
    assert done.returncode == 0, done.stderr
    assert "torch in bf16 on cpu" in done.stdout
    assert "fewer than 200 windows" in done.stdout
    assert not list(Path(own_dir).rglob("fidelity-*"))


def test_fp32_is_checked_and_remembered(warmline: Warmline, own_dir: str) -> None:
    done = warmline(
        "model", "check", "mini", "--engine", "openvino", "--precision", "fp32", WARMLINE_MODELS_DIR=own_dir
    )
    assert done.returncode == 0, done.stderr
    assert "reached" in done.stdout
    (record,) = Path(own_dir).rglob("fidelity-openvino-fp32.json")
    assert json.loads(record.read_text())["windows"] > 10


def test_quantizing_needs_recordings_enough_to_measure_on(
    warmline: Warmline, own_dir: str, tmp_path: Path
) -> None:
    done = warmline("model", "quantize", "mini", "--clips", SAMPLES[0].parent, WARMLINE_MODELS_DIR=own_dir)
    assert done.returncode == 1
    assert "at least 148 are needed" in done.stderr
    done = warmline("model", "quantize", "mini", "--clips", tmp_path / "none", WARMLINE_MODELS_DIR=own_dir)
    assert done.returncode == 1
    assert "is no folder" in done.stderr


def test_converting_ahead_of_time_is_what_the_first_use_finds(warmline: Warmline, own_dir: str) -> None:
    variables = {"WARMLINE_MODELS_DIR": own_dir, "WARMLINE_ENGINE": "openvino", "WARMLINE_PRECISION": "fp32"}
    done = warmline("model", "convert", "mini", **variables)
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines() if line.startswith("/")]
    assert [file.name for file in files] == ["fp32.safetensors", "model.xml"]
    done = warmline("analyze", "--verbose", SAMPLES[0], **variables)
    assert done.returncode == 0, done.stderr
    assert "model_loaded" in done.stderr
    assert "openvino_model_traced" not in done.stderr


@pytest.mark.slow
def test_a_quantized_model_is_measured_and_then_used_or_refused(
    warmline: Warmline, own_dir: str, tmp_path: Path
) -> None:
    # Given recordings enough, and among them what is none
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "notes.txt").write_text("not audio")
    for index in range(6):
        for path in SAMPLES:
            shutil.copy(path, clips / f"{index}-{path.name}")
    # When the mini model is quantized
    done = warmline("model", "quantize", "mini", "--clips", clips, WARMLINE_MODELS_DIR=own_dir)
    # Then it was measured, and stdout has the table and nothing else
    reached = done.returncode == 0
    assert "openvino in int8 on cpu" in done.stdout, done.stderr
    assert ("MISSED" in done.stdout) != reached
    assert len(done.stdout.splitlines()) <= 8
    (record,) = Path(own_dir).rglob("fidelity-openvino-int8.json")
    assert json.loads(record.read_text())["windows"] >= 100
    # And a call is scored with it where it reached its goal (so few different windows may miss it by a toss-up)
    analyze = ("analyze", "--json", "--precision", "int8", SAMPLES[0])
    done = warmline(*analyze, WARMLINE_MODELS_DIR=own_dir)
    assert (done.returncode == 0) == reached
    assert reached or "WARMLINE_ALLOW_INACCURATE" in done.stderr
    # Or was allowed explicitly
    done = warmline(*analyze, WARMLINE_MODELS_DIR=own_dir, WARMLINE_ALLOW_INACCURATE="true")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["model"]["precision"] == "int8"
