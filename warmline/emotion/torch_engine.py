"""The engine: `Emotion2Vec` on the CPU or on CUDA, in fp32 or bf16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from torch import Tensor

from warmline.emotion.architecture import Architecture, Emotion2Vec
from warmline.emotion.converted import Weights
from warmline.emotion.engine import EngineInfo, Samples, Scores
from warmline.emotion.labels import Labels
from warmline.jobs.errors import ModelUnusable, OutOfMemory

# Samples, padding included, that a GPU gets at once: 32 windows of 5 s. A window takes some 2 kB a sample in
# the first convolution, so this is about 5 GB in fp32.
GPU_BATCH_SAMPLES = 32 * 5 * 16_000

log = structlog.get_logger()


@dataclass(frozen=True)
class Batch:
    """Windows that run together."""

    indices: tuple[int, ...]  # their places among the windows that were given
    samples: Tensor  # (windows, longest), padded with zeros, on the host
    lengths: tuple[int, ...]  # samples of each

    def halves(self) -> tuple[Batch, Batch]:
        """The first and the second half of the windows."""
        middle = len(self.indices) // 2
        return (
            Batch(self.indices[:middle], self.samples[:middle], self.lengths[:middle]),
            Batch(self.indices[middle:], self.samples[middle:], self.lengths[middle:]),
        )


@dataclass(frozen=True)
class Logits:
    """What the model made of a batch."""

    indices: tuple[int, ...]
    values: Tensor  # (windows, tokens), on the device


def build_model(architecture: Architecture, weights: Weights, device: str) -> Emotion2Vec:
    """The model around the given tensors, which on the CPU stay where they are: views of the mapped file."""
    with torch.device("meta"):  # no memory is taken for weights that are thrown away
        model = Emotion2Vec(architecture)
    try:
        model.load_state_dict(dict(weights.state), strict=True, assign=True)
    except RuntimeError as error:
        raise ModelUnusable(
            f"{weights.file} does not fit the model: {error}. Delete it and start again."
        ) from None
    return model.to(device).eval().requires_grad_(requires_grad=False)


class TorchEngine:
    """Scores windows with a model in this process; see `Engine`.

    `batch_samples` is the most samples that run at once, padding included; 0 runs each window alone. A CPU
    is fastest that way, because one window's activations stay in its caches.
    """

    def __init__(self, model: Emotion2Vec, labels: Labels, info: EngineInfo, *, batch_samples: int) -> None:
        self.info = info
        self.min_samples = model.architecture.min_samples
        self._model = model
        self._rows = torch.tensor(labels.rows)
        self._device = torch.device(info.device)
        self._batch_samples = batch_samples
        self.windows_at_once = max(1, batch_samples // (5 * 16_000))

    def prepare(self, windows: Sequence[Samples]) -> list[Batch]:
        """Batches of windows of similar length. Raises ValueError for a window that is too short."""
        for window in windows:
            if window.ndim != 1 or window.size < self.min_samples:
                raise ValueError(f"a window is one row of at least {self.min_samples} samples, not {window.shape}")
        return [self._batch(indices, windows) for indices in self._groups([window.size for window in windows])]

    def _groups(self, lengths: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Which windows run together: the longest first, so that a lack of memory shows at once."""
        group: tuple[int, ...] = ()
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            if group and (len(group) + 1) * lengths[group[0]] > self._batch_samples:
                yield group
                group = ()
            group = (*group, index)
        if group:
            yield group

    def _batch(self, indices: tuple[int, ...], windows: Sequence[Samples]) -> Batch:
        lengths = tuple(windows[index].size for index in indices)
        samples = torch.zeros(len(indices), max(lengths), pin_memory=self._device.type == "cuda")
        for row, index in enumerate(indices):
            samples[row, : lengths[row]] = torch.from_numpy(np.array(windows[index], dtype=np.float32))
        return Batch(indices, samples, lengths)

    @torch.inference_mode()
    def infer(self, prepared: Sequence[Batch]) -> list[Logits]:
        """Runs the model; on CUDA it returns before the device is done.

        Raises OutOfMemory where not even one window has room.
        """
        return [logits for batch in prepared for logits in self._run(batch)]

    def _run(self, batch: Batch) -> list[Logits]:
        try:
            samples = batch.samples.to(self._device, non_blocking=True)
            return [Logits(batch.indices, self._model(samples, batch.lengths))]
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
        # Outside of the handler: its traceback would keep the failed attempt's tensors alive.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch.indices) == 1:
            raise OutOfMemory(
                f"A window of {batch.lengths[0] / 16_000:.0f} s does not fit into {self.info.device}'s memory."
                " Use fewer children, or lower WARMLINE_AUDIO_UTTERANCE_MAX_SECONDS."
            )
        first, second = batch.halves()
        self._batch_samples = first.samples.numel()  # the next batches are made small enough at once
        log.warning("batch_halved", windows=len(batch.indices), batch_samples=self._batch_samples)
        return self._run(first) + self._run(second)

    def finish(self, output: Sequence[Logits]) -> Scores:
        """Probabilities of the labels in use: the softmax leaves out the others, as FunASR does."""
        scores = np.empty((sum(len(part.indices) for part in output), self._rows.numel()), dtype=np.float32)
        for part in output:
            used = part.values.cpu()[:, self._rows]  # (windows, labels); the same as -inf for the others
            scores[list(part.indices)] = used.softmax(dim=-1).numpy()
        return scores


def _is_lack_of_memory(error: MemoryError | RuntimeError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On the CPU torch has only messages for it; the second is oneDNN's, of layers that have run before.
    return any(words in str(error) for words in ("can't allocate memory", "could not create a primitive"))
