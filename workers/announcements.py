"""What children and engine hosts tell the worker's parent: one is warm, is so no more, or cannot get warm and why.

A pipe is made before the first fork, and all of them inherit it. Nothing else gets through: Celery swallows what
a child's start-up handler raises, and an exit code gives no reason.
"""

from __future__ import annotations

import os
import select

from pydantic import ValidationError

from warmline.jobs.records import ChildState, Record

_MAX_REASON = 900  # characters of 4 bytes at most: a line stays below PIPE_BUF, so that two never mix


class LoadFailed(Record):
    """A child, or a host, could not get warm."""

    pid: int
    reason: str
    who: str = "child"


class HostLost(Record):
    """A child was warm, but the host that holds its model has died: it waits for the next one."""

    pid: int


class HostWarm(Record):
    """An engine host serves."""

    pid: int


Said = ChildState | LoadFailed | HostLost | HostWarm


class _Line(Record):
    """One announcement on the wire."""

    warm: ChildState | None = None
    failed: LoadFailed | None = None
    host_lost: HostLost | None = None
    host_warm: HostWarm | None = None


class Announcements:
    """The pipe: children write to it, their parent reads."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._unfinished = b""

    @classmethod
    def writing_to(cls, write_end: int) -> Announcements:
        """In an engine host, which is no fork: the pipe that it was started with. It cannot be read there."""
        announcements = cls.__new__(cls)
        announcements._write_end = write_end
        return announcements

    def fileno(self) -> int:
        """The parent's end, for an event loop."""
        return self._read_end

    def write_fileno(self) -> int:
        """The other end, for a process that is no fork."""
        return self._write_end

    def tell_warm(self, child: ChildState) -> None:
        """From a child: it can take a job now."""
        self._write(_Line(warm=child))

    def tell_failed(self, reason: str, *, who: str = "child") -> None:
        """From a child or a host: it will never be able to."""
        self._write(_Line(failed=LoadFailed(pid=os.getpid(), reason=reason[:_MAX_REASON], who=who)))

    def tell_host_lost(self) -> None:
        """From a child: it cannot take a job until it says again that it is warm."""
        self._write(_Line(host_lost=HostLost(pid=os.getpid())))

    def tell_host_warm(self) -> None:
        """From a host: it serves."""
        self._write(_Line(host_warm=HostWarm(pid=os.getpid())))

    def wait(self, seconds: float) -> None:
        """In the parent: returns when there is something to read, or when the time is over."""
        select.select([self._read_end], [], [], seconds)

    def read(self) -> list[Said]:
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


def _parse(line: bytes) -> Said | None:
    try:
        said = _Line.model_validate_json(line)
    except ValidationError:
        return None  # a child that was killed while it wrote
    return said.warm or said.failed or said.host_lost or said.host_warm
