"""Speech for the benchmark: calls in which somebody speaks all the time, made from the repository's samples."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from benchmarks.subjects import NotMeasured
from config.settings import AudioSettings
from warmline.audio.call import open_call
from warmline.emotion.engine import SAMPLE_RATE, Samples
from warmline.jobs.errors import WarmlineError

SAMPLES = Path(__file__).parents[1] / "samples" / "calls"
CALL_RATE = 8_000
MIN_WINDOW_SAMPLES = 4_000
_BLOCK = 60 * CALL_RATE


@dataclass(frozen=True, kw_only=True)
class SpokenWindow:
    """A window of a recording, and what a list of labels says of the recording."""

    samples: Samples  # (samples,) mono, 16 kHz
    label: str  # "" where nobody said


def cut_windows(path: Path, settings: AudioSettings) -> list[Samples]:
    """The windows that the pipeline would score."""
    with open_call(path, settings) as call:
        return [window.samples for window in call.speech_windows(min_samples=MIN_WINDOW_SAMPLES)]


def speech_pool(settings: AudioSettings) -> Samples:
    """All speech of the samples in one row, 16 kHz: a few minutes."""
    files = sorted(path for path in SAMPLES.glob("*") if path.is_file())
    pieces = [window for path in files for window in cut_windows(path, settings)]
    if not pieces:
        raise NotMeasured(f"there are no recordings in {SAMPLES}")
    # Pauses within a window may be as long as a second: what is as quiet as they are is left out.
    speech = np.concatenate(pieces)
    frames = speech[: speech.size // 1600 * 1600].reshape(-1, 1600)
    loudness = np.sqrt((frames**2).mean(axis=1))
    return np.ascontiguousarray(frames[loudness > 0.1 * np.median(loudness)].reshape(-1))


def clips(pool: Samples, *, seconds: float, count: int) -> list[Samples]:
    """Different stretches of the speech."""
    size = round(seconds * SAMPLE_RATE)
    return [_looped(pool, index * (pool.size // max(count, 1)), size) for index in range(count)]


def write_call(path: Path, pool: Samples, *, seconds: float, channels: int, offset_seconds: float = 0.0) -> Path:
    """An 8 kHz, 16 bit WAV file with speech throughout, each channel from another place on."""
    narrow = soxr.resample(pool, SAMPLE_RATE, CALL_RATE).astype(np.float32)
    total = round(seconds * CALL_RATE)
    starts = [
        round(offset_seconds * CALL_RATE) + channel * narrow.size // max(channels, 1)
        for channel in range(channels)
    ]
    with soundfile.SoundFile(path, "w", CALL_RATE, channels, subtype="PCM_16") as file:
        for at in range(0, total, _BLOCK):
            size = min(_BLOCK, total - at)
            file.write(np.stack([_looped(narrow, start + at, size) for start in starts], axis=1))
    return path


def _looped(pool: Samples, start: int, size: int) -> Samples:
    # A view of the pool's endless repetition.
    return np.take(pool, np.arange(start, start + size), mode="wrap")


def spoken_windows(directory: Path, settings: AudioSettings) -> Iterator[SpokenWindow]:
    """The windows of a directory's recordings, with the labels of its labels.csv (columns file, label) if any."""
    labels: dict[str, str] = {}
    if (listed := directory / "labels.csv").is_file():
        with listed.open(encoding="utf-8", newline="") as file:
            labels = {row["file"]: row["label"] for row in csv.DictReader(file)}
    found = False
    for path in sorted(directory.iterdir()):
        if not path.is_file() or path.suffix.lower() in {".csv", ".md", ".txt", ".json"}:
            continue
        try:
            windows = cut_windows(path, settings)
        except WarmlineError as error:
            raise NotMeasured(f"{path.name}: {error.message}") from None
        for samples in windows:
            found = True
            yield SpokenWindow(samples=samples, label=labels.get(path.name, ""))
    if not found:
        raise NotMeasured(f"{directory} holds no recording with speech")
