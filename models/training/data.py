"""The clips and who speaks in them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from warmline.emotion.engine import SAMPLE_RATE
from warmline.emotion.labels import STANDARD_LABELS


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Clips of one length."""

    waves: Tensor  # (clips, samples) float32, mono, 16 kHz, in [-1, 1]
    labels: Tensor  # (clips,) int64, rows of STANDARD_LABELS
    speakers: tuple[str, ...]  # (clips,)

    @property
    def known(self) -> tuple[int, ...]:
        """The labels that some clip has; the head's other rows only learn to stay low."""
        return tuple(sorted(set(self.labels.tolist())))

    def clips_of(self, speakers: Sequence[str]) -> Tensor:
        """Indices of these speakers' clips."""
        return torch.tensor([clip for clip, speaker in enumerate(self.speakers) if speaker in speakers])

    def folds(self, size: int = 2) -> Iterator[tuple[tuple[str, ...], Tensor, Tensor]]:
        """Leave-speakers-out: (who is left out, clips to train on, clips to test on), in the speakers' order."""
        everyone = sorted(set(self.speakers))
        for start in range(0, len(everyone), size):
            out = tuple(everyone[start : start + size])
            yield out, self.clips_of([name for name in everyone if name not in out]), self.clips_of(out)


def read_corpus(directory: Path) -> Corpus:
    """Reads labels.csv (file, speaker, label, seconds) and its clips; shorter ones are padded with silence.

    Raises ValueError for a clip that is not mono at 16 kHz and for a label that Warmline does not know.
    """
    with (directory / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    waves = []
    for row in rows:
        wave, rate = soundfile.read(directory / row["file"], dtype="float32")
        if rate != SAMPLE_RATE or wave.ndim != 1:
            raise ValueError(f"{row['file']} is not mono at {SAMPLE_RATE} Hz: convert it first.")
        if row["label"] not in STANDARD_LABELS:
            raise ValueError(
                f"{row['file']} has the label {row['label']}, not one of {', '.join(STANDARD_LABELS)}."
            )
        waves.append(wave)
    longest = max(len(wave) for wave in waves)
    return Corpus(
        waves=torch.from_numpy(np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves])),
        labels=torch.tensor([STANDARD_LABELS.index(row["label"]) for row in rows]),
        speakers=tuple(row["speaker"] for row in rows),
    )
