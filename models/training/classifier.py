"""From frames to emotions: the blocks and the head, trained on what the convolutions already hear."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from training.augment import CLEAN

from warmline.emotion.architecture import Architecture, Emotion2Vec


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every figure of the training, chosen by leave-speakers-out validation."""

    epochs: int = 60
    batch: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: float = 0.15  # share of the steps
    plain: float = 0.3  # share of the draws that are the clip itself
    balance: float = 0.5  # 0: labels as often as they are; 1: all equally often
    smoothing: float = 0.1  # of the targets, over the labels that the data has
    mixup: float = 0.3  # both parameters of the beta distribution that mixes pairs of clips' frames
    hidden_frames: int = 7  # at most so many successive frames are hidden from a step
    shortest_crop: float = 0.5  # share of a clip
    averaging: float = 0.99  # of the weights, over the steps


class _Heard(nn.Module):
    """Stands where the convolutions are: what it is given has been through them."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(1, 1)  # only asked for its precision

    def forward(self, frames: Tensor) -> Tensor:
        return frames


def without_frontend(architecture: Architecture) -> Emotion2Vec:
    """A fresh model that takes frames (B, T, C) for samples; `logits` runs it."""
    model = Emotion2Vec(replace(architecture, normalize=False))
    model.frontend = _Heard()
    return model


def joined(frontend: Emotion2Vec, classifier: Emotion2Vec) -> Emotion2Vec:
    """One model's convolutions and another's blocks and head."""
    state = {name: value for name, value in classifier.state_dict().items() if not name.startswith("frontend.")}
    state |= {f"frontend.{name}": value for name, value in frontend.frontend.state_dict().items()}
    model = Emotion2Vec(frontend.architecture)
    model.load_state_dict(state)
    return model.eval()


def logits(classifier: Emotion2Vec, frames: Tensor) -> Tensor:
    """frames (B, T, C) to logits (B, labels)."""
    encoded, _ = classifier.encode(frames, [frames.size(1)] * frames.size(0))
    return classifier.head(encoded.mean(dim=1))


def train_classifier(
    architecture: Architecture,
    heard: Tensor,
    labels: Tensor,
    clips: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> Emotion2Vec:
    """Trains on these clips' versions in `heard` (versions, clips, frames, C). Returns the averaged weights."""
    torch.manual_seed(seed)
    model = without_frontend(architecture).train()
    average = copy.deepcopy(model)
    batches = _Batches(heard, labels, clips, recipe, seed)
    steps = recipe.epochs * len(clips) // recipe.batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, steps, pct_start=recipe.warm_up
    )
    for step in progress(range(steps)):
        frames, wanted = batches.draw()
        loss = -(wanted * F.log_softmax(logits(model, frames), dim=-1)).sum(dim=-1).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _follow(average, model, min(recipe.averaging, (1 + step) / (10 + step)))
    return average.eval()


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)


class _Batches:
    """Random versions of random clips: cropped, mixed in pairs, partly hidden."""

    def __init__(self, heard: Tensor, labels: Tensor, clips: Tensor, recipe: Recipe, seed: int) -> None:
        self.heard, self.clips, self.recipe = heard, clips, recipe
        self.rng = np.random.default_rng(seed)
        counts = torch.bincount(labels[clips])
        rarity = counts[labels[clips]].float() ** -recipe.balance
        self.odds = (rarity / rarity.sum()).double().numpy()
        self.odds /= self.odds.sum()
        known = (torch.bincount(labels, minlength=9) > 0).float()
        self.targets = (1 - recipe.smoothing) * F.one_hot(labels, 9) + recipe.smoothing * known / known.sum()

    def draw(self) -> tuple[Tensor, Tensor]:
        """Frames (batch, T, C) and what the softmax should say of them (batch, labels)."""
        versions, _, longest, _ = self.heard.shape
        batch = self.recipe.batch
        chosen = self.clips[torch.from_numpy(self.rng.choice(len(self.clips), batch, p=self.odds))]
        length = int(self.rng.integers(int(self.recipe.shortest_crop * longest), longest + 1))
        start = int(self.rng.integers(longest - length + 1))
        plain = self.rng.random(batch) < self.recipe.plain
        version = torch.from_numpy(np.where(plain, CLEAN, self.rng.integers(versions, size=batch)))
        frames = self.heard[version, chosen, start : start + length].float()
        wanted = self.targets[chosen]
        if self.recipe.mixup:
            share = float(self.rng.beta(self.recipe.mixup, self.recipe.mixup))
            share = max(share, 1 - share)
            other = torch.from_numpy(self.rng.permutation(batch))
            frames = share * frames + (1 - share) * frames[other]
            wanted = share * wanted + (1 - share) * wanted[other]
        for row in frames:
            hidden = int(self.rng.integers(self.recipe.hidden_frames + 1))
            first = int(self.rng.integers(length - hidden + 1))
            row[first : first + hidden] = 0
        return frames, wanted
