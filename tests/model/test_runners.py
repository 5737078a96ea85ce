"""Graphs of fixed shapes: one a shape, fed through its own tensors, and none where a capture fails.

What a `torch.cuda.CUDAGraph` does is done here by a forward pass into the same tensor, so that all but the card's
own part runs on a CPU. The card's part is in test_cuda.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import windows
from warmline.emotion.architecture import Emotion2Vec
from warmline.emotion.batches import Batch, make_batch
from warmline.emotion.packing import Packer
from warmline.emotion.runners import MAX_GRAPHS, Forward, GraphCache, HostRunner, Replay
from warmline.emotion.torch_engine import GPU_WINDOWS, WINDOW_SAMPLES, TorchEngine, gpu_batch_samples

LENGTHS = (16_000, 15_999, 13_500, 15_000, 9_000, 8_000)


class Recomputed:
    """A captured forward pass that is computed anew: it reads and writes what a graph reads and writes."""

    def __init__(self, forward: Forward, samples: Tensor, own: Tensor | None) -> None:
        self.samples = samples.clone()
        self.own = None if own is None else own.clone()
        self._forward = forward
        self.means = forward(self.samples, self.own)

    def replay(self) -> None:
        self.means.copy_(self._forward(self.samples, self.own))


class Capturing:
    """Makes `Recomputed`s and remembers for which shapes."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, forward: Forward, samples: Tensor, own: Tensor | None) -> Replay:
        self.shapes.append((*samples.shape, own is None))
        return Recomputed(forward, samples, own)


@pytest.fixture(scope="module")
def model(tiny: Path, load: LoadEngine) -> Emotion2Vec:
    engine = load(tiny)
    assert isinstance(engine, TorchEngine)
    return engine._model


def batches(audio: list[np.ndarray]) -> list[Batch]:
    packer = Packer(budget_samples=64_000, fixed_shapes=True)
    return [
        make_batch(group, audio, device=torch.device("cpu"))
        for group in packer.pack([window.size for window in audio])
    ]


@torch.inference_mode()
def test_a_shape_is_captured_once_and_its_replays_score_what_they_are_given(model: Emotion2Vec) -> None:
    # Given batches of a few shapes, with padding and without, in two rounds of different audio
    capturing = Capturing()
    cache, eager = GraphCache(capturing), HostRunner(model)
    for seed in (0, 1, 2):
        # The first is longest, so that the shapes are the same, and the others have other lengths each time.
        lengths = [LENGTHS[0], *(length - 300 * seed for length in LENGTHS[1:])]
        for batch in batches(windows(lengths, seed=seed)):
            own = None if batch.all_full else batch.lengths
            # When they run by graph, then they have the scores that they have without
            logits = cache.run(model.mean_frames, batch.samples, own)[: len(batch.indices)].clone()
            torch.testing.assert_close(logits, eager.run(batch).values, rtol=1e-5, atol=1e-4)
    assert len(capturing.shapes) == len(set(capturing.shapes))
    assert set(capturing.shapes) >= {(4, 16_000, False), (1, 16_000, False)}


@torch.inference_mode()
def test_a_shape_with_padding_has_another_graph_than_one_without(model: Emotion2Vec) -> None:
    capturing = Capturing()
    cache = GraphCache(capturing)
    for lengths in ((16_000, 16_000), (16_000, 12_500)):
        (batch,) = batches(windows(lengths))
        cache.run(model.mean_frames, batch.samples, None if batch.all_full else batch.lengths)
    assert capturing.shapes == [(2, 16_000, True), (2, 16_000, False)]


@torch.inference_mode()
def test_a_capture_that_fails_is_said_once_and_the_batch_is_scored_without(
    model: Emotion2Vec, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(forward: Forward, samples: Tensor, own: Tensor | None) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing")

    cache = GraphCache(refuse)
    (batch,) = batches(windows((16_000, 12_500)))
    for _ in range(3):
        logits = cache.run(model.mean_frames, batch.samples, batch.lengths)
        torch.testing.assert_close(logits, model.mean_frames(batch.samples, batch.lengths))
    assert capsys.readouterr().out.count("graph_capture_failed") == 1


def test_no_more_graphs_are_kept_than_there_is_room_for() -> None:
    capturing = Capturing()
    cache = GraphCache(capturing)
    for samples in range(1, MAX_GRAPHS + 20):
        given = torch.ones(1, samples)
        assert cache.run(lambda row, _: row.sum(dim=1), given, None).item() == samples
    assert len(capturing.shapes) == MAX_GRAPHS


def test_a_gpus_batch_follows_its_free_memory(model: Emotion2Vec) -> None:
    architecture = model.architecture
    window = architecture.activation_bytes_per_sample(2) * WINDOW_SAMPLES

    def fit(gib: float, element_bytes: int = 2) -> int:
        free = int(gib * window)
        return gpu_batch_samples(architecture, element_bytes=element_bytes, free_bytes=free) // WINDOW_SAMPLES

    assert [fit(windows) for windows in (0, 1, 8, 13, 100, 10_000)] == [1, 1, 2, 2, 16, GPU_WINDOWS]
    assert fit(100, element_bytes=4) == 8
