"""What the parts print: followed for the terminal, and the last lines of one that died."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

_TAIL_BYTES = 64 * 1024
_LINE_BYTES = 64 * 1024  # a longer one is shown in pieces: memory does not grow with what a part prints


class LogFollower:
    """Yields the lines that are added to a file from now on, or all of them, across its rotation."""

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        if path.exists():
            self._file = path.open("rb")
            if not from_start:
                self._file.seek(0, os.SEEK_END)

    def new_lines(self) -> Iterator[str]:
        """The complete lines since the last call."""
        yield from self._read()
        if self._rotated():
            self.close()
            if self._path.exists():
                self._file = self._path.open("rb")
                yield from self._read()

    def torn_line(self) -> str | None:
        """What follows the last complete line, if anything does. It comes again once it is complete."""
        return self._rest.decode(errors="replace") or None

    def is_at(self, path: Path) -> bool:
        """Whether the file that is read now has this name by now."""
        if self._file is None:
            return False
        mine, there = os.fstat(self._file.fileno()), path.stat()
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> Iterator[str]:
        while self._file is not None and (block := self._file.read(_LINE_BYTES)):
            *lines, self._rest = (self._rest + block).split(b"\n")
            if len(self._rest) >= _LINE_BYTES:
                lines, self._rest = [*lines, self._rest], b""
            for line in lines:
                yield line.decode(errors="replace").rstrip("\r")

    def _rotated(self) -> bool:
        if self._file is None:
            return True
        try:
            return not self.is_at(self._path)
        except FileNotFoundError:
            return False  # between the two renames of a rotation


def last_lines(path: Path, count: int = 15) -> Sequence[str]:
    """The last lines of a log, fewer when there are no more; empty when there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return text.splitlines()[-count:]
