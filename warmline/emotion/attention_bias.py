"""What is added to the attention's logits: how far apart two frames are, and which of them are padding.

ALiBi: https://arxiv.org/abs/2108.12409. Sizes as in `architecture.py`: B windows, H heads, N positions, Q of
them as queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

# CUDA's memory-efficient attention reads masks whose rows begin at multiples of so many elements. torch copies
# any other one at every call: torch 2.13, aten/src/ATen/native/transformers/attention.cpp, preprocess_mask.
CUDA_ROW_ELEMENTS = 16


def alibi_slopes(heads: int) -> list[float]:
    """How steeply each head's attention falls with distance: ALiBi's geometric series.

    For a power of two that is 2^(-8/heads), its square, its cube, and so on. For other counts the series of
    the next lower power of two comes first, then every other member of the next higher one's.
    """
    exponent = math.log2(heads)
    if exponent.is_integer():
        ratio = 2.0 ** -(8 / heads)
        return [ratio ** (head + 1) for head in range(heads)]
    lower = 2 ** math.floor(exponent)
    return alibi_slopes(lower) + alibi_slopes(2 * lower)[0::2][: heads - lower]


class AttentionBias:
    """ALiBi's distance penalty, and -inf for padded frames.

    Made for one forward pass and forgotten with it. Where all of it fits into one block it is made once and
    shared by all layers; else each layer makes it anew, block by block.
    """

    def __init__(
        self,
        slopes: Tensor | None,
        real: Tensor | None,
        *,
        positions: int,
        extra_tokens: int,
        block_elements: int,
        dtype: torch.dtype,
        row_elements: int = 1,
    ) -> None:
        self.slopes = slopes  # (H,)
        self.positions = positions
        self.extra_tokens = extra_tokens
        self.dtype = dtype  # of the attention, which torch wants its mask in
        self.row_length = -(-positions // row_elements) * row_elements  # rows begin at its multiples
        # (B, row_length) or None
        self.real = None if real is None else F.pad(real, (0, self.row_length - positions))
        heads = 1 if slopes is None else slopes.size(0)
        rows = 1 if real is None else real.size(0)
        self.in_one_piece = heads * rows * positions**2 <= block_elements or (slopes is None and real is None)
        self.block_queries = min(positions, max(1, block_elements // (rows * positions)))
        self._whole = self._make(slopes, slice(0, positions)) if self.in_one_piece else None

    def blocks(self) -> Iterator[tuple[slice, slice, Tensor | None]]:
        """Heads, queries and the bias for them: (B or 1, heads or 1, queries, N); None: nothing is to be added."""
        if self.in_one_piece:
            yield slice(None), slice(None), self._whole
            return
        for start in range(0, self.positions, self.block_queries):
            queries = slice(start, min(start + self.block_queries, self.positions))
            if self.slopes is None:  # the same for all heads
                yield slice(None), queries, self._make(None, queries)
                continue
            distance = self._distance(queries, self.slopes.device)
            for head in range(self.slopes.size(0)):
                heads = slice(head, head + 1)
                yield heads, queries, self._make(self.slopes[heads], queries, distance)

    def _distance(self, queries: slice, device: torch.device) -> Tensor:
        """How far the queries are from each position: (Q, row_length)."""
        # Extra tokens have no place in time: no distance to anything, in either direction.
        index = torch.arange(self.row_length, device=device, dtype=torch.float32)
        query = index[queries, None]  # (Q, 1)
        timed = (index >= self.extra_tokens) & (query >= self.extra_tokens)  # (Q, row_length)
        return (query - index).abs_().mul_(timed)

    def _make(self, slopes: Tensor | None, queries: slice, distance: Tensor | None = None) -> Tensor | None:
        bias: Tensor | None = None
        if slopes is not None:
            distance = self._distance(queries, slopes.device) if distance is None else distance
            bias = (-slopes[:, None, None] * distance).unsqueeze(0).to(self.dtype)  # (1, heads, Q, row_length)
        if self.real is not None:
            hidden = ~self.real[:, None, None, :]  # (B, 1, 1, row_length)
            if bias is None:
                shape = (1, 1, queries.stop - queries.start, 1)
                bias = torch.zeros(shape, device=hidden.device, dtype=self.dtype)
            bias = bias.masked_fill(hidden, -math.inf)  # (B, heads or 1, Q, row_length)
        return None if bias is None else bias[..., : self.positions]
