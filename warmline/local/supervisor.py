"""supervisord, which owns the parts' processes: starts and stops them, and keeps what they print, with rotation.

It restarts nothing by itself: it backs off only from a process that dies within its first seconds, and it does not
count restarts over time. `warmline.local.monitor` decides about those.
"""

from __future__ import annotations

import http.client
import re
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from warmline.local.directory import StackDirectory
from warmline.local.log_lines import last_lines
from warmline.local.parts import ORDER, Part, StackError
from warmline.local.private_files import write_private

START_SECONDS = 30.0
_CALL_SECONDS = 10.0
_LOG_MEGABYTES, _LOG_BACKUPS = 10, 3

_MAIN = """\
[unix_http_server]
file={socket}
chmod=0700

[supervisord]
logfile={log}
logfile_maxbytes={megabytes}MB
logfile_backups={backups}
pidfile={pid_file}
identifier=warmline
nodaemon=true
silent=true

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# SIGTERM goes to the part's first process alone: a worker's children are told by their parent, after their job.
_PROGRAM = """
[program:{name}]
command={command}
directory={directory}
priority={priority}
autostart=false
autorestart=false
startsecs=0
startretries=0
stopsignal=TERM
stopwaitsecs={stop_seconds}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes={megabytes}MB
stdout_logfile_backups={backups}
environment={environment}
"""


class SupervisorGone(StackError):
    """The process supervisor does not answer."""

    code = "supervisor_gone"
    title = "The supervisor does not answer"


@dataclass(frozen=True, kw_only=True)
class PartProcess:
    """What the supervisor knows of a part's process."""

    name: str
    state: Literal["running", "stopping", "stopped", "died"]
    pid: int  # 0 unless running or stopping
    started_at: float  # seconds since the epoch; 0.0 if never


_STATES: dict[str, Literal["running", "stopping", "stopped", "died"]] = {
    "STARTING": "running",
    "RUNNING": "running",
    "STOPPING": "stopping",
    "STOPPED": "stopped",
    "EXITED": "died",
    "BACKOFF": "died",
    "FATAL": "died",
    "UNKNOWN": "died",
}


class Supervisor:
    """A client of the supervisor of one stack, which `start` brings to life. Threads may share it."""

    def __init__(self, directory: StackDirectory) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, parts: Sequence[Part], environment: dict[str, str]) -> None:
        """Starts supervisord, which starts no part yet. Raises StackError.

        The parts inherit `environment`, secrets included: it is in no file and on no command line.
        """
        self._directory.make_socket_directory()
        write_private(self._directory.supervisor_file, configuration(self._directory, parts))
        output = self._directory.logs / "supervisord.out"
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self._directory.supervisor_file)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self._directory.path,  # the logs' names are relative to it
                env=environment,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to hand on, in the right order
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = "; ".join(last_lines(output, 3)) or "nothing"
                raise SupervisorGone(f"supervisord did not start, and said: {said} (its log: {output}).")
            time.sleep(0.02)

    def answers(self) -> bool:
        """True when a supervisor runs and answers."""
        try:
            self._call(lambda rpc: rpc.getState())
        except SupervisorGone:
            return False
        return True

    def processes(self) -> dict[str, PartProcess]:
        """All parts by name. Raises SupervisorGone."""
        return {entry["name"]: _part_process(entry) for entry in self._call(lambda rpc: rpc.getAllProcessInfo())}

    def start_part(self, name: str) -> None:
        """Starts a part's process; returns before it serves. Raises SupervisorGone, StackError."""
        self._call(lambda rpc: rpc.startProcess(name, False))

    def stop_part(self, name: str) -> None:
        """Asks a part to end, and kills it when its time is over; returns at once. Raises SupervisorGone."""
        self._call(lambda rpc: rpc.stopProcess(name, False))

    def kill_part(self, name: str) -> None:
        """Ends a part without waiting for what it does. Raises SupervisorGone."""
        self._call(lambda rpc: rpc.signalProcess(name, "KILL"))

    def last_exit(self, name: str) -> str:
        """How a part's process ended last, e.g. `exit status 1` or `terminated by SIGKILL`."""
        # The RPC knows the exit status, but not the signal; the log knows both.
        pattern = re.compile(rf"(?:exited|stopped): {re.escape(name)} \((.+?)(?:; (?:not )?expected)?\)$")
        for line in reversed(last_lines(self._directory.supervisor_log, 200)):
            if found := pattern.search(line):
                return found[1]
        return "for an unknown reason"

    def ended(self) -> bool:
        """True when the supervisor that `start` started has ended."""
        return self._process is not None and self._process.poll() is not None

    def shutdown(self, timeout_seconds: float) -> None:
        """Ends the supervisor, and what parts it still has."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _call(self, method: Callable[[Any], Any]) -> Any:
        # A connection a call: proxies are not for several threads, and a socket file costs nothing.
        transport = _SocketTransport(self._directory.socket_file)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return method(proxy.supervisor)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" in fault.faultString:
                return None  # it has ended in the meantime
            raise StackError(f"The supervisor refuses: {fault.faultString}.") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorGone(f"The process supervisor does not answer: {error}.") from error


def configuration(directory: StackDirectory, parts: Sequence[Part]) -> str:
    """supervisord's configuration for these parts. Raises StackError for a path it could not hold."""
    sizes = {"megabytes": str(_LOG_MEGABYTES), "backups": str(_LOG_BACKUPS)}
    text = _filled(
        _MAIN,
        socket=str(directory.socket_file),
        log=str(directory.supervisor_log),
        pid_file=str(directory.run / "supervisord.pid"),
        **sizes,
    )
    for part in parts:
        cleared = {"PYTHONUNBUFFERED": "1", **dict.fromkeys(part.cleared, "")}
        text += _filled(
            _PROGRAM,
            name=part.name,
            command=shlex.join(part.command),
            directory=str(part.directory),
            priority=str(10 * (1 + ORDER.index(part.name))),
            stop_seconds=str(part.stop_seconds),
            # Relative: supervisord expands this one twice, which an odd path would not survive.
            log=str(directory.log_of(part.name).relative_to(directory.path)),
            environment=",".join(f'{name}="{value}"' for name, value in cleared.items()),
            **sizes,
        )
    return text


def _filled(template: str, **values: str) -> str:
    for value in values.values():
        if re.search(r"\s[;#]|[\r\n]", value):  # would begin a comment, and cannot be quoted
            raise StackError(f"supervisord cannot take {value!r}: choose a data directory without ' #' or ' ;'.")
    return template.format(**{name: value.replace("%", "%%") for name, value in values.items()})


def _part_process(entry: dict[str, Any]) -> PartProcess:
    return PartProcess(
        name=str(entry["name"]),
        state=_STATES.get(str(entry["statename"]), "died"),
        pid=int(entry["pid"]),
        started_at=float(entry["start"]),
    )


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _SocketTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _SocketConnection(self._path)
        self._connection = host, connection  # where `close` looks for it
        return connection
