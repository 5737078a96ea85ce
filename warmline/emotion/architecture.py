"""emotion2vec's inference in plain torch: a window of samples in, one logit for each emotion out.

Read it from the bottom up: `Emotion2Vec.forward` is the whole model in ten lines.

The model is data2vec 2.0's audio encoder with a linear head (emotion2vec: https://arxiv.org/abs/2312.15185,
data2vec 2.0: https://arxiv.org/abs/2212.07525, ALiBi: https://arxiv.org/abs/2108.12409). FunASR's
implementation is the yardstick: the same weights give the same scores, for a lone window and in any batch.

Sizes in the comments: B windows, S samples, T frames (50 a second), N = extra tokens + T positions,
C = embed_dim, H heads, D = C / H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from warmline.emotion.attention_bias import CUDA_ROW_ELEMENTS, AttentionBias, alibi_slopes
from warmline.emotion.framing import convolve_frames, normalise, silence_padding, zero_padding

# The largest attention bias that is made at once, in elements (64 MiB in fp32). A 5 s window of the large
# model needs 1.1 M, one of 20 s all of it; a longer window's attention is computed in blocks.
ATTENTION_BLOCK_ELEMENTS = 2**24

# Frames whose convolutions are computed at once (10 s). The first layer makes 512 channels at 3,200 Hz:
# 6.5 MB for each second of audio, which a whole two-minute window should not hold at once.
FRONTEND_BLOCK_FRAMES = 500

# Positions whose feed-forward layer is computed at once (40 s). It is four times as wide as the model, and that
# twice: for the large one 1.6 MB for each second of audio.
MLP_BLOCK_POSITIONS = 2048

# What FunASR takes torch's default for, whatever the configuration's norm_eps says.
DEFAULT_EPS = 1e-5


@dataclass(frozen=True)
class ConvLayer:
    """One convolution over the samples, without padding."""

    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Every number that shapes the model."""

    embed_dim: int
    prenet_depth: int  # blocks that FunASR calls the context encoder
    depth: int  # blocks after those
    num_heads: int
    labels: int  # rows of the head
    conv_layers: tuple[ConvLayer, ...]
    mlp_ratio: float = 4.0
    conv_pos_width: int = 95  # frames that all positional convolutions see together
    conv_pos_groups: int = 16
    conv_pos_depth: int = 5
    extra_tokens: int = 10  # learned positions in front of the frames, not part of the mean
    alibi_heads: int = 0  # the first so many heads get a bias; 0: no ALiBi at all
    alibi_scale_per_head: bool = True
    norm_eps: float = 1e-5
    normalize: bool = True  # each window to zero mean and unit variance
    dropout: float = 0.0  # for training: nothing in eval
    layerdrop: float = 0.0  # for training: the share of blocks left out of a step

    @property
    def stride_samples(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(layer.stride for layer in self.conv_layers)

    @property
    def min_samples(self) -> int:
        """Samples that one frame sees; a shorter window gives none."""
        needed = 1
        for layer in reversed(self.conv_layers):
            needed = (needed - 1) * layer.stride + layer.kernel
        return needed

    @property
    def conv_pos_kernel(self) -> int:
        """Width of each positional convolution, in frames."""
        return max(3, self.conv_pos_width // self.conv_pos_depth)

    def frames(self, samples: int) -> int:
        """Frames that a window of so many samples gives; 0 or less when it is too short."""
        return (samples - self.min_samples) // self.stride_samples + 1

    def flop_per_window(self, samples: int) -> float:
        """Floating-point operations that a window of so many samples takes: 0 for one that is too short.

        Two for each multiplication of the convolutions and of the matrix products, as in Kaplan et al.,
        https://arxiv.org/abs/2001.08361, section 2.1, with the attention's two products of N x N x C counted too.
        Norms, GELU and softmax are left out: together they are under a hundredth.
        """
        frames = self.frames(samples)
        if frames <= 0:
            return 0.0
        multiplications, channels, length = 0.0, 1, samples
        for layer in self.conv_layers:
            length = (length - layer.kernel) // layer.stride + 1
            multiplications += length * channels * layer.channels * layer.kernel
            channels = layer.channels
        width, positions = self.embed_dim, frames + self.extra_tokens
        multiplications += frames * channels * width  # the frontend's projection
        group = width // self.conv_pos_groups
        multiplications += self.conv_pos_depth * frames * width * group * self.conv_pos_kernel
        matrices = 4 * width * width + 2 * width * int(width * self.mlp_ratio)  # qkv, out; the MLP's two
        block = positions * matrices + 2 * positions * positions * width
        return 2.0 * (multiplications + (self.prenet_depth + self.depth) * block)

    def activation_bytes_per_sample(self, element_bytes: int) -> float:
        """Memory that a window takes while it is computed, in bytes a sample.

        That of the first layer, which is the largest: what one step reads and the next writes are there at once,
        and half as much again is for what the layers after it leave in an allocator's hands.
        """
        first = self.conv_layers[0]
        return 3 * element_bytes * first.channels / first.stride


class Frontend(nn.Module):
    """Samples to frames: convolutions without padding, each followed by a norm over channels and GELU."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        channels = 1
        for layer in architecture.conv_layers:
            conv = nn.Conv1d(channels, layer.channels, layer.kernel, stride=layer.stride, bias=False)
            self.convs.append(conv)
            self.norms.append(nn.LayerNorm(layer.channels, eps=DEFAULT_EPS))
            channels = layer.channels
        self.norm = nn.LayerNorm(channels, eps=DEFAULT_EPS)
        self.projection = nn.Linear(channels, architecture.embed_dim)

    def forward(self, samples: Tensor) -> Tensor:
        """samples (B, S) to frames (B, T, C), in blocks: a frame sees only its own samples."""
        stride, field = self.architecture.stride_samples, self.architecture.min_samples
        frames = self.architecture.frames(samples.size(1))
        blocks = []
        for start in range(0, frames, FRONTEND_BLOCK_FRAMES):
            last = min(start + FRONTEND_BLOCK_FRAMES, frames) - 1
            blocks.append(self._convolve(samples[:, start * stride : last * stride + field]))
        x = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)  # (B, T, channels)
        return self.projection(self.norm(x))  # type: ignore[no-any-return]  # (B, T, C)

    def _convolve(self, samples: Tensor) -> Tensor:
        # A tracer's compiler lays a convolution out as it likes, and training has no use for views of rows. On
        # a CPU, bf16's sum of two products would be rounded once more than FunASR's.
        rounded = samples.dtype != torch.float32 and not samples.is_cuda
        if rounded or torch.is_grad_enabled() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return self._convolve_by_channels(samples)
        x = samples.unsqueeze(2)  # (B, S, 1)
        for conv, norm, layer in zip(self.convs, self.norms, self.architecture.conv_layers, strict=True):
            weight: Tensor = conv.weight  # type: ignore[assignment]
            x = F.gelu(norm(convolve_frames(x, weight, layer.stride)))  # (B, T', channels)
        return x

    def _convolve_by_channels(self, samples: Tensor) -> Tensor:
        x = samples.unsqueeze(1)  # (B, 1, S)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)  # (B, channels, T')
            x = norm(x.transpose(1, 2)).transpose(1, 2)
            x = F.gelu(x)
        return x.transpose(1, 2)  # (B, T, channels)


class Positions(nn.Module):
    """What a frame's neighbours say of its place: grouped convolutions over frames."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, kernel = architecture.embed_dim, architecture.conv_pos_kernel
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=architecture.conv_pos_groups)
            for _ in range(architecture.conv_pos_depth)
        )

    def forward(self, x: Tensor, real: Tensor | None) -> Tensor:
        """x (B, T, C) to (B, T, C)."""
        frames = x.size(1)
        for conv in self.convs:
            # A lone window is surrounded by the convolution's own zeros: padded frames must look the same.
            x = zero_padding(x, real)
            x = conv(x.transpose(1, 2)).transpose(1, 2)[:, :frames]  # an even kernel gives one frame too many
            x = F.gelu(F.layer_norm(x, x.shape[-1:], eps=DEFAULT_EPS))
        return x


class Attention(nn.Module):
    """Self-attention with a bias on its logits."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.heads = architecture.num_heads
        self.dropout = architecture.dropout
        self.qkv = nn.Linear(architecture.embed_dim, 3 * architecture.embed_dim)
        self.out = nn.Linear(architecture.embed_dim, architecture.embed_dim)

    def forward(self, x: Tensor, bias: AttentionBias) -> Tensor:
        """x (B, N, C) to (B, N, C)."""
        rows, positions, width = x.shape
        qkv = self.qkv(x).view(rows, positions, 3, self.heads, width // self.heads)  # (B, N, 3, H, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, N, D)
        dropout = self.dropout if self.training else 0.0
        if bias.in_one_piece:
            ((_, _, mask),) = bias.blocks()
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)  # (B, H, N, D)
        else:
            x = torch.empty_like(q)
            for heads, queries, mask in bias.blocks():
                x[:, heads, queries] = F.scaled_dot_product_attention(
                    q[:, heads, queries], k[:, heads], v[:, heads], attn_mask=mask, dropout_p=dropout
                )
        return self.out(x.transpose(1, 2).reshape(rows, positions, width))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A transformer block that normalises after each of its two halves."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, hidden = architecture.embed_dim, int(architecture.embed_dim * architecture.mlp_ratio)
        self.attention = Attention(architecture)
        self.attention_norm = nn.LayerNorm(width, eps=architecture.norm_eps)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)
        self.mlp_norm = nn.LayerNorm(width, eps=architecture.norm_eps)
        self.dropout = nn.Dropout(architecture.dropout)

    def forward(self, x: Tensor, bias: AttentionBias) -> Tensor:
        """x (B, N, C) to (B, N, C)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, bias)))
        return self.mlp_norm(x + self.dropout(self._mlp(x)))  # type: ignore[no-any-return]

    def _mlp(self, x: Tensor) -> Tensor:
        parts = torch.split(x, MLP_BLOCK_POSITIONS, dim=1)  # one, of a window as they mostly are
        made = [self.mlp_out(F.gelu(self.mlp_in(part))) for part in parts]
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)


class Emotion2Vec(nn.Module):
    """The whole model. Built from scratch it has random weights, ready for training."""

    def __init__(
        self, architecture: Architecture, *, attention_block_elements: int = ATTENTION_BLOCK_ELEMENTS
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.attention_block_elements = attention_block_elements
        width, alibi_heads = architecture.embed_dim, architecture.alibi_heads
        self.frontend = Frontend(architecture)
        self.positions = Positions(architecture)
        self.extra_tokens = None
        if architecture.extra_tokens:
            # Not randn or normal_: on the meta device they import torch's compiler, 2 s and 100 MB in each child.
            extra = nn.init.trunc_normal_(torch.empty(1, architecture.extra_tokens, width), std=0.02)
            self.extra_tokens = nn.Parameter(extra)
        # FunASR's shape for one scale a head: (layers or 1, batch, heads, query, key).
        scale = torch.ones(1, 1, alibi_heads if architecture.alibi_scale_per_head else 1, 1, 1)
        self.alibi_scale = nn.Parameter(scale) if alibi_heads else None
        self.norm = nn.LayerNorm(width, eps=architecture.norm_eps)
        self.dropout = nn.Dropout(architecture.dropout)
        self.blocks = nn.ModuleList(
            Block(architecture) for _ in range(architecture.prenet_depth + architecture.depth)
        )
        self.head = nn.Linear(width, architecture.labels)

    def forward(self, samples: Tensor, lengths: Sequence[int]) -> Tensor:
        """Logits (B, labels) of windows, each as if it were alone.

        samples: (B, S) float32, mono, 16 kHz; row b's first lengths[b] samples are the window, the rest is
        padding of any content. None of the lengths is below `architecture.min_samples`.
        """
        return self.logits(*_cut(samples, lengths))

    def logits(self, samples: Tensor, own: Tensor | None) -> Tensor:
        """As `forward`, with the lengths (B,) on the samples' device, None where all rows are full.

        Nothing here waits for the device or brings anything to it, so that a CUDA graph can hold all of it.
        """
        return self.classify(self.mean_frames(samples, own))  # (B, labels)

    def mean_frames(self, samples: Tensor, own: Tensor | None) -> Tensor:
        """As `logits`, without the head: each window's frames averaged, which is its embedding, (B, C) float32."""
        x, real = self._frames(samples, own)  # (B, T, C)
        x = zero_padding(x.float(), real)
        counts = x.size(1) if real is None else real.sum(dim=1, keepdim=True)  # (B, 1)
        return x.sum(dim=1) / counts  # (B, C)

    def classify(self, mean: Tensor) -> Tensor:
        """Logits (B, labels) of what `mean_frames` gives."""
        # The head is tiny and decides: in fp32 whatever the blocks ran in.
        return F.linear(mean, self.head.weight.float(), self.head.bias.float())  # (B, labels)

    def encode(self, samples: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Frames (B, T, C) after the last block, and which are real (B, T); None says all are."""
        return self._frames(*_cut(samples, lengths))

    def _frames(self, samples: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.architecture.normalize:
            samples = normalise(samples, own, eps=DEFAULT_EPS)
        else:
            samples = silence_padding(samples, own)
        x = self.frontend(samples.to(self.frontend.projection.weight.dtype))  # (B, T, C)
        real = None if own is None else self._real_frames(own, x.size(1))
        x = x + self.positions(x, real)
        extra = self.architecture.extra_tokens
        if self.extra_tokens is not None:
            x = torch.cat([self.extra_tokens.expand(x.size(0), -1, -1), x], dim=1)  # (B, N, C)
        x = self.dropout(self.norm(x))
        bias = AttentionBias(
            self._slopes(),
            None if real is None else F.pad(real, (extra, 0), value=True),  # (B, N)
            positions=x.size(1),
            extra_tokens=extra,
            block_elements=self.attention_block_elements,
            dtype=x.dtype,
            row_elements=CUDA_ROW_ELEMENTS if x.is_cuda else 1,
        )
        for block in self.blocks:
            if self.training and torch.rand(()) < self.architecture.layerdrop:
                continue
            x = block(x, bias)  # (B, N, C)
        return x[:, extra:], real

    def _real_frames(self, own: Tensor, frames: int) -> Tensor:
        counts = (own - self.architecture.min_samples) // self.architecture.stride_samples + 1  # (B,)
        return torch.arange(frames, device=own.device) < counts.unsqueeze(1)  # (B, T)

    def _slopes(self) -> Tensor | None:
        """ALiBi's slope for each head (H,), with its learned scale; heads without a bias have slope 0."""
        if self.alibi_scale is None:
            return None
        heads = self.architecture.alibi_heads
        scale = self.alibi_scale.float().clamp_min(0).flatten()  # (alibi heads or 1,)
        # Filled on the device: a tensor made of a list would be brought there, which a CUDA graph cannot hold.
        slopes = torch.cat([scale.new_full((1,), slope) for slope in alibi_slopes(heads)])  # (alibi heads,)
        return F.pad(slopes * scale, (0, self.architecture.num_heads - heads))  # (H,)


def _cut(samples: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """The samples up to the longest window's end, and the lengths as `logits` takes them."""
    longest = max(lengths)
    all_full = min(lengths) == longest
    return samples[:, :longest], None if all_full else torch.tensor(lengths, device=samples.device)
