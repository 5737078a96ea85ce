"""Reports that were made: read from S3, from a folder or from a file of JSON lines, many at once and in order.

Rules applied anew, exports, aggregates and overviews all read them here. What is no report is told of
and left out; it never ends the reading.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from warmline.calls.report import Report
from warmline.calls.report_reading import NotAReport, read_report
from warmline.jobs.errors import InvalidRequest, WarmlineError
from warmline.jobs.records import ReportLocation
from warmline.objects.store import ObjectStore

READERS = 8  # requests under way at once: S3 answers after milliseconds in which nothing else would happen
AHEAD = 4 * READERS  # reports that are read before they are asked for


@dataclass(frozen=True, kw_only=True)
class ReportRef:
    """A report that was found, not yet read."""

    place: str  # s3://bucket/key, a file's path, or path:line
    version: str  # changes when the report does: an ETag, a file's time and size, a line's digest


@dataclass(frozen=True, kw_only=True)
class StoredReport(ReportRef):
    """A report and where it lies."""

    report: Report


@dataclass(frozen=True, kw_only=True)
class Unreadable(ReportRef):
    """What lies among reports and cannot be read as one."""

    reason: str


class Shelf(Protocol):
    """A place where reports are."""

    def refs(self) -> Iterator[ReportRef]:
        """All of them, in the place's own order. Raises what the place raises when it cannot be listed."""

    def body(self, ref: ReportRef) -> bytes:
        """One report's JSON. Raises WarmlineError, OSError."""


class BucketShelf:
    """The results bucket, below a prefix."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix

    def refs(self) -> Iterator[ReportRef]:
        """See `Shelf`; what is no report by its name (embeddings, markers) is left out."""
        for key, etag in self._store.list_reports(self._prefix):
            if key.endswith(".json") and "@" in key:
                yield ReportRef(place=f"s3://{self._bucket}/{key}", version=etag)

    def body(self, ref: ReportRef) -> bytes:
        """See `Shelf`."""
        key = ref.place.removeprefix(f"s3://{self._bucket}/")
        return self._store.get_report(ReportLocation(bucket=self._bucket, key=key))


class FolderShelf:
    """The files `*.json` below a folder, each a report."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def refs(self) -> Iterator[ReportRef]:
        """See `Shelf`; folder by folder in the order of their names, of which one folder's are held at once."""
        return self._below(self._folder)

    def _below(self, folder: Path) -> Iterator[ReportRef]:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(Path(entry.path))
            elif entry.name.endswith(".json"):
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    status = entry.stat()
                    yield ReportRef(place=entry.path, version=f"{status.st_mtime_ns}-{status.st_size}")

    def body(self, ref: ReportRef) -> bytes:
        """See `Shelf`."""
        return Path(ref.place).read_bytes()


class LinesShelf:
    """A file with one report a line, as `warmline analyze --json` writes it; `-` is stdin."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = b""

    def refs(self) -> Iterator[ReportRef]:
        """See `Shelf`. The lines are read once, in order: each body has to be taken before the next ref."""
        file = sys.stdin.buffer if str(self._path) == "-" else self._path.open("rb")
        with file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    self._line = line
                    digest = hashlib.blake2b(line.strip(), digest_size=8).hexdigest()
                    yield ReportRef(place=f"{self._path}:{number}", version=digest)

    def body(self, ref: ReportRef) -> bytes:
        """See `Shelf`."""
        return self._line


def open_shelf(place: str, store: Callable[[], ObjectStore], *, bucket: str, prefix: str) -> Shelf:
    """The shelf at `place`: s3://bucket/prefix (of the results bucket), a folder, a .jsonl file, or `-` for stdin.

    An empty place is the results bucket below its prefix. `store` is called only where S3 is meant. Raises
    InvalidRequest.
    """
    if not place:
        return BucketShelf(store(), bucket, prefix)
    if place.startswith("s3://"):
        named, _, below = place.removeprefix("s3://").partition("/")
        if named != bucket:
            raise InvalidRequest(f"{place}: reports are in the bucket {bucket} (WARMLINE_S3_RESULTS_BUCKET)")
        return BucketShelf(store(), bucket, below or prefix)
    # Whole: a report keeps its place from wherever it is read.
    path = Path(place) if place == "-" else Path(place).resolve()
    if path.is_dir():
        return FolderShelf(path)
    if place == "-" or path.is_file():
        return LinesShelf(path)
    raise InvalidRequest(f"{place} is no folder, no file of JSON lines and no s3://bucket/prefix")


def read_reports(
    shelf: Shelf, *, wanted: Callable[[ReportRef], bool] | None = None
) -> Iterator[StoredReport | Unreadable]:
    """The shelf's reports in its order, READERS at once. Those that are not `wanted` are not read.

    Memory: AHEAD reports at most, besides the one that was handed out. Raises what the shelf raises when listed.
    """
    refs: Iterable[ReportRef] = shelf.refs() if wanted is None else filter(wanted, shelf.refs())
    if isinstance(shelf, LinesShelf):
        yield from (_parse(ref, _take(shelf, ref)) for ref in refs)
        return
    # The readers only wait for bytes. Parsing holds the interpreter: in their threads it would be half as fast.
    waiting: deque[tuple[ReportRef, Future[bytes | str]]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="reports") as pool:
        try:
            for ref in refs:
                waiting.append((ref, pool.submit(_take, shelf, ref)))
                if len(waiting) >= AHEAD:
                    first, taken = waiting.popleft()
                    yield _parse(first, taken.result())
            while waiting:
                first, taken = waiting.popleft()
                yield _parse(first, taken.result())
        finally:
            for _, taken in waiting:
                taken.cancel()


def _take(shelf: Shelf, ref: ReportRef) -> bytes | str:
    """A report's bytes, or why there are none."""
    try:
        return shelf.body(ref)
    except WarmlineError as error:
        return error.message
    except OSError as error:
        return str(error)


def _parse(ref: ReportRef, taken: bytes | str) -> StoredReport | Unreadable:
    if isinstance(taken, str):
        return Unreadable(place=ref.place, version=ref.version, reason=taken)
    try:
        report = read_report(taken)
    except NotAReport as error:
        return Unreadable(place=ref.place, version=ref.version, reason=str(error))
    return StoredReport(place=ref.place, version=ref.version, report=report)
