"""The parent's view of its engine hosts: started before the children, replaced when they die, ended last."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from config.settings import Settings, process_environment
from workers.announcements import Announcements
from workers.supervision import Children

if TYPE_CHECKING:
    from warmline.emotion.plan import Plan

log = structlog.get_logger()

MAX_COLD_DEATHS = 3  # of one host in a row, once it has been warm; at the first start one is enough
FIRST_WAIT_SECONDS = 0.5  # before a host that died soon is started again; doubles each time
LONGEST_WAIT_SECONDS = 30.0
LONG_LIFE_SECONDS = 60.0  # one that lived so long is started again at once
SECONDS_TO_END = 10.0
SILENT_BEATS = 12  # a host says that it serves with each beat; one that has not for so many hangs


@dataclass
class _Host:
    index: int
    path: Path
    listener: socket.socket  # stays open here, so that children can wait for the next process
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    has_been_warm: bool = False  # this process or one before it
    cold_deaths: int = 0
    quick_deaths: int = 0


class EngineHosts:
    """The hosts of one worker; none where the plan has none."""

    def __init__(self, settings: Settings, announcements: Announcements, children: Children) -> None:
        self._settings = settings
        self._announcements = announcements
        self._children = children
        self._threads = 1
        self._hosts: list[_Host] = []

    def start(self, plan: Plan, directory: Path) -> None:
        """In the parent, before it forks: starts as many as are planned; their sockets lie in the directory."""
        from warmline.emotion.host_wire import listen  # not for Flower, whose image has no numpy

        self._threads = plan.threads
        for index in range(plan.hosts):
            path = directory / f"engine-{index}"
            host = _Host(index=index, path=path, listener=listen(path))
            self._hosts.append(host)
            self._spawn(host)

    def path(self, child_index: int) -> Path | None:
        """Where a child finds its host; None where it holds the model itself."""
        return self._hosts[child_index % len(self._hosts)].path if self._hosts else None

    def enter_child(self) -> None:
        """In a new child: only parent and host may hold what listens, or nobody notices that both are gone."""
        for host in self._hosts:
            host.listener.close()

    def ended(self) -> list[int]:
        """The indices of hosts that have ended. To be asked before what they said is read."""
        return [host.index for host in self._hosts if host.process is not None and host.process.poll() is not None]

    def replace(self, ended: list[int]) -> None:
        """Starts those that have ended again, now or later; or finds that it is no use (`Children.failure`)."""
        for host in self._hosts:
            if host.process is not None and host.process.pid in self._children.warm_hosts:
                host.has_been_warm = True
            if host.index in ended and host.process is not None:
                self._mourn(host, host.process)
            elif host.process is not None:
                self._check(host, host.process)
            if host.process is None and time.monotonic() >= host.start_again_at and not self._children.failure:
                self._spawn(host)

    def stop(self) -> None:
        """In the parent, when the children are gone."""
        for host in self._hosts:
            if host.process is not None and host.process.stdin is not None:
                host.process.stdin.close()
        for host in self._hosts:
            if host.process is not None:
                try:
                    host.process.wait(SECONDS_TO_END)
                except subprocess.TimeoutExpired:
                    host.process.kill()
                    host.process.wait()
            host.listener.close()
            host.path.unlink(missing_ok=True)

    def _spawn(self, host: _Host) -> None:
        shared = {"listener": host.listener.fileno(), "announcements": self._announcements.write_fileno()}
        numbers = {"index": host.index, "threads": self._threads, **shared}
        host.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "workers.engine_host",
                *(f"--{name}={value}" for name, value in numbers.items()),
            ],
            stdin=subprocess.PIPE,
            pass_fds=tuple(shared.values()),
            env=process_environment(self._settings),
        )
        host.started_at = time.monotonic()
        log.info("engine_host_started", host=host.index, pid=host.process.pid)

    def _check(self, host: _Host, process: subprocess.Popen[bytes]) -> None:
        """Ends a host that has fallen silent, so that it is replaced; gives up on one that does not get warm."""
        now = time.monotonic()
        heard_at = self._children.warm_hosts.get(process.pid)
        if heard_at is not None:
            if now - heard_at > SILENT_BEATS * self._settings.worker.heartbeat_seconds:
                log.error("engine_host_killed", host=host.index, pid=process.pid, reason="it hangs")
                process.kill()
        elif host.has_been_warm and now - host.started_at > self._children.replacement_seconds:
            self._children.fail(f"engine host {process.pid}, which was to replace another, does not get warm")

    def _mourn(self, host: _Host, process: subprocess.Popen[bytes]) -> None:
        code = process.returncode
        end = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if process.stdin is not None:
            process.stdin.close()
        host.process = None
        log.error("engine_host_died", host=host.index, pid=process.pid, end=end)
        if process.pid in self._children.warm_hosts:
            host.cold_deaths = 0
        else:
            host.cold_deaths += 1
            if host.cold_deaths >= (MAX_COLD_DEATHS if host.has_been_warm else 1):
                self._children.fail(
                    f"engine host {process.pid} died ({end}) before it was warm; is there enough memory?"
                )
        now = time.monotonic()
        host.quick_deaths = 0 if now - host.started_at > LONG_LIFE_SECONDS else host.quick_deaths + 1
        wait = FIRST_WAIT_SECONDS * 2 ** (host.quick_deaths - 1) if host.quick_deaths else 0.0
        host.start_again_at = now + min(wait, LONGEST_WAIT_SECONDS)
