"""One stack at a time on a data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from warmline.local.parts import StackRunning
from warmline.local.private_files import PRIVATE_FILE

# Whoever asks who holds the lock holds it for an instant.
_PATIENCE_SECONDS = 0.5


@contextlib.contextmanager
def stack_lock(path: Path) -> Iterator[None]:
    """Holds the lock while the block lasts; the kernel lets go of it however the process ends.

    Raises StackRunning, which names the process that holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                pid = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                raise StackRunning(
                    f"A stack already runs on {path.parents[1]} (process {pid}): use it, stop it with "
                    f"`warmline down --data {path.parents[1]}`, or choose another directory with --data."
                )
            time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_holder(path: Path) -> int | None:
    """The pid of the process that holds the lock, or None."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try(descriptor, fcntl.LOCK_SH):
            return None
        text = os.pread(descriptor, 32, 0).decode().strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
