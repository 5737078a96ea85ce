"""From samples to frames, and what is done to either where a row of a batch is shorter than its neighbours.

Sizes as in `architecture.py`: B windows, S samples, T frames, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor


def silence_padding(samples: Tensor, own: Tensor | None) -> Tensor:
    """samples (B, S) with zeros behind each row's own[b] samples, whatever was there; None: all are its own."""
    return samples if own is None else samples.masked_fill(_padding(samples, own), 0)


def normalise(samples: Tensor, own: Tensor | None, *, eps: float) -> Tensor:
    """Rows of (B, S) to zero mean and unit variance, each over its own[b] samples, with zeros behind them."""
    if own is None:
        return F.layer_norm(samples, samples.shape[1:], eps=eps)
    counts = own.unsqueeze(1)  # (B, 1)
    padding = _padding(samples, own)
    mean = samples.masked_fill(padding, 0).sum(dim=1, keepdim=True) / counts
    centred = (samples - mean).masked_fill(padding, 0)
    variance = centred.square().sum(dim=1, keepdim=True) / counts
    return centred * (variance + eps).rsqrt()


def _padding(samples: Tensor, own: Tensor) -> Tensor:
    return torch.arange(samples.size(1), device=samples.device) >= own.unsqueeze(1)  # (B, S)


def zero_padding(x: Tensor, real: Tensor | None) -> Tensor:
    """x (B, T, C) with its padded frames set to zero; `real` (B, T) is true for real frames, None for all."""
    return x if real is None else x * real.unsqueeze(-1).to(x.dtype)


def convolve_frames(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A convolution without padding as matrix products: x (B, T, C), weight (K, C, width) to (B, T', K).

    Frames stay rows from layer to layer, so that the norms over channels need no transposed copies, and `stride`
    frames side by side are one row of a product, without a copy either. A kernel wider than the stride takes a
    second product for the rest, which is added to the first.
    """
    rows, frames, channels = x.shape
    kernels, _, width = weight.shape
    made = (frames - width) // stride + 1
    if channels == 1:  # samples: a row of so few numbers is copied
        return F.linear(x.squeeze(2).unfold(1, width, stride), weight.squeeze(1))
    taps = weight.permute(2, 1, 0).reshape(width * channels, kernels)  # (width * C, K)
    x = x.contiguous()

    def product_operands(start: int) -> tuple[Tensor, Tensor]:
        """Taps from `start` on: rows begin `stride` frames apart and are no wider, so they are read in place."""
        seen = (min(start + stride, width) - start) * channels
        place = x.storage_offset() + start * channels
        part = x.as_strided((rows, made, seen), (frames * channels, stride * channels, 1), place)
        return part, taps[start * channels : start * channels + seen].expand(rows, -1, -1)

    total = torch.bmm(*product_operands(0))  # (B, T', K)
    for start in range(stride, width, stride):
        total.baddbmm_(*product_operands(start))
    return total
