"""Model directories in FunASR's layout with seeded random weights: for fidelity, speed and memory, not for truth.

Real weights cannot be in a repository of this size, and equality with FunASR does not need them: any weights
show a difference, as long as the scores depend on the audio.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmline.emotion.architecture import Emotion2Vec
from warmline.emotion.configuration import read_configuration
from warmline.emotion.engine import Samples
from warmline.emotion.labels import read_labels
from warmline.emotion.layout import funasr_names

DATA = Path(__file__).parent / "data"


def write_random_model(
    directory: Path,
    config: str,
    *,
    changes: Mapping[str, object] | None = None,
    tokens: str | None = None,
    seed: int = 0,
) -> Path:
    """Writes config.yaml (data/CONFIG.yaml, some keys changed), tokens.txt and model.pt; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / f"{config}.yaml", directory / "config.yaml")
    change_config(directory, changes or {})
    (directory / "tokens.txt").write_text(tokens or (DATA / "tokens.txt").read_text(encoding="utf-8"))
    torch.save(random_state(directory, seed=seed), directory / "model.pt")
    return directory


def change_config(directory: Path, changes: Mapping[str, object]) -> None:
    """Gives keys of config.yaml other values, each wherever it stands, and leaves the rest as it is written."""
    path = directory / "config.yaml"
    text = path.read_text(encoding="utf-8")
    for key, value in changes.items():
        text, times = re.subn(rf"(?m)^( *{key}:).*", _put(value), text)
        assert times, f"config.yaml has no {key}"
    path.write_text(text, encoding="utf-8")


def _put(value: object) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match[1]} {value}"


def random_state(directory: Path, *, seed: int = 0) -> dict[str, Tensor]:
    """A state dict under FunASR's names that fits the directory's config.yaml and tokens.txt."""
    labels = len(read_labels(directory).tokens)
    architecture = read_configuration(directory, labels=labels).architecture
    with torch.device("meta"):
        model = Emotion2Vec(architecture)
    noise = _Noise(seed, largest=max(like.numel() for like in model.state_dict().values()))
    state = {name: _random(name, noise.take(like.shape)) for name, like in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    _steepen_head(model.eval(), state)
    return {theirs: state[ours] for ours, theirs in funasr_names(architecture).items()}


def windows(lengths: Sequence[int], *, seed: int = 0) -> list[Samples]:
    """Seeded windows of so many samples, no two alike: a hum of some pitch that swells, and some noise."""
    random = np.random.default_rng(seed)
    made = []
    for length in lengths:
        seconds = np.arange(length) / 16_000
        pitch, swell, noise = random.uniform(80, 400), random.uniform(1, 6), random.uniform(0, 0.02)
        hum = sum(np.sin(2 * np.pi * pitch * overtone * seconds) / overtone for overtone in range(1, 12))
        loud = 0.05 * (1 + np.sin(2 * np.pi * swell * seconds))
        made.append((hum * loud + random.normal(0, noise, length)).astype(np.float32))
    return made


class RandomModel:
    """The benchmark's subject that writes such a directory, in a process of its own: it takes gigabytes."""

    def __init__(self, *, directory: str, config: str) -> None:
        partial = Path(f"{directory}.partial")
        write_random_model(partial, config)
        partial.rename(directory)  # whole, or not there
        self.facts: dict[str, Any] = {}

    def run(self, _: dict[str, Any]) -> dict[str, Any]:
        """Nothing more to do."""
        return {}


class _Noise:
    """Standard normal numbers, drawn once and handed out from random places on: 300 M would take ten seconds."""

    def __init__(self, seed: int, *, largest: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._pool = torch.empty(2 * largest + 1000).normal_(generator=self._generator)

    def take(self, shape: torch.Size) -> Tensor:
        """A tensor of this shape; no two are alike."""
        start = int(torch.randint(self._pool.numel() - shape.numel(), (1,), generator=self._generator))
        return self._pool[start : start + shape.numel()].view(shape).clone()


def _random(name: str, noise: Tensor) -> Tensor:
    if name == "alibi_scale":
        return 0.7 + noise  # some below zero, which is taken for zero
    if "norm" in name:
        return noise * 0.2 + (1 if name.endswith("weight") else 0)
    if noise.ndim == 1:
        return noise * 0.1
    return noise / math.sqrt(noise[0].numel())


@torch.inference_mode()
def _steepen_head(model: Emotion2Vec, state: dict[str, Tensor]) -> None:
    """Makes the head look at what differs between windows, or all would get the same label."""
    samples = torch.from_numpy(np.stack(windows([16_000] * 3, seed=1)))
    logits = model(samples, [16_000] * 3) - state["head.bias"]  # (3, labels)
    steepness = 2 / logits.std(dim=0)  # (labels,)
    state["head.weight"] *= steepness.unsqueeze(1)
    state["head.bias"] = -logits.mean(dim=0) * steepness
