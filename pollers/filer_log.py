"""Makes jobs of uploads to the embedded S3: `python -m pollers.filer_log`, a part of the one-machine stack.

It follows the filer's log, which has an upload a millisecond after its PUT was answered, and replays what was
missed while this process was down. A filer that is killed forgets up to a minute of its log: so whenever the log
is followed anew, the buckets are listed too, and what was modified since the last known position goes the same
way. An upload has one job however often it is met, so both may overlap.

Uploads are taken off the log only when their jobs are in the ledger. While Redis does not answer, or no more jobs
may wait, nothing is read on: the log waits in the pipe, then in the filer.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import structlog

from config.logging import configure_logging
from config.settings import Settings, SettingsError, load_settings
from pollers.filer_tail import Entry, FilerTail
from warmline.jobs.connection import refuse_newer_ledger
from warmline.jobs.errors import LedgerTooNew, StoreUnavailable, TransientError, WarmlineError
from warmline.jobs.layout import TOO_NEW_EXIT
from warmline.local.directory import StackDirectory
from warmline.local.seaweedfs import log_command
from warmline.local.uploads import LogPosition, SignOfLife
from warmline.objects.events import Upload, decode_log_entry
from warmline.objects.store import ListedCall, ObjectStore
from warmline.telemetry.tracing import Tracing
from warmline.triggers.intake import Intake, as_upload

log = structlog.get_logger()

BAD_SETTINGS = 2  # exit code

WAIT_SECONDS = 0.25  # for entries, before looking whether it is to stop
OVERLAP_SECONDS = 1.0  # of the log, read again
MARGIN = timedelta(minutes=2)  # of the listing: its times are whole seconds, and clocks are set
PAGE = 200  # listed objects that are looked at between two looks at the log
MARK_SECONDS = 30.0  # a log that does not show our own mark after so long is not followed
PULSE_SECONDS = 300.0  # how often a quiet log is tried
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0

REDIS_SECONDS, STORE_SECONDS = 2.0, 4.0  # it tries again by itself: no use in waiting long for one answer


class LogSilent(TransientError):
    """The filer's log does not show what is written; it is followed anew."""

    code = "log_silent"
    title = "The filer's log is silent"


class Stopped(Exception):
    """This process is to end."""


@dataclass
class Session:
    """The life of one process that prints the log."""

    tail: FilerTail
    begin_ns: int  # everything before this has been entered, or does not count
    reached_ns: int  # so has everything that the log showed before this
    mark: str | None  # an entry of our own that is to come
    heard: float = field(default_factory=time.monotonic)  # monotonic seconds: of the last entry, or the mark
    caught_up: bool = False  # the first mark has come
    missed: Iterator[ListedCall] | None = None  # what is still to be looked at
    found: Counter[str] = field(default_factory=Counter)  # what became of it
    covered: bool = False  # all of it has been looked at


class UploadFollower:
    """Follows the log until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        store: ObjectStore,
        filer: str,
        home: Path,
        stop: threading.Event,
        *,
        mark_seconds: float = MARK_SECONDS,
        tracing: Tracing | None = None,
    ) -> None:
        """`filer` is its host:port, `home` the directory that it runs in."""
        self._mark_seconds = mark_seconds
        self._buckets = settings.s3.source_buckets
        self._intake, self._store = intake, store
        self._tracing = tracing or Tracing()
        self._filer, self._home = filer, home
        self._stop = stop
        directory = StackDirectory(settings.stack.data_dir)
        self._position = LogPosition(directory.uploads_file)
        self._sign = SignOfLife(directory.uploads_sign_file)
        self._replay = True

    def run(self) -> None:
        """Returns when it is stopped. Whatever ends the log, it is followed again."""
        pauses = _pauses()
        while not self._stop.is_set():
            try:
                if self._follow():
                    pauses = _pauses()
                reason = "S3's log to be there again"
            except Stopped:
                break
            except WarmlineError as error:  # S3 restarts, and may say anything meanwhile
                reason = f"S3's log: {error.message}"
            if self._stop.is_set():
                break
            log.warning("filer_log_ended", waits_for=reason)
            self._sign.give(reason)
            self._stop.wait(next(pauses))
        self._sign.give("its end")

    def _follow(self) -> bool:
        """Follows the log until it ends; whether it was followed up to the present."""
        begin_ns = self._position.reached_ns
        marked_ns = time.time_ns()
        mark = self._store.mark(self._buckets[0])
        # What makes the process end before it has caught up would do so again: the listing has to do then.
        since_ns = begin_ns if self._replay else marked_ns
        since_seconds = max(0.0, (time.time_ns() - since_ns) / 1e9) + OVERLAP_SECONDS
        command = log_command(self._filer, _common_path(self._buckets), since_seconds)
        with FilerTail(command, self._home) as tail:
            session = Session(tail=tail, begin_ns=begin_ns, reached_ns=begin_ns, mark=mark)
            try:
                while not (self._stop.is_set() or tail.ended):
                    self._step(session)
            finally:
                self._replay = session.caught_up
                self._position.save()
        return session.caught_up

    def _step(self, session: Session) -> None:
        entries = session.tail.read(0.0 if session.missed is not None else WAIT_SECONDS)
        quiet_seconds = time.monotonic() - session.heard
        if entries:
            self._sign.give(None)  # it is followed, though Redis may not take what it says
            self._take(session, entries)
        elif session.mark is not None and quiet_seconds > self._mark_seconds:
            raise LogSilent
        elif session.mark is None and quiet_seconds > PULSE_SECONDS:
            session.mark, session.heard = self._store.mark(self._buckets[0]), time.monotonic()
        if session.missed is not None:
            self._look_at_missed(session, session.missed)
        if session.covered:
            # Not before: what the filer forgot lies between the position and here.
            self._position.move(session.reached_ns)
        if session.caught_up:
            self._sign.give(None)

    def _take(self, session: Session, entries: Sequence[Entry]) -> None:
        uploads: list[Upload] = []
        for entry in entries:
            if _ts_ns(entry) < self._position.since_ns:
                continue
            decoded = decode_log_entry(entry)
            uploads.extend(decoded.uploads)
            for sentence in decoded.malformed:
                log.warning("log_entry_malformed", error=sentence)
        self._enter(uploads)
        session.heard = time.monotonic()
        session.reached_ns = max(session.reached_ns, *map(_ts_ns, entries))
        if session.mark in {_name(entry) for entry in entries}:
            session.mark = None
            if not session.caught_up:
                session.caught_up = True
                session.missed = (call for bucket in self._buckets for call in self._store.list_calls(bucket))
                log.info("filer_log_followed", since=_moment(session.begin_ns).isoformat())

    def _look_at_missed(self, session: Session, missed: Iterator[ListedCall]) -> None:
        since = max(_moment(session.begin_ns) - MARGIN, _moment(self._position.since_ns).replace(microsecond=0))
        page = list(islice(missed, PAGE))
        recent = [as_upload(call) for call in page if call.last_modified >= since]
        session.found.update(self._enter(recent))
        session.found["older_than_position"] += len(page) - len(recent)
        if not page:
            session.missed, session.covered = None, True
            log.info("buckets_listed", **session.found)

    def _enter(self, uploads: Sequence[Upload]) -> Mapping[str, int]:
        """Has jobs entered, waiting for Redis or a shorter backlog as long as it takes.

        Raises Stopped; StoreUnavailable, which ends the log as well: all of this comes again then.
        """
        wanted = [upload for upload in uploads if upload.source.bucket in self._buckets]
        if not wanted:
            return {}
        pauses, said = _pauses(), ""
        while True:
            try:
                with self._tracing.root("uploads", attributes={"messaging.batch.message_count": len(wanted)}):
                    counts = self._intake.accept(wanted).counts
            except StoreUnavailable:
                raise
            except TransientError as error:
                if error.message != said:
                    log.warning("uploads_wait", uploads=len(wanted), code=error.code, error=error.message)
                said = error.message
                self._sign.give(error.message)
            else:
                self._sign.give(None)
                return counts
            if self._stop.wait(next(pauses)):
                raise Stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT. Returns the exit code: 0, 2 for bad settings, 3 for a newer ledger."""
    parser = argparse.ArgumentParser(prog="python -m pollers.filer_log", description=__doc__)
    parser.add_argument("--filer", required=True, help="host:port of the embedded S3's filer")
    parser.add_argument("--home", required=True, type=Path, help="the directory that the filer runs in")
    given = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = _impatient(load_settings())
        configure_logging(settings, process="uploads")
        refuse_newer_ledger(settings.redis)
        intake = Intake.connect(settings)
        tracing = Tracing(settings, process="uploads")
    except SettingsError as error:
        print(f"uploads: {error}", file=sys.stderr)
        return BAD_SETTINGS
    except LedgerTooNew as error:
        print(f"uploads: {error.message}", file=sys.stderr)
        return TOO_NEW_EXIT
    store = ObjectStore(settings.s3)
    try:
        UploadFollower(settings, intake, store, given.filer, given.home, stop, tracing=tracing).run()
    finally:
        tracing.stop()
        intake.close()
        store.close()
    return 0


def _impatient(settings: Settings) -> Settings:
    redis = {"timeout_seconds": min(settings.redis.timeout_seconds, REDIS_SECONDS)}
    s3 = {"timeout_seconds": min(settings.s3.timeout_seconds, STORE_SECONDS)}
    return settings.model_copy(
        update={
            "redis": settings.redis.model_copy(update=redis),
            "s3": settings.s3.model_copy(update=s3),
        }
    )


def _common_path(buckets: Sequence[str]) -> str:
    """Where the one bucket lies, or all of them: a process for each would take 100 MB each."""
    return f"/buckets/{buckets[0]}/" if len(buckets) == 1 else "/buckets/"


def _name(entry: Entry) -> str | None:
    """What the entry says is there now."""
    new = (entry.get("eventNotification") or {}).get("newEntry") or {}
    return new.get("name")


def _ts_ns(entry: Entry) -> int:
    """When it was written, by the filer's clock."""
    text = str(entry.get("tsNs", ""))
    return int(text) if text.isdecimal() else 0


def _moment(ts_ns: int) -> datetime:
    return datetime.fromtimestamp(ts_ns / 1e9, UTC)


def _pauses() -> Iterator[float]:
    """Seconds between attempts: twice as long each time."""
    seconds = FIRST_PAUSE_SECONDS
    while True:
        yield seconds
        seconds = min(LONGEST_PAUSE_SECONDS, 2 * seconds)


if __name__ == "__main__":
    sys.exit(main())
