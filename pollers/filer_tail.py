"""The log of the embedded S3's filer: `weed filer.meta.tail`, a process that prints an entry for each change."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from warmline.jobs.errors import TransientError

log = structlog.get_logger()

MAX_ENTRY_BYTES = 32 * 1024**2  # an object of thousands of parts has an entry of a few MB
LOT_ENTRIES, LOT_BYTES = 200, 4 * 1024**2  # read at once, at most; what is more stays in the pipe
_GATHER_SECONDS = 0.003  # entries of one moment come together
_CHUNK_BYTES = 256 * 1024
_END = b"\n}\n"  # its JSON is indented: only an entry's last line has the brace in its first column

Entry = dict[str, Any]


class EntryTooLong(TransientError):
    """An entry of the filer's log is longer than Warmline reads; the buckets are listed instead."""

    code = "log_entry_too_long"
    title = "An entry is too long"


class EntryReader:
    """Cuts what the process prints into entries; a torn one stays inside. Holds one entry at most."""

    def __init__(self, max_bytes: int = MAX_ENTRY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._text = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Entry]:
        """The entries that this piece completes. Raises EntryTooLong."""
        searched = max(0, len(self._text) - len(_END) + 1)
        self._text += chunk
        while (end := self._text.find(_END, searched)) >= 0:
            text, searched = bytes(self._text[: end + 2]), 0
            del self._text[: end + len(_END)]
            yield from _parsed(text)
        if len(self._text) > self._max_bytes:
            raise EntryTooLong


def _parsed(text: bytes) -> Iterator[Entry]:
    """The entry, and those that it bundles: the filer does so for who has much to catch up with."""
    try:
        entry = json.loads(text)
        bundled = entry.pop("events", None) or ()
    except (ValueError, AttributeError):
        log.warning("log_entry_unreadable", size_bytes=len(text), begins=text[:200].decode(errors="replace"))
        return
    if entry.get("eventNotification"):
        yield entry
    yield from (each for each in bundled if isinstance(each, dict))


class FilerTail:
    """One such process while the block lasts. What is not read waits in the pipe, and then in the filer."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._reader = EntryReader()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=directory, bufsize=0
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._pipe = self._process.stdout.fileno()
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process:  # closes the pipe and waits
            self._process.kill()  # it has nothing to lose

    def read(self, wait_seconds: float) -> list[Entry]:
        """What has arrived, waiting so long for something to. Raises EntryTooLong."""
        entries: list[Entry] = []
        size_bytes, until = 0, time.monotonic() + wait_seconds
        while len(entries) < LOT_ENTRIES and size_bytes < LOT_BYTES:
            patience = _GATHER_SECONDS if entries else max(0.0, until - time.monotonic())
            if not select.select([self._pipe], [], [], patience)[0]:
                break
            chunk = os.read(self._pipe, _CHUNK_BYTES)
            if not chunk:
                self.ended = True  # a torn entry is dropped: the next process prints it whole
                break
            size_bytes += len(chunk)
            entries.extend(self._reader.feed(chunk))
        return entries
