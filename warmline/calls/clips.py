"""Windows of speech from a folder of recordings: what a model is calibrated with, or measured on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from config.settings import AudioSettings
from warmline.audio.call import open_call
from warmline.audio.windows import Samples
from warmline.jobs.errors import EmptyAudio, InvalidRequest, NotAudio, WarmlineError

# The most that one recording gives, so that one long call does not stand for all.
MAX_WINDOWS_PER_CLIP = 8

log = structlog.get_logger()


def find_clips(folder: Path) -> list[Path]:
    """The files below a folder, in order. Raises InvalidRequest where it has none or is no folder."""
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder. Give --clips a folder with recordings.")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise InvalidRequest(f"{folder} is empty. Give --clips a folder with recordings.")
    return files


def read_windows(
    files: list[Path],
    settings: AudioSettings,
    *,
    min_samples: int,
    limit: int,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> list[Samples]:
    """At most `limit` windows of speech, cut as a job's are, from files in a seeded order.

    What is no audio is left out. `on_progress` is told how many files have been read.
    """
    order = list(files)
    random.Random(seed).shuffle(order)  # noqa: S311 (a choice that can be repeated, no secret)
    found: list[Samples] = []
    for done, path in enumerate(order, start=1):
        found.extend(_windows_of(path, settings, min_samples))
        if on_progress:
            on_progress(done)
        if len(found) >= limit:
            return found[:limit]
    return found


def _windows_of(path: Path, settings: AudioSettings, min_samples: int) -> Iterator[Samples]:
    try:
        with open_call(path, settings) as call:
            for count, window in enumerate(call.speech_windows(min_samples=min_samples)):
                if count == MAX_WINDOWS_PER_CLIP:
                    return
                yield window.samples
    except (NotAudio, EmptyAudio):
        return  # a folder of recordings has lists and notes in it
    except WarmlineError as error:
        log.warning("clip_left_out", file=str(path), reason=error.message)
