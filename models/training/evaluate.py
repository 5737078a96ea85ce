"""How good a model is on speakers that it never heard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor


def recalls(predicted: Tensor, labels: Tensor) -> dict[int, float]:
    """For each label that occurs, the share of its clips that were recognised."""
    return {
        label: float((predicted[labels == label] == label).float().mean()) for label in labels.unique().tolist()
    }


def unweighted_average_recall(predicted: Tensor, labels: Tensor) -> float:
    """The mean of the recalls: guessing gives 1 / labels, however often each occurs."""
    each = recalls(predicted, labels)
    return sum(each.values()) / len(each)


def confusion(predicted: Tensor, labels: Tensor, known: Sequence[int]) -> list[list[int]]:
    """Clips counted by label (rows) and prediction (columns, those in `known` and last all others)."""
    counts = [[int(((labels == row) & (predicted == column)).sum()) for column in known] for row in known]
    return [[*line, int((labels == row).sum()) - sum(line)] for row, line in zip(known, counts, strict=True)]


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """What to divide the logits by, so that the probabilities of unheard speakers' labels are likeliest.

    Temperature scaling (Guo et al., 2017), by trying values from 0.25 to 4.
    """
    candidates = torch.logspace(-2, 2, 81, base=2)
    losses = torch.stack([F.cross_entropy(logits / candidate, labels) for candidate in candidates])
    return float(candidates[losses.argmin()])


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over bins of confidence, weighted by their clips."""
    confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
    right = (predicted == labels).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    error = torch.tensor(0.0)
    for each in which.unique():
        inside = which == each
        error += inside.float().mean() * (confidence[inside].mean() - right[inside].mean()).abs()
    return float(error)
