"""The data directory of a stack: what lies where in it. All of it belongs to its owner alone."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from config.settings import STACK_ENV_FILE
from warmline.local.parts import StackError
from warmline.local.private_files import make_private_directory

_SOCKET_PATH_BYTES = 100  # the kernel takes 107; the supervisor appends its pid while it makes the socket


class StackDirectory:
    """The paths of one stack. Making one touches nothing; `make` does."""

    def __init__(self, path: Path) -> None:
        # Resolved, so that two names of one directory are one stack.
        self.path = path.expanduser().resolve()
        self.logs = self.path / "logs"
        self.run = self.path / "run"  # what matters only while the stack runs
        self.lock_file = self.run / "lock"
        self.state_file = self.run / "state.json"
        self.uploads_sign_file = self.run / "uploads.json"
        self.supervisor_file = self.run / "supervisord.conf"
        self.supervisor_log = self.logs / "supervisord.log"
        self.credentials_file = self.path / "credentials.json"
        self.ports_file = self.path / "ports.json"
        self.uploads_file = self.path / "uploads.json"  # up to when uploads have been entered as jobs
        self.clients_file = self.path / STACK_ENV_FILE  # what `warmline submit` and others read

    def __repr__(self) -> str:
        return f"StackDirectory({str(self.path)!r})"

    def make(self) -> None:
        """Makes the directories. Raises StackError when that is not possible."""
        try:
            for path in (self.path, self.logs, self.run):
                make_private_directory(path)
        except OSError as error:
            raise StackError(
                f"The data directory {self.path} cannot be used: {error.strerror}; choose another with --data."
            ) from error

    def of(self, part: str) -> Path:
        """Where a part keeps its data."""
        return self.path / part

    def log_of(self, part: str) -> Path:
        """What a part printed; older lines are in the same name with .1, .2, …"""
        return self.logs / f"{part}.log"

    @property
    def socket_file(self) -> Path:
        """The supervisor's socket: in `run`, or in a short place of our own where that path is too long."""
        inside = self.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= _SOCKET_PATH_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(f"/tmp/warmline-{os.getuid()}-{digest}/supervisor.sock")  # noqa: S108 - checked in make_socket_directory

    def make_socket_directory(self) -> None:
        """Makes the socket's directory, and removes a socket that an ended supervisor left. Raises StackError."""
        directory = self.socket_file.parent
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StackError(f"{directory} is not a private directory of yours; remove it and start again.")
        for stale in directory.glob(f"{self.socket_file.name}*"):
            stale.unlink(missing_ok=True)

    def remove_run_files(self) -> None:
        """Removes what says that a stack runs here; the lock stays, because somebody may be waiting for it."""
        left = (self.state_file, self.clients_file, self.supervisor_file, self.uploads_sign_file)
        for path in (*left, self.run / "supervisord.pid"):
            path.unlink(missing_ok=True)
        if self.socket_file.parent.is_dir():
            self.make_socket_directory()
            if self.socket_file.parent != self.run:
                self.socket_file.parent.rmdir()
