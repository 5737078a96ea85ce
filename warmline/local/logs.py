"""The logs of a stack's parts, as one: rotated files in order, the parts' lines merged by time, and what follows.

Everything is read as it is shown: memory does not grow with the length of a log.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from warmline.local.directory import StackDirectory
from warmline.local.log_entries import LogEntry, parse_line
from warmline.local.log_lines import LogFollower
from warmline.local.parts import ORDER, StackError

POLL_SECONDS: Final = 0.2
LINE_BYTES: Final = 64 * 1024  # a longer line is taken in pieces

_NOT_PARTS: Final = frozenset({"supervisord", "up"})  # of interest only to who asks for them


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which lines are to be shown."""

    job: str = ""  # its id, or how that begins
    batch: str = ""
    level: int = 0  # at least, as `logging` counts
    since: float = 0.0  # seconds since the epoch

    def may_be(self, text: str) -> bool:
        """Whether a line can be one of those; looked at before it is parsed."""
        return self.job in text and self.batch[:24] in text

    def is_met(self, entry: LogEntry) -> bool:
        """Whether a line is one of those. One that does not say how grave it is counts as an ordinary one."""
        if (entry.at or self.since) < self.since:
            return False
        if self.level and (entry.level or 0) < self.level:
            return False
        if not (self.job or self.batch):
            return True
        fields = entry.fields or {}
        job_id, batch_id, path = (str(fields.get(name) or "") for name in ("job_id", "batch_id", "path"))
        about_job = job_id.startswith(self.job) or f"/jobs/{self.job}" in path
        # A batch's jobs have its id but for the last digits: warmline/jobs/batch_ids.py.
        about_batch = (
            batch_id.startswith(self.batch)
            or f"/batches/{self.batch}" in path
            or (len(self.batch) >= 24 and job_id.startswith(self.batch[:24]))
        )
        return about_job and about_batch and bool(fields)


class StackLogs:
    """The logs in a stack's directory, of a stack that runs or has ended, while the block lasts."""

    def __init__(self, directory: StackDirectory, parts: Sequence[str] = ()) -> None:
        """Those of these parts, or all. Raises StackError where there is none."""
        there = {path.name.removesuffix(".log") for path in directory.logs.glob("*.log")}
        if not there:
            raise StackError(
                f"There are no logs in {directory.logs}: no stack has run there. Choose another directory with "
                "--data, or hand lines on: `docker compose logs --no-log-prefix worker | warmline logs -`."
            )
        if unknown := sorted(set(parts) - there):
            raise StackError(
                f"No part has written a log as {', '.join(unknown)}; there are {', '.join(sorted(there))}."
            )
        known = [name for name in ORDER if name in there]
        others = sorted(there - set(ORDER) - _NOT_PARTS)
        self.parts = tuple(dict.fromkeys(parts)) or (*known, *others)
        self._logs = [_PartLog(name, directory.log_of(name)) for name in self.parts]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self._logs:
            log.close()

    def written(self, wanted: Wanted) -> Iterator[LogEntry]:
        """What has been written up to now, in the order of time."""
        streams = (log.written(wanted) for log in self._logs)
        yield from (entry for entry in heapq.merge(*streams, key=_moment) if wanted.is_met(entry))

    def torn(self, wanted: Wanted) -> Iterator[LogEntry]:
        """The lines at the ends of the logs that somebody is still writing, or that he died over."""
        for log in self._logs:
            yield from (entry for entry in log.torn(wanted) if wanted.is_met(entry))

    def followed(self, wanted: Wanted) -> Iterator[LogEntry]:
        """What is written from where `written` ended; never ends."""
        while True:
            news = [entry for log in self._logs for entry in log.new(wanted) if wanted.is_met(entry)]
            yield from sorted(news, key=_moment)
            if not news:
                time.sleep(POLL_SECONDS)


class _PartLog:
    """One part's files."""

    def __init__(self, part: str, path: Path) -> None:
        self._part, self._path = part, path
        # Opened before the older ones are looked for: what is rotated meanwhile is in neither of them twice.
        self._follower = LogFollower(path, from_start=True)
        self._older = self._rotated()
        self._at: float | None = None  # of the last line that had a time

    def written(self, wanted: Wanted) -> Iterator[LogEntry]:
        for path in self._older:
            with suppress(FileNotFoundError), path.open("rb") as file:
                if path.stat().st_mtime >= wanted.since:
                    yield from self._entries(lines_of(file), wanted)
        yield from self.new(wanted)

    def close(self) -> None:
        self._follower.close()

    def torn(self, wanted: Wanted) -> Iterator[LogEntry]:
        line = self._follower.torn_line()
        return self._entries(iter([line] if line else []), wanted)

    def new(self, wanted: Wanted) -> Iterator[LogEntry]:
        return self._entries(self._follower.new_lines(), wanted)

    def _rotated(self) -> list[Path]:
        """The oldest first."""
        found: list[tuple[int, Path]] = []
        for path in self._path.parent.glob(f"{self._path.name}.*"):
            number = re.fullmatch(r"\.(\d+)", path.name.removeprefix(self._path.name))
            with suppress(FileNotFoundError):
                if number is not None and not self._follower.is_at(path):
                    found.append((-int(number[1]), path))
        return [path for _, path in sorted(found)]

    def _entries(self, lines: Iterator[str], wanted: Wanted) -> Iterator[LogEntry]:
        for line in lines:
            if not line or not wanted.may_be(line):
                continue
            entry = parse_line(line, self._part)
            if entry.at is None:  # of a traceback, perhaps: it belongs to what stands before it
                entry = replace(entry, at=self._at)
            self._at = entry.at
            yield entry


def entries_of(file: BinaryIO, wanted: Wanted) -> Iterator[LogEntry]:
    """From somebody else's logs, as they come: lines that are not ours are shown as they are."""
    for line in lines_of(file):
        if wanted.may_be(line):
            entry = parse_line(line)
            if wanted.is_met(entry):
                yield entry


def lines_of(file: BinaryIO) -> Iterator[str]:
    """A file's lines, a long one in pieces."""
    while raw := file.readline(LINE_BYTES):
        yield raw.decode(errors="replace").rstrip("\r\n")


def _moment(entry: LogEntry) -> float:
    return entry.at or 0.0
