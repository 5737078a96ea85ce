"""The calls of a storm: very short ones, each different, some that are none, and one long enough to die in."""

from __future__ import annotations

import random
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from config.settings import S3Settings
from warmline.jobs.records import Source
from warmline.objects.store import ObjectStore

BUCKET = "calls"
RATE_HZ = 8000
SHORT_SECONDS = 0.2
LONG_SECONDS = 300.0  # some seconds of work: enough to be caught in it


def write_noise(path: Path, seconds: float, seed: int) -> Path:
    """Mono noise, another one for each seed."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", "NONE"))
        file.writeframes(random.Random(seed).randbytes(2 * round(RATE_HZ * seconds)))
    return path


def upload_calls(
    s3: S3Settings, directory: Path, count: int, *, bad: int = 0
) -> tuple[list[Source], list[Source]]:
    """So many short calls, and `bad` objects that are no audio, with the store's names for them."""
    directory.mkdir()
    good = [write_noise(directory / f"call-{n:06d}.wav", SHORT_SECONDS, n) for n in range(count)]
    broken = [directory / f"letter-{n:06d}.wav" for n in range(bad)]
    for path in broken:
        path.write_text(f"Dear {path.stem}, this is not a recording.")
    with closing(ObjectStore(s3)) as store:
        sources = _upload(store, [*good, *broken])
    return sources[:count], sources[count:]


def upload_long_call(s3: S3Settings, directory: Path, *, seconds: float = LONG_SECONDS) -> Source:
    """One that takes some seconds to analyse."""
    with closing(ObjectStore(s3)) as store:
        return store.put_call(BUCKET, "long.wav", write_noise(directory / "long.wav", seconds, 0))


def _upload(store: ObjectStore, files: Sequence[Path]) -> list[Source]:
    def put(file: Path) -> Source:
        return store.put_call(BUCKET, f"2026/11/{file.name}", file)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(put, files))
