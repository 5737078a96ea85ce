"""What children tell the worker's parent: one is warm, or it cannot get warm and why.

A pipe is made before the first fork, and every child inherits it. Nothing else gets through: Celery swallows what
a child's start-up handler raises, and an exit code gives no reason.
"""

from __future__ import annotations

import os
import select

from pydantic import ValidationError

from warmline.jobs.records import ChildState, Record

_MAX_REASON = 900  # characters of 4 bytes at most: a line stays below PIPE_BUF, so that two never mix


class LoadFailed(Record):
    """A child could not get warm."""

    pid: int
    reason: str


class _Line(Record):
    """One announcement on the wire."""

    warm: ChildState | None = None
    failed: LoadFailed | None = None


class Announcements:
    """The pipe: children write to it, their parent reads."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._unfinished = b""

    def fileno(self) -> int:
        """The parent's end, for an event loop."""
        return self._read_end

    def tell_warm(self, child: ChildState) -> None:
        """From a child: it can take a job now."""
        self._write(_Line(warm=child))

    def tell_failed(self, reason: str) -> None:
        """From a child: it will never be able to."""
        self._write(_Line(failed=LoadFailed(pid=os.getpid(), reason=reason[:_MAX_REASON])))

    def wait(self, seconds: float) -> None:
        """In the parent: returns when there is something to read, or when the time is over."""
        select.select([self._read_end], [], [], seconds)

    def read(self) -> list[ChildState | LoadFailed]:
        """In the parent: what was told since the last call. Never waits."""
        try:
            while chunk := os.read(self._read_end, 65536):
                self._unfinished += chunk
        except BlockingIOError:
            pass  # nothing more for now
        *lines, self._unfinished = self._unfinished.split(b"\n")
        return [said for line in lines if (said := _parse(line)) is not None]

    def _write(self, line: _Line) -> None:
        os.write(self._write_end, line.model_dump_json(exclude_none=True).encode() + b"\n")


def _parse(line: bytes) -> ChildState | LoadFailed | None:
    try:
        said = _Line.model_validate_json(line)
    except ValidationError:
        return None  # a child that was killed while it wrote
    return said.warm or said.failed
