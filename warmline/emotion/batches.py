"""Batches on the host: windows as rows of a tensor, in the memory that their device reads best."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from warmline.emotion.engine import Samples
from warmline.emotion.packing import Group


@dataclass(frozen=True)
class Batch:
    """Windows that run together."""

    indices: tuple[int, ...]  # their places among the windows that were given
    samples: Tensor  # (rows, samples), padded with zeros, on the host; rows without a window are zero
    lengths: Tensor  # (rows,) int64, samples of each; a row without a window is full
    all_full: bool  # no row has padding
    fixed: bool  # the shape is one of few

    def halves(self) -> tuple[Batch, Batch]:
        """The first and the second half of the windows, each as long as it is now, without empty rows."""
        middle = len(self.indices) // 2
        return self._part(0, middle), self._part(middle, len(self.indices))

    def without_empty_rows(self) -> Batch:
        """The same windows and nothing else."""
        return self._part(0, len(self.indices))

    def _part(self, start: int, stop: int) -> Batch:
        return replace(
            self,
            indices=self.indices[start:stop],
            samples=self.samples[start:stop],
            lengths=self.lengths[start:stop],
            fixed=False,
        )


def make_batch(group: Group, windows: Sequence[Samples], *, device: torch.device) -> Batch:
    """Copies a group's windows into one tensor on the host, pinned where `device` is a GPU.

    Pinned memory is kept by torch when a batch lets go of it, and handed out again for the next one of its
    size once the copies from it are done: nothing is allocated for a batch of a shape that has been before.
    """
    pinned = device.type == "cuda"
    # Each thread has a present GPU of its own, at first the first one, which pinning would open a context on.
    with torch.cuda.device(device) if pinned else contextlib.nullcontext():
        samples = torch.empty((group.rows, group.samples), pin_memory=pinned)
        lengths = torch.full((group.rows,), group.samples, dtype=torch.int64, pin_memory=pinned)
    rows, own = samples.numpy(), lengths.numpy()
    for row, index in enumerate(group.indices):
        size = windows[index].size
        rows[row, :size] = windows[index]
        rows[row, size:] = 0
        own[row] = size
    rows[len(group.indices) :] = 0
    return Batch(group.indices, samples, lengths, bool((own == group.samples).all()), group.fixed)
