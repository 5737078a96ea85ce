"""The model as OpenVINO reads it: traced once from torch, kept beside the converted weights.

    MODELS_DIR/converted/HASH-KEY/     see converted.py, whose lock and ways of writing are used
        openvino-fp32-1/               model.xml, model.bin; bf16 is made of it while it is compiled
        openvino-int8-1/               the same, after `warmline model quantize`

What is traced takes a window whose samples are normalised already and gives the mean over its frames: the
normalisation sees the whole window's scale and the head decides, so both stay in fp32, outside, whatever the
arithmetic inside.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import structlog
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from warmline.emotion.architecture import DEFAULT_EPS, Architecture, Attention, Emotion2Vec
from warmline.emotion.converted import Weights, folder_written_whole, locked, remove_abandoned
from warmline.emotion.fidelity import quantize_command
from warmline.emotion.openvino_runtime import import_openvino, last_line
from warmline.emotion.printing import printed_to_log
from warmline.emotion.torch_engine import build_model
from warmline.jobs.errors import ModelUnusable

FORMAT = 1  # part of the folders' names; raised when what is traced changes
MODEL_FILE = "model.xml"

# Any length will do: nothing in the traced graph depends on it.
EXAMPLE_SAMPLES = 16_000

log = structlog.get_logger()


class TraceableEncoder(nn.Module):
    """`Emotion2Vec` up to the mean over frames, for one window without padding, in terms that can be traced.

    The network decides with Python about blocks of queries and of frames, which a trace would freeze at the
    example's length; here everything is one piece, and every size is taken from the tensors themselves.
    """

    def __init__(self, network: Emotion2Vec) -> None:
        super().__init__()
        self.network = network
        self.slopes = network._slopes()

    def forward(self, samples: Tensor) -> Tensor:
        """samples (1, S), normalised, to the mean of the frames (1, C)."""
        network, extra = self.network, self.network.architecture.extra_tokens
        x = samples.unsqueeze(1)  # (1, 1, S)
        for conv, norm in zip(network.frontend.convs, network.frontend.norms, strict=True):
            x = F.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)  # (1, channels, T')
        x = network.frontend.projection(network.frontend.norm(x.transpose(1, 2)))  # (1, T, C)
        x = x + self._positions(x)
        if network.extra_tokens is not None:
            x = torch.cat([network.extra_tokens, x], dim=1)  # (1, N, C)
        x = network.norm(x)
        bias = self._bias(x)
        for block in network.blocks:
            x = block.attention_norm(x + _attend(block.attention, x, bias))  # type: ignore[operator, arg-type]
            x = block.mlp_norm(x + block.mlp_out(F.gelu(block.mlp_in(x))))  # type: ignore[operator]
        return x[:, extra:].mean(dim=1)  # type: ignore[no-any-return]

    def _positions(self, x: Tensor) -> Tensor:
        """x (1, T, C) to (1, T, C)."""
        shape = self.network.architecture
        for conv in self.network.positions.convs:
            x = conv(x.transpose(1, 2)).transpose(1, 2)
            if shape.conv_pos_kernel % 2 == 0:  # gives one frame too many
                x = x[:, :-1]
            x = F.gelu(F.layer_norm(x, (shape.embed_dim,), eps=DEFAULT_EPS))
        return x

    def _bias(self, x: Tensor) -> Tensor | None:
        """ALiBi's bias (1, H, N, N) for x (1, N, C); see `AttentionBias`."""
        if self.slopes is None:
            return None
        # In whole numbers, which bf16 leaves as they are: it would round a position beyond 256.
        index = torch.arange(x.size(1))  # (N,)
        timed = (index >= self.network.architecture.extra_tokens).long()  # (N,)
        distance = (index[:, None] - index).abs() * timed * timed[:, None]  # (N, N)
        return (-self.slopes[:, None, None] * distance.float()).unsqueeze(0)


def _attend(attention: Attention, x: Tensor, bias: Tensor | None) -> Tensor:
    """`Attention.forward` in one piece: x (1, N, C) to (1, N, C)."""
    heads, width = attention.heads, attention.out.in_features
    # Sliced, not unpacked: iterating over a tensor is what a trace warns of.
    parts = attention.qkv(x).reshape(1, -1, 3, heads, width // heads)  # (1, N, 3, H, D)
    q, k, v = (parts[:, :, part].transpose(1, 2) for part in range(3))  # each (1, H, N, D)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return attention.out(mixed.transpose(1, 2).reshape(1, -1, width))  # type: ignore[no-any-return]


def trace(network: Emotion2Vec) -> Any:
    """The network as an `ov.Model` of any length: samples (1, S) to the mean of the frames (1, C)."""
    openvino = import_openvino()
    example = torch.linspace(-1, 1, max(EXAMPLE_SAMPLES, network.architecture.min_samples)).unsqueeze(0)
    with warnings.catch_warnings(), printed_to_log("openvino_printed"), torch.no_grad():
        # What it advises instead, torch.export, loads torch's compiler: seconds and 100 MB.
        warnings.filterwarnings("ignore", message="`torch.jit.trace", category=DeprecationWarning)
        encoder = TraceableEncoder(network).eval()
        traced = torch.jit.trace(encoder, (example,), check_trace=False)  # type: ignore[no-untyped-call]
        return openvino.convert_model(traced, example_input=example, input=[1, -1])


def find_traced(weights: Weights, architecture: Architecture, *, anew: bool = False) -> Any:
    """The traced model's file, which is made first unless somebody has done so; `anew`: even then.

    An `ov.Model` in memory where the file cannot be written.
    """
    if weights.file is None:  # as a warning has said
        return trace(build_model(architecture, weights, "cpu"))
    folder = weights.file.parent / f"openvino-fp32-{FORMAT}"
    try:
        if anew or not (folder / MODEL_FILE).is_file():
            _write_traced(folder, weights, architecture, anew=anew)
    except OSError as error:
        log.warning("model_not_converted", directory=str(folder.parent), reason=error.strerror or str(error))
        return trace(build_model(architecture, weights, "cpu"))
    return folder / MODEL_FILE


def _write_traced(folder: Path, weights: Weights, architecture: Architecture, *, anew: bool) -> None:
    with locked(folder.parent / "lock"):
        if (folder / MODEL_FILE).is_file() and not anew:
            return
        started = time.perf_counter()
        write_model(folder, trace(build_model(architecture, weights, "cpu")))
        log.info("openvino_model_traced", folder=str(folder), seconds=round(time.perf_counter() - started, 2))


def write_model(folder: Path, model: Any) -> None:
    """Puts a model where `folder` is; for the holder of its parent's lock. Raises OSError where that fails."""
    openvino = import_openvino()
    remove_abandoned(folder.parent)
    with folder_written_whole(folder) as partial:
        try:
            openvino.save_model(model, partial / MODEL_FILE, compress_to_fp16=False)
            openvino.Core().read_model(partial / MODEL_FILE)  # a full disk is not always said
        except RuntimeError as error:
            raise OSError(f"{folder} cannot be written: {last_line(error)}") from None


def int8_folder(converted: Path) -> Path:
    """Where the quantized model is, or would be, in a model's converted folder."""
    return converted / f"openvino-int8-{FORMAT}"


def find_int8(converted: Path | None, directory: Path) -> Path:
    """The quantized model's file. Raises ModelUnusable where nobody has made it."""
    file = None if converted is None else int8_folder(converted) / MODEL_FILE
    if file is None or not file.is_file():
        raise ModelUnusable(
            f"There is no int8 of {directory.name} yet. Make it with {quantize_command(directory)}."
        )
    return file
