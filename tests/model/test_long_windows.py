"""A whole channel as one window: FunASR's own scores, in a memory that does not grow with its length squared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from config.settings import EmotionSettings
from tests.model.random_checkpoints import windows
from warmline.emotion.engine import Engine
from warmline.emotion.loading import load_engine
from warmline.emotion.torch_engine import TorchEngine
from warmline.jobs.errors import AudioTooLong

# FunASR and what it imports warn of their own old ways.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[2]
SECONDS = 90  # 2,250 positions: 20 M elements of bias, more than are made at once, and two blocks of feed-forward


@pytest.fixture(scope="module")
def load_mini(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Engine]:
    models = tmp_path_factory.mktemp("models")

    def load(engine: str) -> Engine:
        settings = EmotionSettings.model_validate(
            {"model": "mini", "models_dir": models, "precision": "fp32", "device": "cpu", "engine": engine}
        )
        return load_engine(settings, threads=1)

    return load


def test_it_is_funasrs_own(load_mini: Callable[[str], Engine]) -> None:
    audio = windows((SECONDS * 16_000,))
    found = []
    for name in ("torch", "openvino", "funasr"):
        engine = load_mini(name)
        output = engine.infer(engine.prepare(audio), embeddings=True)
        found.append((engine.finish(output), engine.embeddings(output)))
    *ours, (scores, embeddings) = found
    for own_scores, own_embeddings in ours:
        np.testing.assert_allclose(own_scores, scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(own_embeddings, embeddings, rtol=0, atol=1e-5)


def test_funasr_refuses_what_would_end_its_process(load_mini: Callable[[str], Engine]) -> None:
    engine = load_mini("funasr")
    engine.prepare([np.zeros(120 * 16_000, np.float32)])
    with pytest.raises(AudioTooLong, match="at most 120 s"):
        engine.prepare([np.zeros(120 * 16_000 + 1, np.float32)])


def test_in_blocks_it_is_what_it_is_in_one_piece(load_mini: Callable[[str], Engine]) -> None:
    # Given two windows of 200 positions, with and without padding, in one piece and in blocks
    engine = load_mini("torch")
    assert isinstance(engine, TorchEngine)
    network = engine._model
    samples = torch.from_numpy(np.stack(windows((8 * 16_000,) * 2)))
    for lengths in ([128_000, 128_000], [128_000, 90_000]):
        made = []
        for elements in (10**9, 2 * 200 * 70, 1):  # the last: one query at a time
            network.attention_block_elements = elements
            with torch.inference_mode():
                made.append(network(samples, lengths))
        torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(made[2], made[0], rtol=1e-5, atol=1e-5)


MEASURE = """
import resource, sys
from collections.abc import Callable
from pathlib import Path
import numpy as np
from config.settings import EmotionSettings
from warmline.emotion.engine import score
from warmline.emotion.loading import load_engine

models = Path(sys.argv[1])
settings = EmotionSettings(model="mini", models_dir=models, engine="torch", device="cpu", precision="fp32")
engine = load_engine(settings, threads=1)
audio = np.random.default_rng(0).standard_normal(240 * 16_000, dtype=np.float32)
score(engine, [audio[: 5 * 16_000]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
score(engine, [audio])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_four_minutes_take_little_more_memory_than_five_seconds(tmp_path: Path) -> None:
    # In one piece the bias alone would take 4 heads of 6,000 positions squared: 576 MB, its distances 144
    grown_kib = int(
        subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
    )
    assert grown_kib < 500 * 1024
