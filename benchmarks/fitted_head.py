"""A large model whose head fits the clips, so that labels differ from window to window.

The encoder's weights stay random, but its mean frames still tell clips apart. A linear head on them has a closed
form: ridge regression of the labels' one-hot rows (Hoerl and Kennard, 1970).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.subject import read_windows
from warmline.emotion.checkpoint import WEIGHTS_FILE
from warmline.emotion.configuration import CONFIG_FILE
from warmline.emotion.labels import TOKENS_FILE
from warmline.emotion.layout import funasr_names
from warmline.emotion.loading import open_model
from warmline.emotion.torch_engine import build_model

# Added to the diagonal, as a share of its mean. Features keep their own scales: a head that magnifies those that
# hardly differ between windows would judge rounding, which no trained head does.
RIDGE = 0.01
SHARPNESS = 6.0  # the logit that a label's own windows are fitted to; the others' is 0


class FittedHead:
    """The subject that writes such a model."""

    def __init__(self, *, model: str, models_dir: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._source = Path(model)
        self._opened = open_model(model, Path(models_dir))
        weights = self._opened.convert("fp32")
        self._state = dict(weights.state)
        self._network = build_model(self._opened.configuration.architecture, weights, "cpu")
        self.facts: dict[str, Any] = {}

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Fits the head to `clips` and `labels` (a name for each), and writes the model to `directory`."""
        names = self._opened.labels.names
        rows = [self._opened.labels.rows[names.index(label)] for label in json.loads(task["labels"])]
        features = self._features(task["clips"])  # (windows, width)
        weight, bias = fit_head(features, torch.tensor(rows), tokens=len(self._opened.labels.tokens))
        state = {**self._state, "head.weight": weight, "head.bias": bias}
        directory = Path(task["directory"])
        directory.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG_FILE, TOKENS_FILE):
            shutil.copy(self._source / name, directory / name)
        theirs = funasr_names(self._opened.configuration.architecture)
        torch.save({theirs[ours]: tensor for ours, tensor in state.items()}, directory / WEIGHTS_FILE)
        found = (features @ weight.T + bias).argmax(dim=1)
        return {"agree": float((found == torch.tensor(rows)).float().mean()), "labels": len(set(rows))}

    @torch.inference_mode()
    def _features(self, clips: str) -> Tensor:
        means = []
        for clip in read_windows(clips):
            frames, _ = self._network.encode(torch.from_numpy(clip)[None], [clip.size])  # (1, T, C)
            means.append(frames.mean(dim=1))
        return torch.cat(means)


def fit_head(features: Tensor, rows: Tensor, *, tokens: int) -> tuple[Tensor, Tensor]:
    """Weight (tokens, width) and bias (tokens,) that give each window (windows, width) a high logit in its row."""
    targets = torch.nn.functional.one_hot(rows, tokens).double() * SHARPNESS  # (windows, tokens)
    mean = features.double().mean(dim=0)
    x = features.double() - mean
    centre = targets.mean(dim=0)
    # With fewer windows than features the dual form is the smaller system: w = X' (X X' + r I)^-1 Y.
    gram = x @ x.T
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(x), dtype=torch.float64)
    weight = (x.T @ torch.linalg.solve(gram + ridge, targets - centre)).T  # (tokens, width)
    return weight.float().contiguous(), (centre - weight @ mean).float()
