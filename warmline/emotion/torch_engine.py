"""The engine: `Emotion2Vec` on the CPU or on CUDA, in fp32, bf16 or fp16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import structlog
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from warmline.emotion.architecture import Architecture, Emotion2Vec
from warmline.emotion.batches import Batch, make_batch
from warmline.emotion.converted import Weights
from warmline.emotion.engine import Embeddings, EngineInfo, Samples, Scores
from warmline.emotion.labels import Labels
from warmline.emotion.packing import Packer
from warmline.emotion.runners import CudaRunner, HostRunner, MeanFrames, Runner
from warmline.jobs.errors import ModelUnusable, OutOfMemory

# Windows of 5 s that a GPU gets at once, where its memory allows: 16,576 rows for each matrix product of the large
# model fill every GPU there is, and more would only make a live call wait longer.
GPU_WINDOWS = 64
WINDOW_SAMPLES = 5 * 16_000
# Of the memory that is free once the weights are there: a graph keeps what its batch takes, beside what a batch
# of another shape takes, and somebody else may need some too.
GPU_MEMORY_SHARE = 0.25
# The attention's bias of a padded batch is made at once, for all layers: 137 MB in bf16 for the largest batch.
CUDA_ATTENTION_BLOCK_ELEMENTS = 2**27
# Windows are offered in so many batches, so that those of one length find each other.
OFFERED_BATCHES = 4

log = structlog.get_logger()


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


def prepare_cuda(model: Emotion2Vec, device: str) -> int:
    """Sets this process's CUDA for the model on its device; returns the memory that is free there, in bytes."""
    # cuDNN's convolutions round fp32 to 10 bits unless told otherwise: not FunASR's scores to 1e-4.
    torch.backends.cudnn.allow_tf32 = False
    # The shapes are few, so that trying cuDNN's algorithms once for each pays.
    torch.backends.cudnn.benchmark = True
    # Sums of 16-bit products stay in fp32 to their end: fp16's would overflow first.
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    model.attention_block_elements = CUDA_ATTENTION_BLOCK_ELEMENTS
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return int(free_bytes)


def gpu_batch_samples(architecture: Architecture, *, element_bytes: int, free_bytes: int) -> int:
    """Samples, padding included, that fit a GPU at once: a power of two of 5 s windows, GPU_WINDOWS at most."""
    window_bytes = architecture.activation_bytes_per_sample(element_bytes) * WINDOW_SAMPLES
    windows = int(min(GPU_WINDOWS, max(1, free_bytes * GPU_MEMORY_SHARE // window_bytes)))
    return (1 << (windows.bit_length() - 1)) * WINDOW_SAMPLES


class TorchEngine:
    """Scores windows with a model in this process; see `Engine`.

    `batch_samples` is the most samples that run at once, padding included; 0 runs each window alone. A CPU
    is fastest that way, because one window's activations stay in its caches. `graphs` is for CUDA: see `runners`.
    """

    def __init__(
        self, model: Emotion2Vec, labels: Labels, info: EngineInfo, *, batch_samples: int, graphs: bool = True
    ) -> None:
        self.info = info
        self.min_samples = model.architecture.min_samples
        self.embedding_dimensions = model.architecture.embed_dim
        self._model = model
        # The head on the host, whatever the device: tokens that are not in use are left out, as FunASR does.
        rows = torch.tensor(labels.rows)
        self._weight = model.head.weight.detach().float().cpu()[rows]  # (labels, C)
        self._bias = model.head.bias.detach().float().cpu()[rows]  # (labels,)
        self._device = torch.device(info.device)
        on_cuda = self._device.type == "cuda"
        self._packer = Packer(budget_samples=batch_samples, fixed_shapes=on_cuda)
        self._runner: Runner = HostRunner(model)
        self.windows_at_once = 1
        if on_cuda:
            self._runner = CudaRunner(model, self._device, graphs=graphs)
            self.windows_at_once = max(1, OFFERED_BATCHES * batch_samples // WINDOW_SAMPLES)

    @property
    def batch_samples(self) -> int:
        """The most samples that run at once; less than at first where memory lacked since."""
        return self._packer.budget_samples

    def prepare(self, windows: Sequence[Samples]) -> list[Batch]:
        """Batches of windows of similar length. Raises ValueError for a window that is too short."""
        for window in windows:
            if window.ndim != 1 or window.size < self.min_samples:
                raise ValueError(f"a window is one row of at least {self.min_samples} samples, not {window.shape}")
        groups = self._packer.pack([window.size for window in windows])
        return [make_batch(group, windows, device=self._device) for group in groups]

    @torch.inference_mode()
    def infer(
        self,
        prepared: Sequence[Batch],
        *,
        embeddings: bool = False,  # they are what the scores are made of
    ) -> list[MeanFrames]:
        """Runs the model; on CUDA it returns before the device is done.

        Raises OutOfMemory where not even one window has room.
        """
        return [means for batch in prepared for means in self._run(batch)]

    def _run(self, batch: Batch) -> list[MeanFrames]:
        try:
            return [self._runner.run(batch)]
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
        # Outside of the handler: its traceback would keep the failed attempt's tensors alive.
        self._runner.release_memory()
        if len(batch.indices) == 1:
            return [self._run_last(batch)]
        first, second = batch.halves()
        # The next batches are made small enough at once.
        smaller = min(self._packer.budget_samples, first.samples.numel())
        self._packer = replace(self._packer, budget_samples=smaller)
        log.warning("batch_halved", windows=len(batch.indices), batch_samples=smaller)
        return self._run(first) + self._run(second)

    def _run_last(self, batch: Batch) -> MeanFrames:
        """A lone window that found no room, once more without what was released, and without empty rows."""
        try:
            return self._runner.run(batch.without_empty_rows())
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
        self._runner.release_memory()
        raise OutOfMemory(
            f"A window of {int(batch.lengths[0]) / 16_000:.0f} s does not fit into {self.info.device}'s memory."
            " Use fewer children, or lower WARMLINE_AUDIO_UTTERANCE_MAX_SECONDS."
        )

    def finish(self, output: Sequence[MeanFrames]) -> Scores:
        """Probabilities of the labels in use."""
        scores = np.empty((_count(output), self._bias.numel()), dtype=np.float32)
        for part in output:
            used = F.linear(part.wait(), self._weight, self._bias)  # (windows, labels)
            if not used.isfinite().all():
                log.error(
                    "scores_not_finite",
                    precision=self.info.precision,
                    hint="Audio that is not a number, or weights too large for fp16: set WARMLINE_PRECISION=fp32.",
                )
            scores[list(part.indices)] = used.softmax(dim=-1).numpy()
        return scores

    def embeddings(self, output: Sequence[MeanFrames]) -> Embeddings:
        """See `Engine`."""
        found = np.empty((_count(output), self.embedding_dimensions), dtype=np.float32)
        for part in output:
            found[list(part.indices)] = part.wait().numpy()
        return found


def _count(output: Sequence[MeanFrames]) -> int:
    return sum(len(part.indices) for part in output)


# Lacks of memory that torch raises as a RuntimeError: the CPU's own, oneDNN's of layers that have run before, and
# those of CUDA and its libraries.
_LACK_OF_MEMORY = (
    "can't allocate memory", "could not create a primitive", "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip


def _is_lack_of_memory(error: MemoryError | RuntimeError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _LACK_OF_MEMORY)
