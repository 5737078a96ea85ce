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
    held: list[Slab] = []
    held_samples = 0
    for block in blocks:
        held.append(block)
        held_samples += len(block)
        if held_samples >= slab_samples:
            joined = np.concatenate(held)
            whole = held_samples - held_samples % slab_samples
            yield from np.split(joined[:whole], whole // slab_samples)
            held, held_samples = [joined[whole:]], held_samples - whole
    if held_samples:
        yield np.concatenate(held)
