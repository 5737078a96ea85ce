"""A pipe from many processes to one, a line at a time: what children and engine hosts say to the worker's parent.

Made before the first fork, and inherited. A line that is no longer than PIPE_BUF gets there whole, or not at all:
two writers never mix.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select

PIPE_BUF = select.PIPE_BUF


class LinePipe:
    """Both ends, or the writing one alone."""

    def __init__(self, read_end: int | None, write_end: int) -> None:
        self._read_end = read_end
        self._write_end = write_end
        self._unfinished = b""

    @classmethod
    def open(cls, *, capacity_bytes: int | None = None, patient: bool = True) -> LinePipe:
        """A new one. Who writes to a full one waits; unless he is not patient, then his line is refused."""
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, patient)
        if capacity_bytes is not None:
            with contextlib.suppress(OSError):  # more than this user may have: it stays as it is
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, capacity_bytes)
        return cls(read_end, write_end)

    @classmethod
    def writing_to(cls, write_end: int) -> LinePipe:
        """In a process that is no fork: the end that it was started with. It cannot be read there."""
        return cls(None, write_end)

    def fileno(self) -> int:
        """The reader's end, for an event loop."""
        if self._read_end is None:
            raise RuntimeError("this process has the writing end alone")
        return self._read_end

    def write_fileno(self) -> int:
        """The other end, for a process that is no fork."""
        return self._write_end

    def write(self, line: bytes) -> bool:
        """Sends a line; False where an impatient writer finds no room. ValueError: it is longer than PIPE_BUF."""
        if len(line) >= PIPE_BUF:
            raise ValueError(f"a line of {len(line)} bytes does not fit into PIPE_BUF")
        try:
            os.write(self._write_end, line + b"\n")
        except BlockingIOError:
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Returns when there is something to read, or when the time is over."""
        select.select([self.fileno()], [], [], seconds)

    def read(self) -> list[bytes]:
        """The lines since the last call. Never waits."""
        try:
            while chunk := os.read(self.fileno(), 65536):
                self._unfinished += chunk
        except BlockingIOError:
            pass  # nothing more for now
        *lines, self._unfinished = self._unfinished.split(b"\n")
        return lines
