"""Servers that can be killed and started again where they were: the same port, the same data."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.settings import S3Settings
from tests.ports import choose_port, choose_seaweedfs_ports
from tests.servers import require_server
from warmline.local.ports import LOOPBACK
from warmline.local.seaweedfs import CLEARED_VARIABLES, SeaweedfsServer, seaweedfs_binary
from warmline.local.valkey import ValkeyServer, valkey_binary
from warmline.objects.store import ObjectStore

START_SECONDS = 60.0


class Server:
    """One server process; SIGKILL is the only way it ends."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        answers: Callable[[], bool],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command, self._log, self._answers = command, log, answers
        self._directory, self._environment = directory, {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers; fails the test when it does not."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{self._command[0]} does not serve:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, kw_only=True)
class Redis:
    """A broker and ledger to kill. `appendfsync always`, so it has what it acknowledged."""

    server: Server
    url: str


@dataclass(frozen=True, kw_only=True)
class S3:
    """A store to kill, and how to reach it. It has the buckets."""

    server: Server
    settings: S3Settings


@contextmanager
def killable_redis(directory: Path, *, host: str = LOOPBACK) -> Iterator[Redis]:
    """Runs it while the block lasts."""
    require_server(valkey_binary)
    valkey = ValkeyServer(
        directory=directory, port=choose_port(), password=secrets.token_urlsafe(16), host=host, databases=1
    )
    valkey.write_configuration()
    server = Server(valkey.command, directory / "server.log", valkey.answers)
    server.start()
    try:
        yield Redis(server=server, url=valkey.url())
    finally:
        server.kill()


@contextmanager
def killable_s3(directory: Path, *, host: str = LOOPBACK) -> Iterator[S3]:
    """Runs it while the block lasts."""
    require_server(seaweedfs_binary)
    seaweedfs = SeaweedfsServer(
        directory=directory,
        ports=choose_seaweedfs_ports(),
        access_key=secrets.token_hex(10),
        secret_key=secrets.token_urlsafe(24),
        host=host,
    )
    seaweedfs.write_configuration()
    server = Server(
        seaweedfs.command,
        directory / "server.log",
        seaweedfs.answers,
        directory=seaweedfs.working_directory,
        environment=dict.fromkeys(CLEARED_VARIABLES, ""),
    )
    settings = S3Settings.model_validate(
        {
            "endpoint_url": seaweedfs.endpoint_url,
            "access_key": seaweedfs.access_key,
            "secret_key": seaweedfs.secret_key,
        }
    )
    server.start()
    try:
        with closing(ObjectStore(settings)) as store:
            for bucket in (*settings.source_buckets, settings.results_bucket):
                store.ensure_bucket(bucket)
        yield S3(server=server, settings=settings)
    finally:
        server.kill()
        seaweedfs.remove_sockets()
