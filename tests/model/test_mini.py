"""The mini model as it ships: small, safe to load, and the same in Warmline as in FunASR.

How well it tells emotions is not tested here: that needs speech which the repository does not have. The model
card has those figures and models/train_mini.py makes them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.model.conftest import LoadEngine
from warmline.emotion.engine import SAMPLE_RATE, Engine, Samples, score
from warmline.emotion.labels import STANDARD_LABELS, read_labels

ROOT = Path(__file__).parents[2]
MINI = ROOT / "models" / "mini"
SAMPLE = ROOT / "samples" / "calls" / "call-004-refund.flac"
MAX_BYTES = 4_000_000


@pytest.fixture(scope="module")
def mini(load: LoadEngine) -> Engine:
    return load(MINI)


@pytest.fixture(scope="module")
def windows() -> list[Samples]:
    """A second of noise, and parts of 0.5 to 5 s of a synthetic voice."""
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * 0.1
    call, rate = soundfile.read(SAMPLE, dtype="float32", always_2d=True)
    voice = np.repeat(call[:, 0], SAMPLE_RATE // rate)
    return [noise, *(voice[8000 : 8000 + int(seconds * SAMPLE_RATE)] for seconds in (0.5, 2.0, 5.0))]


def test_it_is_small() -> None:
    # Given the directory as it is in the repository
    size = sum(path.stat().st_size for path in MINI.iterdir())
    # Then a clone stays quick
    assert size < MAX_BYTES


def test_its_weights_are_tensors_and_nothing_else() -> None:
    state = torch.load(MINI / "model.pt", map_location="cpu", weights_only=True)
    assert all(isinstance(tensor, torch.Tensor) and tensor.isfinite().all() for tensor in state.values())


def test_its_labels_are_the_nine_of_emotion2vec(mini: Engine) -> None:
    assert mini.info.labels == STANDARD_LABELS
    assert read_labels(MINI).rows == tuple(range(9))
    # And it never passes for the real thing
    assert mini.info.mini


def test_scores_are_probabilities_at_every_length(mini: Engine, windows: list[Samples]) -> None:
    # When windows of 0.5 to 5 s are scored
    scores = score(mini, windows)
    # Then each row is a distribution, and none is so sure that nothing else is left
    assert scores.shape == (len(windows), len(STANDARD_LABELS))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert scores.min() >= 0
    assert scores.max() < 0.995
    # And what its training never showed it stays low
    surprised_and_unknown = scores[:, -2:]
    assert surprised_and_unknown.max() < 0.1


@pytest.mark.filterwarnings("ignore")  # FunASR and what it imports warn of their own old ways
def test_it_scores_as_funasr_does(load: LoadEngine, mini: Engine, windows: list[Samples]) -> None:
    # Given FunASR's own AutoModel on the same directory
    reference = load(MINI, engine="funasr")
    # Then both give the same scores
    np.testing.assert_allclose(score(mini, windows), score(reference, windows), atol=1e-4)


def test_the_card_quotes_the_figures() -> None:
    # Given the validation's figures
    figures = json.loads((MINI / "figures.json").read_text(encoding="utf-8"))
    card = (MINI / "README.md").read_text(encoding="utf-8")
    # Then the card has them, fold by fold
    for fold in figures["folds"]:
        row = (
            f"| {', '.join(fold['left_out'])} | {fold['clips']} | {fold['clean']:.2f} | {fold['telephone']:.2f} |"
        )
        assert row in card
    assert f"{figures['clean']['mean_of_folds']:.2f}" in card
