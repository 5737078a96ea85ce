"""Runs the services of docker-compose.yml as processes of this machine, with their own commands and variables.

What a container would have for itself is put elsewhere: mounted paths lie in a directory, host names are
127.0.0.1, ports are free ones. Nothing else is changed. Users, limits, networks and the read-only root are what
Docker adds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compose.compose_file import ROOT, ComposeFile, Service
from tests.ports import choose_port
from warmline.local.seaweedfs import GRPC_OFFSET, seaweedfs_binary
from warmline.local.valkey import valkey_binary

SIGTERM_DEATH = -signal.SIGTERM  # a program without a handler of its own

# Images carry these; a machine need not have them.
VALKEY_CLI = """\
#!{python}
import os, sys
import redis
port = int(sys.argv[sys.argv.index("-p") + 1])
client = redis.Redis(port=port, password=os.environ["REDISCLI_AUTH"], socket_timeout=2)
assert sys.argv[-1] == "ping"
client.ping()
print("PONG")
"""
WGET = """\
#!{python}
import sys, urllib.request
urllib.request.urlopen(sys.argv[-1], timeout=2)
"""


class LocalService:
    """A service as a process here."""

    def __init__(self, service: Service, stack: LocalStack) -> None:
        self.service, self.name = service, service.name
        self._stack = stack
        self.root = stack.directory / "services" / service.name
        self.log = stack.directory / f"{service.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._asked: float | None = None  # to end; monotonic seconds
        self._paths = {"/app": str(ROOT)} | self._mount()
        self.environment = (
            stack.image_environment(service)
            | (stack.env_file if "env_file" in service.node else {})
            | {name: self._local(value) for name, value in service.environment.items()}
        )

    def start(self) -> None:
        """Starts its command."""
        if self.service.node.get("user") == "0:0" and os.geteuid() != 0:
            return  # what root does for Docker's volumes
        cwd = Path(self._local(self.service.node.get("working_dir", "/"))) if self._cwd_is_given else self.root
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [self._local(word) for word in self.service.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=self.environment,
                start_new_session=True,
            )

    def wait_until_done(self, seconds: float = 70.0) -> None:
        """For a one-off: returns when it has ended well; fails the test otherwise."""
        if self.process is not None and self.process.wait(seconds) != 0:
            pytest.fail(f"{self.name} ended with {self.process.returncode}:\n{self.said()}")

    def wait_until_healthy(self) -> None:
        """Runs its own health check as Docker does; fails the test when it is not healthy in its start period."""
        assert self.process is not None
        limit = self.service.health_seconds("start_period", 0.0)
        deadline = time.monotonic() + limit
        while True:
            check = self.check_health()
            if self.process.poll() is not None:
                pytest.fail(f"{self.name} ended with {self.process.returncode}:\n{self.said()}")
            if check.returncode == 0:
                return
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} is not healthy after {limit:g} s: {check.stdout!r}\n{self.said()}")
            time.sleep(min(0.2, self.service.health_seconds("start_interval", 5.0)))

    def check_health(self) -> subprocess.CompletedProcess[bytes]:
        """One health check."""
        return subprocess.run(
            [self._local(word) for word in self.service.health_command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.root,
            env=self.environment,
            timeout=self.service.health_seconds("timeout", 30.0),
            check=False,
        )

    def ask_to_stop(self) -> None:
        """SIGTERM, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self._asked = time.monotonic()

    def wait_until_stopped(self) -> None:
        """Fails the test for one that does not end in its grace period, or not well."""
        if self.process is None or self._asked is None:
            return
        try:
            self.process.wait(max(0.1, self._asked + self.service.stop_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not end within {self.service.stop_seconds:g} s:\n{self.said()}")
        if self.process.returncode not in {0, SIGTERM_DEATH}:
            pytest.fail(f"{self.name} ended with {self.process.returncode}:\n{self.said()}")

    def kill(self) -> None:
        """SIGKILL, children included, for what a failed test leaves."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    @property
    def _cwd_is_given(self) -> bool:
        return "working_dir" in self.service.node

    def _mount(self) -> dict[str, str]:
        """Puts everything that is mounted below `root`; returns where: path in the container -> path here."""
        paths = {}
        for mount in self.service.mounts:
            here = self.root / mount.target.lstrip("/")
            here.parent.mkdir(parents=True, exist_ok=True)
            if mount.secret:
                # SeaweedFS' own files name services.
                here.write_text(self._stack.with_local_addresses(Path(mount.source).read_text()))
            elif mount.source:
                here.symlink_to(mount.source)
            elif mount.name:
                volume = self._stack.directory / "volumes" / mount.name
                volume.mkdir(parents=True, exist_ok=True)
                here.symlink_to(volume)
            else:
                here.mkdir()
            # A file's directory is there by the file alone.
            place = "/".join(mount.target.split("/")[:3]) if mount.secret else mount.target
            paths[place] = str(self.root / place.lstrip("/"))
        return paths

    def _local(self, text: str) -> str:
        """A word of the service as it is to be here."""
        text = self._stack.with_local_addresses(text)
        for inside, here in self._stack.ports_of(self.name).items():
            text = re.sub(rf"(?<![\w.]){inside}(?![\w.])", str(here), text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - replaced, not bound
        # All at once: what a path becomes may itself begin like another one, as below /tmp.
        places = "|".join(re.escape(inside) for inside in sorted(self._paths, key=len, reverse=True))
        return re.sub(rf"(?<![\w./])({places})(?=[/\s\"')]|$)", lambda found: self._paths[found[1]], text)


class LocalStack:
    """The services that start without a profile, or with those named; `env_file` is what warmline.env says."""

    def __init__(
        self, file: ComposeFile, directory: Path, *profiles: str, env_file: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.env_file = dict(env_file or {})
        waves = file.waves(*profiles)
        self._ports = {service.name: _choose_ports(service) for wave in waves for service in wave}
        self._binaries = _make_binaries(directory / "bin")
        self._waves = [[LocalService(service, self) for service in wave] for wave in waves]
        self.services = {each.name: each for wave in self._waves for each in wave}

    @contextmanager
    def running(self) -> Iterator[LocalStack]:
        """Starts them as they wait for each other, and leaves nothing of them behind."""
        try:
            for wave in self._waves:
                for each in wave:
                    each.start()
                for each in wave:
                    if each.service.node.get("restart") == "no":
                        each.wait_until_done()
                    elif each.service.health_command:
                        each.wait_until_healthy()
            yield self
        finally:
            for each in self.services.values():
                each.kill()
            self._remove_sockets()

    def stop(self) -> None:
        """SIGTERM to each, those that others wait for last, as `docker compose down` does."""
        for wave in reversed(self._waves):
            for each in wave:
                each.ask_to_stop()
            for each in wave:
                each.wait_until_stopped()

    def port(self, name: str) -> int:
        """Where a service's first port is."""
        return next(iter(self._ports[name].values()))

    def ports_of(self, name: str) -> Mapping[int, int]:
        """Port in the container -> port here."""
        return self._ports[name]

    def with_local_addresses(self, text: str) -> str:
        """`service:port` becomes the address here."""
        for name, ports in self._ports.items():
            for inside, here in ports.items():
                text = re.sub(rf"(?<![\w.-]){name}:{inside}(?!\d)", f"127.0.0.1:{here}", text)
        return text

    def image_environment(self, service: Service) -> dict[str, str]:
        """What a process has without being told: for images of ours, the Dockerfile's settings."""
        path = f"{self._binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "HOME": "/nonexistent"}
        if "build" in service.node:
            said = re.findall(r"\b(WARMLINE_\w+|OMP_\w+)=(\S+)", (ROOT / "Dockerfile").read_text())
            below = self.directory / "services" / service.name
            own |= {name: f"{below}{value}" if value.startswith("/") else value for name, value in said}
        return own

    def _remove_sockets(self) -> None:
        """SeaweedFS' own, which it forgets in /tmp."""
        for here in self._ports.get("s3", {}).values():
            for port in (here, here + GRPC_OFFSET):
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - its choice
                    left.unlink(missing_ok=True)


def _choose_ports(service: Service) -> dict[int, int]:
    """Those that the host has; free ones for the others and for those that the command names."""
    named = [int(port) for word in service.command for port in re.findall(r"\.port=([1-9]\d*)$", word)]
    chosen = {inside: host for inside, host in service.ports.items() if host is not None}
    for inside in (*service.ports, *named):
        if inside not in chosen:
            taken = {port + offset for port in chosen.values() for offset in (0, GRPC_OFFSET)}
            chosen[inside] = choose_port(offsets=(0, GRPC_OFFSET), taken=taken)
    return chosen


def _make_binaries(directory: Path) -> Path:
    """What the images of others have on their path."""
    directory.mkdir(parents=True)
    (directory / "weed").symlink_to(seaweedfs_binary())
    (directory / "valkey-server").symlink_to(valkey_binary())
    scripts: Sequence[tuple[str, str]] = [("valkey-cli", VALKEY_CLI)]
    if shutil.which("wget") is None:
        scripts = [*scripts, ("wget", WGET)]
    for name, text in scripts:
        (directory / name).write_text(text.format(python=sys.executable))
        (directory / name).chmod(0o755)
    return directory
