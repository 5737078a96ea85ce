"""Real servers for tests: started once a session, on free ports, gone at its end.

They are the servers of the one-machine stack, run by the code that runs them there.
"""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from config.settings import S3Settings
from tests.ports import choose_port, choose_seaweedfs_ports
from warmline.local.parts import ServerMissing
from warmline.local.seaweedfs import CLEARED_VARIABLES, SeaweedfsServer, seaweedfs_binary
from warmline.local.valkey import ValkeyServer, valkey_binary

WAIT_SECONDS = 60.0  # alone nothing takes that long; on a busy machine a processor is away for seconds at a time
STOP_SECONDS = 10.0
DATABASES = 2048


def skip_or_fail(reason: str) -> NoReturn:
    """Something a test needs is not here: skips on a laptop, fails under CI=true."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{reason} (and CI is set)", pytrace=False)
    pytest.skip(reason)


def require_server(binary: Callable[[], Path]) -> None:
    """Skips or fails unless the server's binary is installed."""
    try:
        binary()
    except ServerMissing as missing:
        skip_or_fail(str(missing))


def wait_until(
    condition: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS, interval_seconds: float = 0.02
) -> None:
    """Returns when the condition holds; fails the test, naming `what`, when it does not within the time.

    Give no `seconds` but where it takes longer: a limit that is near what it takes alone fails on a busy machine.
    """
    deadline = time.monotonic() + seconds
    over = False
    while not condition():
        if over:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(interval_seconds)
        over = time.monotonic() > deadline  # what came to be while this process had to wait counts


def is_over(process: psutil.Process | int) -> bool:
    """Whether it has ended, though nobody may have asked for its exit code: not every first process does."""
    try:
        return psutil.Process(getattr(process, "pid", process)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    answers: Callable[[], bool],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server while the block lasts; inside it, the server answers."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # a Ctrl-C in the terminal is for pytest, which then stops the server
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(), f"{command[0]} answers")
        if process.poll() is not None:
            pytest.fail(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RedisServer:
    """A running server with a password and many databases, so that a test can have one for itself."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self._unused = itertools.count(1)

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._server.host

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    @property
    def password(self) -> str:
        """What AUTH wants."""
        return self._server.password

    def url(self, database: int = 0) -> str:
        """redis://:password@host:port/database"""
        return self._server.url(database)

    def new_database_url(self) -> str:
        """The URL of a database that nobody has used in this session."""
        return self.url(next(self._unused) % DATABASES)


@contextmanager
def running_redis(directory: Path) -> Iterator[RedisServer]:
    """A Redis of one's own, for a test that kills it or fills it; others share `redis_server`."""
    require_server(valkey_binary)
    server = ValkeyServer(
        directory=directory, port=choose_port(), password=secrets.token_urlsafe(16), databases=DATABASES
    )
    server.write_configuration()
    with running(server.command, directory / "server.log", server.answers):
        yield RedisServer(server)


@contextmanager
def running_s3(directory: Path, *, notification: str = "") -> Iterator[S3Settings]:
    """An S3 of one's own, for a test that kills it; others share `s3_settings`. It has no buckets yet.

    `notification` is the content of its notification.toml: to whom it announces uploads.
    """
    with running_seaweedfs(directory, notification=notification) as server:
        yield S3Settings(
            endpoint_url=server.endpoint_url, access_key=server.access_key, secret_key=server.secret_key
        )


@contextmanager
def running_seaweedfs(directory: Path, *, notification: str = "") -> Iterator[SeaweedfsServer]:
    """As `running_s3`, for a test that wants to know where its parts are."""
    require_server(seaweedfs_binary)
    server = SeaweedfsServer(
        directory=directory,
        ports=choose_seaweedfs_ports(),
        access_key=secrets.token_hex(10),
        secret_key=secrets.token_urlsafe(24),
    )
    server.write_configuration()
    if notification:
        (server.working_directory / "notification.toml").write_text(notification)
    cleared = dict.fromkeys(CLEARED_VARIABLES, "")
    try:
        with running(
            server.command,
            directory / "server.log",
            server.answers,
            directory=server.working_directory,
            environment=cleared,
        ) as process:
            yield server
            if notification:
                process.kill()  # with a webhook it takes 10 s to end by itself
    finally:
        server.remove_sockets()
