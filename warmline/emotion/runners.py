"""How a batch gets through the model: as it is, or on CUDA as a graph of its shape.

A runner takes a batch on the host and returns its windows' mean frames on the host, which on CUDA are there only
once their event has happened: `infer` returns while the GPU works. From them the engine makes the scores (the head
is tiny), and they are the windows' embeddings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
import torch
from torch import Tensor

from warmline.emotion.architecture import Emotion2Vec
from warmline.emotion.batches import Batch

# Graphs that are kept. Packing makes some eighty shapes at most; what comes after these runs without a graph.
MAX_GRAPHS = 96
WARM_UPS = 2  # before a capture: libraries choose their algorithms and take their workspaces in the first

log = structlog.get_logger()


@dataclass(frozen=True)
class MeanFrames:
    """What the model made of a batch."""

    indices: tuple[int, ...]  # the windows' places among those that were given
    values: Tensor  # (windows, C) float32, on the host
    ready: torch.cuda.Event | None  # after which the values are there; None: they are

    def wait(self) -> Tensor:
        """The values, once they are there."""
        if self.ready is not None:
            self.ready.synchronize()
        return self.values


class Runner(Protocol):
    """Runs batches one after another."""

    def run(self, batch: Batch) -> MeanFrames:
        """The mean frames of the batch's windows. Raises what torch raises where memory lacks."""

    def release_memory(self) -> None:
        """Gives back all memory that only makes later batches faster."""


class HostRunner:
    """Runs batches on the CPU."""

    def __init__(self, model: Emotion2Vec) -> None:
        self._model = model

    def run(self, batch: Batch) -> MeanFrames:
        """See `Runner`."""
        values = self._model.mean_frames(batch.samples, None if batch.all_full else batch.lengths)
        return MeanFrames(batch.indices, values[: len(batch.indices)], None)

    def release_memory(self) -> None:
        """There is none."""


class CudaRunner:
    """Runs batches on a GPU: copied there on a stream of their own, while the one before is computed.

    Without `graphs` every kernel is launched from Python each time.
    """

    def __init__(self, model: Emotion2Vec, device: torch.device, *, graphs: bool) -> None:
        self._model = model
        self._device = device
        self._with_graphs = graphs
        self._graphs: GraphCache | None = None
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def captured(self) -> int:
        """Shapes that have a graph."""
        return 0 if self._graphs is None else self._graphs.captured

    def run(self, batch: Batch) -> MeanFrames:
        """See `Runner`."""
        with torch.cuda.device(self._device):
            compute = torch.cuda.current_stream()
            with torch.cuda.stream(self._copies):
                samples = batch.samples.to(self._device, non_blocking=True)
                own = None if batch.all_full else batch.lengths.to(self._device, non_blocking=True)
            compute.wait_stream(self._copies)
            # They were allocated on the other stream, which must not hand them out again before `compute` is done.
            samples.record_stream(compute)
            if own is not None:
                own.record_stream(compute)
            means = self._mean_frames(batch, samples, own)[: len(batch.indices)]
            values = torch.empty(means.shape, dtype=means.dtype, pin_memory=True)
            values.copy_(means, non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(compute)
            return MeanFrames(batch.indices, values, ready)

    def _mean_frames(self, batch: Batch, samples: Tensor, own: Tensor | None) -> Tensor:
        if not self._with_graphs or not batch.fixed:
            return self._model.mean_frames(samples, own)
        if self._graphs is None:
            self._graphs = GraphCache(CudaGraphCapture())
        return self._graphs.run(self._model.mean_frames, samples, own)

    def release_memory(self) -> None:
        """Forgets the graphs, whose memory nothing else can use, and frees what torch keeps."""
        with torch.cuda.device(self._device):
            torch.cuda.synchronize()  # a graph may still be running
            self._graphs = None
            torch.cuda.empty_cache()


Forward = Callable[[Tensor, Tensor | None], Tensor]


class Replay(Protocol):
    """A captured forward pass of one shape."""

    samples: Tensor  # that it reads
    own: Tensor | None
    means: Tensor  # that it writes: gone with the next replay of any shape

    def replay(self) -> None:
        """Computes `means` anew from what is in `samples` and `own`."""


Capture = Callable[[Forward, Tensor, "Tensor | None"], Replay]


class GraphCache:
    """One graph a shape, captured when the shape comes for the first time.

    A shape whose capture fails runs without a graph from then on, and so do shapes beyond MAX_GRAPHS.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._replays: dict[tuple[int, int, bool], Replay | None] = {}  # None: its capture failed

    @property
    def captured(self) -> int:
        """Shapes that have a graph."""
        return sum(replay is not None for replay in self._replays.values())

    def run(self, forward: Forward, samples: Tensor, own: Tensor | None) -> Tensor:
        """The mean frames, which the next call overwrites."""
        shape = (samples.size(0), samples.size(1), own is None)
        if shape not in self._replays and len(self._replays) < MAX_GRAPHS:
            for _ in range(WARM_UPS):  # outside of the attempt: a lack of memory here is the caller's to mend
                forward(samples, own)
            self._replays[shape] = self._try_capture(forward, samples, own)
        replay = self._replays.get(shape)
        if replay is None:
            return forward(samples, own)
        replay.samples.copy_(samples)
        if own is not None and replay.own is not None:
            replay.own.copy_(own)
        replay.replay()
        return replay.means

    def _try_capture(self, forward: Forward, samples: Tensor, own: Tensor | None) -> Replay | None:
        try:
            return self._capture(forward, samples, own)
        except RuntimeError as error:
            log.warning("graph_capture_failed", rows=samples.size(0), samples=samples.size(1), reason=str(error))
            return None


class CudaGraphReplay:
    """A `torch.cuda.CUDAGraph` with the tensors that it reads and writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, samples: Tensor, own: Tensor | None, means: Tensor) -> None:
        self.samples = samples
        self.own = own
        self.means = means
        self._graph = graph

    def replay(self) -> None:
        """See `Replay`."""
        self._graph.replay()


class CudaGraphCapture:
    """Captures graphs that share their memory: they are replayed one at a time, and each one's means are read
    before the next replay."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, forward: Forward, samples: Tensor, own: Tensor | None) -> Replay:
        """Captures a forward pass on the present device. Raises RuntimeError where that is not possible."""
        samples, own = samples.clone(), None if own is None else own.clone()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # nothing can be freed while a graph is captured
        with torch.cuda.stream(self._stream):
            # Other threads of this process go on making pinned memory meanwhile, which "global" would not allow.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                means = forward(samples, own)
            except BaseException:
                with contextlib.suppress(RuntimeError):  # that the capture has failed is being said already
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.synchronize()
        return CudaGraphReplay(graph, samples, own, means)
