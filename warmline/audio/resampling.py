"""From a file's own rate to the model's 16 kHz, in slabs of one size, without holding the call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from warmline.audio.decoding import Block

SAMPLE_RATE_HZ = 16_000

Slab = NDArray[np.float32]  # (samples, channels), 16 kHz


def to_16_khz(blocks: Iterable[Block], *, sample_rate_hz: int, channels: int) -> Iterator[Slab]:
    """Resamples block after block; the cuts between blocks cannot be heard. Blocks at 16 kHz pass untouched."""
    if sample_rate_hz == SAMPLE_RATE_HZ:
        yield from blocks
        return
    # HQ is soxr's 20-bit quality and the one librosa takes by default, hence FunASR too.
    stream = soxr.ResampleStream(sample_rate_hz, SAMPLE_RATE_HZ, channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)


def in_slabs(blocks: Iterable[Slab], slab_samples: int) -> Iterator[Slab]:
    """Joins and cuts blocks into slabs of `slab_samples` samples; the last may be shorter."""
    slabs = Slabs(slab_samples)
    for block in blocks:
        yield from slabs.push(block)
    if len(rest := slabs.rest()):
        yield rest


class Slabs:
    """Cuts what comes in pieces of any size, samples first, into slabs of one size."""

    def __init__(self, slab_samples: int) -> None:
        self.handed_out = 0  # samples
        self._slab_samples = slab_samples
        self._held: list[Slab] = []
        self._held_samples = 0

    def push(self, piece: Slab) -> Iterator[Slab]:
        """The slabs that the next piece completes."""
        self._held.append(piece)
        self._held_samples += len(piece)
        if self._held_samples >= self._slab_samples:
            joined = np.concatenate(self._held)
            whole = len(joined) - len(joined) % self._slab_samples
            yield from np.split(joined[:whole], whole // self._slab_samples)
            self.handed_out += whole
            # Copied, so that the rest does not keep all of it alive.
            self._held, self._held_samples = [joined[whole:].copy()], len(joined) - whole

    def rest(self) -> Slab:
        """What has not become a slab; nothing if there was nothing."""
        return np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
