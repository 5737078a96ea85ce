"""What children and engine hosts tell the worker's parent: one is warm, is so no more, or cannot get warm and why.

Nothing else gets through: Celery swallows what a child's start-up handler raises, and an exit code gives no
reason.
"""

from __future__ import annotations

import os

from pydantic import ValidationError

from warmline.jobs.records import ChildState, Record
from workers.line_pipe import LinePipe

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

    def __init__(self, pipe: LinePipe | None = None) -> None:
        self._pipe = pipe or LinePipe.open()

    @classmethod
    def writing_to(cls, write_end: int) -> Announcements:
        """In an engine host, which is no fork: the pipe that it was started with. It cannot be read there."""
        return cls(LinePipe.writing_to(write_end))

    def fileno(self) -> int:
        """The parent's end, for an event loop."""
        return self._pipe.fileno()

    def write_fileno(self) -> int:
        """The other end, for a process that is no fork."""
        return self._pipe.write_fileno()

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
        self._pipe.wait(seconds)

    def read(self) -> list[Said]:
        """In the parent: what was told since the last call. Never waits."""
        return [said for line in self._pipe.read() if (said := _parse(line)) is not None]

    def _write(self, line: _Line) -> None:
        self._pipe.write(line.model_dump_json(exclude_none=True).encode())


def _parse(line: bytes) -> Said | None:
    try:
        said = _Line.model_validate_json(line)
    except ValidationError:
        return None  # a child that was killed while it wrote
    return said.warm or said.failed or said.host_lost or said.host_warm
