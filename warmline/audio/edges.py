"""Where a channel's sound begins and ends: the digital silence at its two ends is left out.

So a call's analysis does not depend on how long the recorder ran before and after it: the chunks that the search
for speech looks at begin with the first sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from warmline.audio.levels import DIGITAL_SILENCE
from warmline.audio.resampling import Slabs

Samples = NDArray[np.float32]
# From a channel's first sound to its last so far, in samples: (start, end).
SoundSpan = Callable[[], tuple[int, int]]


class SoundOnly:
    """One channel from its first sound to its last, in slabs of one size. `lead` is what came before the first."""

    def __init__(self, slab_samples: int, span: SoundSpan | None = None) -> None:
        """`span` knows better than the samples themselves, where these are resampled and ring at their edges."""
        self.lead = 0  # samples
        self._span = span
        self._slab_samples = slab_samples
        self._slabs = Slabs(slab_samples)
        self._begun = False
        self._quiet_samples = 0  # after the last sound so far: only a number, because it may be hours

    def push(self, samples: Samples) -> Iterator[Samples]:
        """The slabs that the next (samples,) complete."""
        sounds = np.flatnonzero(np.abs(samples) >= DIGITAL_SILENCE)
        if not len(sounds):
            if self._begun:
                self._quiet_samples += len(samples)
            else:
                self.lead += len(samples)
            return
        first, after = int(sounds[0]), int(sounds[-1]) + 1
        if self._begun:
            yield from self._fill(self._quiet_samples)
            first = 0
        elif self._span is not None:
            first = min(max(first, self._span()[0] - self.lead), after)
        self._begun = True
        self.lead += first
        self._quiet_samples = len(samples) - after
        yield from self._slabs.push(samples[first:after])

    def finish(self) -> Iterator[Samples]:
        """The last slab, which may be shorter; none where all is silence."""
        last = self._slabs.rest()
        if self._span is not None and len(last):
            ringing = self._slabs.handed_out + len(last) - (self._span()[1] - self.lead)
            last = last[: max(0, len(last) - max(0, ringing))]
        if len(last):
            yield last

    def _fill(self, count: int) -> Iterator[Samples]:
        while count:
            some = min(count, self._slab_samples)
            yield from self._slabs.push(np.zeros(some, np.float32))
            count -= some
