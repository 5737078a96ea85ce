"""Where an export lies: a folder of this machine or a prefix in S3. Both commit a run in one atomic step.

    PLACE/
      calls/date=2026-05-01/RUN-LOT.parquet     what readers see: the files of committed runs
      _warmline/commits/00000007.sqlite         the newest one is the export's state
      _warmline/commits/00000007.done           all that it lists has been published

A run's files are staged first, where no reader sees them. Then its state is written under the next number, which
succeeds for one run only: that commits it. Then the staged files are published, which the next run completes if
this one dies over it. A run that dies before its commit leaves nothing that counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from warmline.jobs.errors import ObjectNotFound, PermanentError, TransientError
from warmline.objects.export_bucket import ExportBucket, PendingUpload

OWN = "_warmline/"  # names that begin so are left out by what reads folders of tables
COMMITS = f"{OWN}commits/"
GIVEN_UP_AFTER = timedelta(hours=24)  # an upload that began so long ago is of a run that died

Staged = tuple[str, str]  # a file's name, and the token that publishes it

_COMMIT = re.compile(r"(\d{8})\.sqlite")


class ExportBroken(PermanentError):
    """Files of the export that its state lists are gone; begin anew with --full."""

    code = "export_broken"
    title = "The export has lost files"


class ExportUnderWay(TransientError):
    """Another export to this place is under way, or was committed meanwhile; run this one again."""

    code = "export_under_way"
    title = "Another export is under way"


class Place(Protocol):
    """Holds an export. Names are relative to it, with slashes."""

    def hold(self) -> contextlib.AbstractContextManager[Path]:
        """A run's time: yields its scratch folder. Raises ExportUnderWay where that can be known at once."""

    def newest_commit(self) -> int:
        """The number of the last commit; 0: there is none."""

    def is_done(self, number: int) -> bool:
        """Whether all that this commit lists has been published."""

    def fetch(self, name: str, to: Path) -> None:
        """Copies a file to this machine. Raises ExportBroken."""

    def stage(self, name: str, path: Path) -> str:
        """Takes a file that is to be published as `name`, and returns a token for that. `path` is gone then."""

    def commit(self, number: int, state: Path) -> bool:
        """Writes the state under this number; False when there is one."""

    def publish(self, name: str, token: str) -> None:
        """Makes a staged file visible; again, it changes nothing. Raises ExportBroken."""

    def remove(self, names: Sequence[str]) -> None:
        """Removes files; what is not there is no error."""

    def done(self, number: int) -> None:
        """All that this commit lists has been published; earlier commits are not needed any more."""

    def discard(self, staged: Sequence[Staged]) -> None:
        """Gives up staged files, given as names and tokens."""

    def tidy(self) -> None:
        """Removes what dead runs left. Everything that was committed has been published."""


def commit_name(number: int) -> str:
    """The file of a commit."""
    return f"{COMMITS}{number:08}.sqlite"


def _done_name(number: int) -> str:
    return f"{COMMITS}{number:08}.done"


class Folder:
    """A folder of this machine. One run at a time: the kernel lets go of the lock however a process ends."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pending = root / OWN / "pending"
        self._scratch = self._pending
        self._in_doubt = False  # committed, and not all of it published

    @contextlib.contextmanager
    def hold(self) -> Iterator[Path]:
        """See `Place`. Staged files stay in the scratch folder, which a run that dies leaves to the next one."""
        (self._root / COMMITS).mkdir(parents=True, exist_ok=True)
        self._pending.mkdir(exist_ok=True)
        descriptor = os.open(self._root / OWN / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExportUnderWay(f"Another export to {self._root} is under way; wait for its end.") from None
            self._scratch = Path(tempfile.mkdtemp(prefix="run-", dir=self._pending))
            try:
                yield self._scratch
            finally:
                if not self._in_doubt:
                    shutil.rmtree(self._scratch)
        finally:
            os.close(descriptor)

    def newest_commit(self) -> int:
        """See `Place`."""
        return _newest(path.name for path in (self._root / COMMITS).iterdir())

    def is_done(self, number: int) -> bool:
        """See `Place`."""
        return (self._root / _done_name(number)).exists()

    def fetch(self, name: str, to: Path) -> None:
        """See `Place`."""
        try:
            shutil.copyfile(self._root / name, to)
        except FileNotFoundError:
            raise ExportBroken(f"{self._root / name} is gone; begin anew with --full.") from None

    def stage(self, name: str, path: Path) -> str:
        """See `Place`."""
        _flush(path)
        return path.relative_to(self._pending).as_posix()

    def commit(self, number: int, state: Path) -> bool:
        """See `Place`. The lock makes this run the only one."""
        target = self._root / commit_name(number)
        if target.exists():
            return False
        _flush(state)
        self._in_doubt = True
        state.replace(target)
        _flush(target.parent)
        return True

    def publish(self, name: str, token: str) -> None:
        """See `Place`."""
        target, staged = self._root / name, self._pending / token
        target.parent.mkdir(parents=True, exist_ok=True)
        if staged.exists():
            staged.replace(target)
        elif not target.exists():
            raise ExportBroken(f"{target} is gone; begin anew with --full.")

    def remove(self, names: Sequence[str]) -> None:
        """See `Place`; folders that get empty go too."""
        for name in names:
            path = self._root / name
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    def done(self, number: int) -> None:
        """See `Place`."""
        (self._root / _done_name(number)).touch()
        self._in_doubt = False
        for path in (self._root / COMMITS).glob("[0-9]*.*"):
            if path.name < f"{number:08}":
                path.unlink()

    def discard(self, staged: Sequence[Staged]) -> None:
        """See `Place`: they go with the scratch folder."""

    def tidy(self) -> None:
        """See `Place`."""
        for path in self._pending.iterdir():
            if path != self._scratch:
                shutil.rmtree(path, ignore_errors=True)


class Prefix:
    """A prefix in S3. Of several runs at once, one is committed."""

    def __init__(self, bucket: ExportBucket) -> None:
        self._bucket = bucket

    @contextlib.contextmanager
    def hold(self) -> Iterator[Path]:
        """See `Place`. Nothing is held: whether another run was quicker is known when this one is committed."""
        with tempfile.TemporaryDirectory(prefix="warmline-export-") as scratch:
            yield Path(scratch)

    def newest_commit(self) -> int:
        """See `Place`."""
        return _newest(name.removeprefix(COMMITS) for name in self._bucket.names(COMMITS))

    def is_done(self, number: int) -> bool:
        """See `Place`."""
        return self._bucket.exists(_done_name(number))

    def fetch(self, name: str, to: Path) -> None:
        """See `Place`."""
        try:
            self._bucket.fetch(name, to)
        except ObjectNotFound:
            raise ExportBroken(f"{self._bucket.uri(name)} is gone; begin anew with --full.") from None

    def stage(self, name: str, path: Path) -> str:
        """See `Place`: the upload is complete but for the request that says so."""
        pending = self._bucket.upload(name, path)
        path.unlink()
        return json.dumps(asdict(pending))

    def commit(self, number: int, state: Path) -> bool:
        """See `Place`."""
        return self._bucket.create(commit_name(number), state)

    def publish(self, name: str, token: str) -> None:
        """See `Place`."""
        try:
            self._bucket.complete(name, _pending(token))
        except ObjectNotFound:
            raise ExportBroken(f"{self._bucket.uri(name)} is gone; begin anew with --full.") from None

    def remove(self, names: Sequence[str]) -> None:
        """See `Place`."""
        self._bucket.remove(names)

    def done(self, number: int) -> None:
        """See `Place`."""
        with tempfile.NamedTemporaryFile() as empty:
            self._bucket.create(_done_name(number), Path(empty.name))
        mine = {commit_name(number), _done_name(number)}
        earlier = [name for name in self._bucket.names(COMMITS) if name not in mine and name < commit_name(number)]
        self._bucket.remove(earlier)

    def discard(self, staged: Sequence[Staged]) -> None:
        """See `Place`."""
        for name, token in staged:
            self._bucket.abort(name, _pending(token))

    def tidy(self) -> None:
        """See `Place`. Uploads of a run that may still be under way are left."""
        self._bucket.abort_older(GIVEN_UP_AFTER)


def _newest(names: Iterable[str]) -> int:
    found = (_COMMIT.fullmatch(name) for name in names)
    return max((int(match[1]) for match in found if match), default=0)


def _pending(token: str) -> PendingUpload:
    fields = json.loads(token)
    return PendingUpload(upload_id=fields["upload_id"], etags=tuple(fields["etags"]))


def _flush(path: Path) -> None:
    """Returns when the file, or the folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
