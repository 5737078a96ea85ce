"""The GPU's benchmark: a line and no figure where there is none, and the same code on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    done = run("--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "There is no CUDA device here, so nothing was measured: run this where there is a GPU."
    ]
    assert not (tmp_path / "figures.json").exists()


def test_on_a_cpu_it_measures_a_tiny_model_by_the_same_code(tmp_path: Path) -> None:
    done = run(
        "--device", "cpu", "--seconds", "0.01", "--windows", "1,2", "--json", str(tmp_path / "figures.json")
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    rows = figures["rows"]
    assert [(row["precision"], row["way"], row["windows"]) for row in rows] == [
        (precision, "eager", windows) for precision in ("fp32", "bf16") for windows in (1, 2, 0)
    ]
    for row in rows:
        # 16,000 samples of 4 bytes a second of audio, and padding
        assert row["host_to_device_bytes_per_second"] >= 0.99 * row["rtfx"] * 64_000
        rate = figures["flop_per_audio_second"] * row["rtfx"]
        if row["windows"]:
            assert row["flop_per_second"] == pytest.approx(rate)
    assert figures["device"] == "CPU"
    assert "the aim is 5,000 with the large model on an H100" in done.stdout
