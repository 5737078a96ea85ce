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

    ts_ns: int  # the filer's clock, which is this machine's


class LogPosition:
    """How far uploads have been entered: all that was uploaded before this moment has its job."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ts_ns: int | None = None
        self._saved = float("-inf")  # monotonic seconds

    def begin(self) -> None:
        """Where nothing has been kept: uploads count from now on, older ones do not."""
        if self._read() is None:
            self._write(time.time_ns())

    def forget(self) -> None:
        """Uploads do not count until the next `begin`."""
        self._path.unlink(missing_ok=True)

    @property
    def ts_ns(self) -> int:
        """Nanoseconds since the epoch; now where nothing has been kept."""
        if self._ts_ns is None:
            self.begin()
            self._ts_ns = self._read() or time.time_ns()
        return self._ts_ns

    def move(self, ts_ns: int) -> None:
        """Everything before this has been entered. Written down now and then; `save` does so at once."""
        if ts_ns > self.ts_ns:
            self._ts_ns = ts_ns
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self.save()

    def save(self) -> None:
        """Writes down how far it is."""
        if self._ts_ns is not None and self._ts_ns != self._read():
            self._write(self._ts_ns)

    def _read(self) -> int | None:
        try:
            return _Position.model_validate_json(self._path.read_bytes()).ts_ns
        except FileNotFoundError:
            return None
        except ValidationError:
            log.warning("log_position_unreadable", path=str(self._path))
            return None

    def _write(self, ts_ns: int) -> None:
        write_private(self._path, _Position(ts_ns=ts_ns).model_dump_json())
        self._saved = time.monotonic()


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
