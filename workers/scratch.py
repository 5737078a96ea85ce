"""Where calls lie while they are analysed: a directory for each worker, in it one for each child.

A killed process leaves its files behind. So a worker holds a lock on its directory, which its children share and
the kernel releases with the last of them; the next worker to start removes directories that nobody holds. A dead
child's files are removed by the child that replaces it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from config.settings import SettingsError

log = structlog.get_logger()

_LOCK = "lock"
_NEW = "new-"
_HELD = "worker-"


class Scratch:
    """One worker's directory, made before it forks."""

    def __init__(self, root: Path, lock: int) -> None:
        self._root = root
        self._lock = lock

    @classmethod
    def open(cls, scratch_dir: Path) -> Scratch:
        """Makes a directory of this worker's own and removes those of dead ones. Raises SettingsError."""
        try:
            scratch_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if scratch_dir.stat().st_uid not in {0, os.geteuid()}:
                raise SettingsError(f"WARMLINE_WORKER_SCRATCH_DIR: {scratch_dir} belongs to another user")
            for left in scratch_dir.glob(f"{_HELD}*"):
                _remove_unheld(left)
            new = Path(tempfile.mkdtemp(prefix=_NEW, dir=scratch_dir))
            lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Its name invites removal, so it gets that only now that it is held.
            root = new.rename(new.with_name(new.name.replace(_NEW, _HELD)))
        except OSError as error:
            raise SettingsError(f"WARMLINE_WORKER_SCRATCH_DIR: {error}") from None
        return cls(root, lock)

    @property
    def directory(self) -> Path:
        """This worker's own, for its user alone."""
        return self._root

    def enter_child(self) -> None:
        """In a new child: makes its directory, and removes those of children that are no more."""
        for left in self._root.iterdir():
            if left.name.isdigit() and not Path("/proc", left.name).exists():
                shutil.rmtree(left, ignore_errors=True)
        self._own().mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def file(self) -> Iterator[Path]:
        """A path in the child's directory for one call; nothing is left there afterwards."""
        own = self._own()
        try:
            yield own / "call"
        finally:
            for left in own.iterdir():
                left.unlink()

    def remove(self) -> None:
        """In the parent, when the worker has ended."""
        shutil.rmtree(self._root, ignore_errors=True)
        os.close(self._lock)

    def _own(self) -> Path:
        return self._root / str(os.getpid())


def _remove_unheld(directory: Path) -> None:
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR)
    except OSError:
        return  # another user's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(lock)
    shutil.rmtree(directory, ignore_errors=True)
    log.info("scratch_removed", directory=str(directory))
