"""What the part that follows S3's log leaves in the stack's data directory: how far it got, and how it is.

How far it got belongs to the data of that S3, so it lies beside them and not in Redis: whoever starts over with an
empty Redis, or shares one among stacks, has not all recordings of the past scored for it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from warmline.local.private_files import write_private

log = structlog.get_logger()

SAVE_SECONDS = 1.0  # what is read again after SIGKILL; an upload that is read twice has one job
TOUCH_SECONDS = 1.0
SILENT_SECONDS = 30.0  # longer than one request to Redis and one to S3 may take


class _Position(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    since_ns: int  # nanoseconds since the epoch, by the filer's clock, which is this machine's
    reached_ns: int


class LogPosition:
    """From when on uploads count, and how far they have been entered: what lies between the two has its jobs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._now: _Position | None = None
        self._saved = float("-inf")  # monotonic seconds

    def begin(self) -> None:
        """Where nothing has been kept: uploads count from now on, older ones do not."""
        if self._read() is None:
            now = time.time_ns()
            self._write(_Position(since_ns=now, reached_ns=now))

    def forget(self) -> None:
        """Uploads do not count until the next `begin`."""
        self._path.unlink(missing_ok=True)

    @property
    def since_ns(self) -> int:
        """What was uploaded before does not count."""
        return self._known().since_ns

    @property
    def reached_ns(self) -> int:
        """What was uploaded before has been entered."""
        return self._known().reached_ns

    def move(self, reached_ns: int) -> None:
        """Everything before this has been entered. Written down now and then; `save` does so at once."""
        known = self._known()
        if reached_ns > known.reached_ns:
            self._now = known.model_copy(update={"reached_ns": reached_ns})
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Writes down how far it is."""
        if self._now is not None and self._now != self._read():
            self._write(self._now)
        self._saved = time.monotonic()

    def _known(self) -> _Position:
        if self._now is None:
            self.begin()
            self._now = self._read()
        assert self._now is not None  # noqa: S101 - just begun
        return self._now

    def _read(self) -> _Position | None:
        try:
            return _Position.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            log.warning("log_position_unreadable", path=str(self._path))
            return None

    def _write(self, position: _Position) -> None:
        write_private(self._path, position.model_dump_json())


class _Sign(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    waits_for: str | None


class SignOfLife:
    """How the part is, as it says itself: the file's time is that of its last word."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said: str | None = ""
        self._touched = float("-inf")  # monotonic seconds

    def give(self, waits_for: str | None) -> None:
        """None: it follows the log."""
        now = time.monotonic()
        if waits_for != self._said or not self._path.exists():
            write_private(self._path, _Sign(pid=os.getpid(), waits_for=waits_for).model_dump_json())
        elif now - self._touched > TOUCH_SECONDS:
            os.utime(self._path)
        else:
            return
        self._said, self._touched = waits_for, now

    def waits_for(self, pid: int) -> str | None:
        """For another process: what the part with this pid waits for; None when it follows the log."""
        try:
            sign = _Sign.model_validate_json(self._path.read_bytes())
            age_seconds = time.time() - self._path.stat().st_mtime
        except (FileNotFoundError, ValidationError):
            return "its first look at the log"
        if sign.pid != pid:
            return "its first look at the log"
        if age_seconds > SILENT_SECONDS:
            return f"a sign of life; the last one was {age_seconds:.0f} s ago"
        return sign.waits_for
