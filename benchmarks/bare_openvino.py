"""The peer: the same model in OpenVINO, windows in, logits out, and nothing else around it.

The graph is traced here and not taken from our own engine, so that the peer is what anybody would run who converts
the model with OpenVINO's own converter: batch 1, windows of any length, all cores, the latency hint.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import openvino
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from benchmarks.subject import read_windows
from warmline.emotion.architecture import Emotion2Vec
from warmline.emotion.loading import open_model
from warmline.emotion.torch_engine import build_model

LARGEST_DIFFERENCE = 0.1  # of a probability, where bf16 gives some 0.01: a peer that does the same work


class _WholeBias:
    """ALiBi for one window, in the form that `Attention` asks for; without numbers that depend on its length."""

    def __init__(self, slopes: Tensor | None, positions: Tensor, extra_tokens: int) -> None:
        self._bias: Tensor | None = None
        if slopes is not None:
            timed = positions >= extra_tokens  # (N,)
            distance = (positions[:, None] - positions).abs() * (timed[:, None] & timed)  # (N, N)
            self._bias = (-slopes[:, None, None] * distance).unsqueeze(0)  # (1, H, N, N)

    def blocks(self) -> list[tuple[slice, Tensor | None]]:
        """All queries at once."""
        return [(slice(None), self._bias)]


class _LoneWindow(nn.Module):
    """`Emotion2Vec` for one window of any length, in operations that a trace can follow."""

    def __init__(self, model: Emotion2Vec) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor) -> Tensor:
        """samples (1, S) to logits (1, labels)."""
        model, extra = self.model, self.model.architecture.extra_tokens
        if model.architecture.normalize:
            centred = samples - samples.mean(dim=1, keepdim=True)
            samples = centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + 1e-5)
        x = model.frontend.projection(model.frontend.norm(model.frontend._convolve(samples)))  # (1, T, C)
        x = x + model.positions(x, None)
        if model.extra_tokens is not None:
            x = torch.cat([model.extra_tokens, x], dim=1)  # (1, N, C)
        x = model.norm(x)
        bias = _WholeBias(model._slopes(), torch.arange(x.size(1), dtype=torch.float32), extra)
        for block in model.blocks:
            x = block(x, bias)
        return model.head(x[:, extra:].mean(dim=1))  # type: ignore[no-any-return]


class BareOpenvino:
    """Compiled once; runs its windows one after another."""

    def __init__(self, *, model: str, models_dir: str, threads: int, clips: str, precision: str = "bf16") -> None:
        started = time.perf_counter()
        opened = open_model(model, Path(models_dir))
        network = build_model(opened.configuration.architecture, opened.convert("fp32"), "cpu")
        self._clips = read_windows(clips)
        example = torch.from_numpy(self._clips[0])[None]  # (1, S)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", category=Warning)  # a trace warns of every size that it sees
            graph = openvino.convert_model(_LoneWindow(network).eval(), example_input=example, input=[1, -1])
            self._expected = F.softmax(network(example, [example.size(1)]), dim=1)
        self._compiled = openvino.Core().compile_model(
            graph,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": precision,
            },
        )
        # What was asked for is not what runs where the CPU does not multiply it: the compiled model knows.
        ran = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        difference = self._difference()
        if difference > LARGEST_DIFFERENCE:
            raise ValueError(f"the traced model is not the same: a probability differs by {difference:.2g}")
        self.facts: dict[str, Any] = {"load": time.perf_counter() - started, "precision": ran}

    def run(self, _: dict[str, Any]) -> dict[str, Any]:
        """Scores the windows."""
        for clip in self._clips:
            self._compiled(clip[None])
        return {}

    def _difference(self) -> float:
        """Largest difference of a probability from torch's on the first window: it computes the same thing."""
        logits = torch.from_numpy(self._compiled(self._clips[0][None])[0])
        return float((F.softmax(logits, dim=1) - self._expected).abs().max())
