"""Stored reports, each in its place, with their categories worked out anew: in S3, in files, in Redis."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from warmline.calls.categories.backfill import Change, Outcome, outcome_of, redo
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.report_reading import NotAReport
from warmline.calls.stored_reports import BucketShelf, FolderShelf, LinesShelf, ReportRef
from warmline.jobs.errors import ObjectChanged, ObjectNotFound, WarmlineError
from warmline.jobs.kept_reports import KeptReport, KeptReports
from warmline.objects.store import ObjectStore


class BucketRewriter:
    """Of reports in S3. Threads may share it."""

    def __init__(self, store: ObjectStore, bucket: str, rules: CategoryRules, *, dry_run: bool) -> None:
        self._store = store
        self._shelf = BucketShelf(store, bucket, "")
        self._scheme = f"s3://{bucket}/"
        self._rules = rules
        self._dry_run = dry_run

    def rewrite(self, ref: ReportRef) -> Outcome:
        """Reads one and puts it back, unless it is another one by then. Raises nothing."""

        def write(body: bytes) -> str | None:
            try:
                return self._store.replace_report(ref.place.removeprefix(self._scheme), body, ref.version)
            except ObjectChanged:
                return None

        try:
            body = self._shelf.body(ref)
        except ObjectNotFound:
            return Outcome(place=ref.place, change=Change.MISSED, reason="it was removed meanwhile")
        except WarmlineError as error:
            return Outcome(place=ref.place, change=Change.UNREADABLE, reason=error.message)
        outcome = outcome_of(ref.place, body, self._rules, None if self._dry_run else write)
        return replace(outcome, version=ref.version) if outcome.change is Change.CURRENT else outcome


def rewrite_folder(shelf: FolderShelf, rules: CategoryRules, *, dry_run: bool) -> Iterator[Outcome]:
    """The files of a folder, each put back in one step. Raises OSError where the folder cannot be listed."""
    for ref in shelf.refs():
        path = Path(ref.place)
        try:
            body, status = path.read_bytes(), path.stat()
        except OSError as error:
            yield Outcome(place=ref.place, change=Change.UNREADABLE, reason=str(error))
            continue
        if f"{status.st_mtime_ns}-{status.st_size}" != ref.version:
            yield Outcome(place=ref.place, change=Change.MISSED, reason="it was replaced meanwhile")
            continue
        yield outcome_of(ref.place, body, rules, None if dry_run else _Replacement(path))


class _Replacement:
    """Puts a file in another one's place: who reads it meanwhile has the old one or the new one, whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, body: bytes) -> str:
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")  # no .json at its end: no report
        try:
            beside.write_bytes(body)
            shutil.copymode(self._path, beside)
            beside.replace(self._path)
        except OSError:
            with suppress(OSError):
                beside.unlink()
            raise
        status = self._path.stat()
        return f"{status.st_mtime_ns}-{status.st_size}"


def rewrite_lines(shelf: LinesShelf, rules: CategoryRules, to: BinaryIO | None) -> Iterator[Outcome]:
    """The lines of a file, written to `to` in their order; what is no report goes there as it is."""
    for ref in shelf.refs():
        line = shelf.body(ref).rstrip(b"\r\n")
        try:
            redone = redo(line, rules)
        except NotAReport as error:
            outcome = Outcome(place=ref.place, change=Change.UNREADABLE, reason=str(error))
        else:
            change = Change.CURRENT if redone.body is None else Change.WRITTEN
            outcome = Outcome(place=ref.place, change=change, before=redone.before, after=redone.after)
            line = redone.body or line
        if to is not None:
            to.write(line + b"\n")
        yield outcome


def rewrite_kept(
    kept: KeptReports, rules: CategoryRules, *, bucket: str, prefix: str, dry_run: bool
) -> Iterator[Outcome]:
    """The reports that Redis keeps. With a prefix only those of which S3 has one below it; else all.

    Raises LedgerUnavailable.
    """
    for report in kept.read():
        location = report.location
        if prefix and not (
            location is not None
            and location.bucket == bucket
            and location.key is not None
            and location.key.startswith(prefix)
        ):
            continue
        write = None if dry_run else _KeptReplacement(kept, report)
        yield outcome_of(f"redis:{report.job_id}", report.body, rules, write)


class _KeptReplacement:
    """Puts a report into Redis in place of the one that was read."""

    def __init__(self, kept: KeptReports, report: KeptReport) -> None:
        self._kept = kept
        self._report = report

    def __call__(self, body: bytes) -> str | None:
        replaced = self._kept.replace(self._report.job_id, old=self._report.body, new=body)
        return "" if replaced else None
