"""Which windows run together: pure arithmetic on lengths, no tensors.

Windows of any number of calls come mixed. They are grouped by length, so that little of a batch is padding, and
into few shapes, so that a GPU builds what it needs for a shape once. A window's scores do not depend on its group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Padded lengths of windows up to the default window of 5 s: steps of half a second.
BUCKET_STEP_SAMPLES = 8_000
LAST_BUCKET_SAMPLES = 80_000

# A row of a batch is at least so full, unless the row would be computed empty.
MIN_FILL = 0.75


@dataclass(frozen=True, kw_only=True)
class Group:
    """Windows that run together, by their places among the windows that were given."""

    indices: tuple[int, ...]  # the longest first
    rows: int  # that are computed: as many as there are windows, or more of which the last are empty
    samples: int  # of each row, padding included
    fixed: bool  # the shape is one of few, so that building something for it pays


@dataclass(frozen=True, kw_only=True)
class Packer:
    """Groups windows for a device that takes `budget_samples` at once, padding included; 0: each alone.

    Without `fixed_shapes` a group is as long as its longest window and has no empty row.
    """

    budget_samples: int
    fixed_shapes: bool

    def pack(self, lengths: Sequence[int]) -> Iterator[Group]:
        """Groups that hold each window once: the longest first, so that a lack of memory shows at once."""
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        start = 0
        while start < len(order):
            samples, fixed = self._row_samples(lengths[order[start]])
            most = max(1, self.budget_samples // samples)
            similar = 1
            while (
                similar < most
                and start + similar < len(order)
                and lengths[order[start + similar]] >= samples * MIN_FILL
            ):
                similar += 1
            rows = count_rows(similar, most) if fixed else similar
            indices = tuple(order[start : start + rows])  # a row that would be empty takes a shorter window
            yield Group(indices=indices, rows=rows, samples=samples, fixed=fixed)
            start += rows

    def _row_samples(self, longest: int) -> tuple[int, bool]:
        if not self.fixed_shapes or longest > LAST_BUCKET_SAMPLES:
            return longest, False
        return -(-longest // BUCKET_STEP_SAMPLES) * BUCKET_STEP_SAMPLES, True


def count_rows(windows: int, most: int) -> int:
    """Rows of the next group for so many windows: `most`, or a power of two.

    It is the next higher one where that leaves at most a quarter of its rows empty, else the next lower one.
    """
    if windows >= most:
        return most
    lower = 1 << (windows.bit_length() - 1)
    higher = min(2 * lower, most)
    if windows == lower:
        return lower
    return higher if windows >= higher * MIN_FILL else lower


def padding_share(groups: Sequence[Group], lengths: Sequence[int]) -> float:
    """The share of the computed samples that belong to no window; 0 without groups."""
    computed = sum(group.rows * group.samples for group in groups)
    real = sum(lengths[index] for group in groups for index in group.indices)
    return 1 - real / computed if computed else 0.0
