"""`warmline up`, whole: every server real, killed without warning, started again, stopped without a trace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from config.settings import Settings
from tests.ports import choose_port
from tests.servers import require_server, wait_until
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Job, Source
from warmline.local.credentials import Credentials
from warmline.local.directory import StackDirectory
from warmline.local.plan import read_clients_file
from warmline.local.processes import find_processes
from warmline.local.seaweedfs import seaweedfs_binary
from warmline.local.valkey import valkey_binary
from warmline.objects.store import ObjectStore

START_SECONDS = 300.0
JOB = Job(id="5" * 32, source=Source(bucket="calls", key="kept.wav"), created_at=datetime.now(UTC))


def warmline(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "warmline.cli.main", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@dataclass
class RunningUp:
    """A `warmline up` in a process of its own."""

    process: subprocess.Popen[bytes]
    output: Path
    directory: StackDirectory

    @property
    def settings(self) -> Settings:
        return read_clients_file(self.directory.clients_file)

    def wait_until_ready(self) -> None:
        wait_until(
            lambda: self.process.poll() is not None or "Warmline is ready" in self.output.read_text(),
            "warmline up is ready",
            seconds=START_SECONDS,
            interval_seconds=0.1,
        )
        assert self.process.poll() is None, self.output.read_text()

    def left(self) -> list[str]:
        """What of it runs, by inheritance and by what is on command lines and in working directories."""
        found = {each.process.pid: each.part for each in find_processes(self.directory)}
        data = str(self.directory.path)
        for process in psutil.process_iter(["cmdline", "cwd"]):
            line, cwd = " ".join(process.info["cmdline"] or ()), process.info["cwd"] or ""
            if process.pid != os.getpid() and (data in line or cwd.startswith(data)):
                found.setdefault(process.pid, line)
        return sorted(found.values())


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], RunningUp]]:
    require_server(valkey_binary)
    require_server(seaweedfs_binary)
    for name in ("STACK_VALKEY_PORT", "STACK_S3_PORT", "API_PORT", "FLOWER_PORT"):
        monkeypatch.setenv(f"WARMLINE_{name}", str(choose_port(offsets=(0, 10_000))))
    started: list[RunningUp] = []

    def start() -> RunningUp:
        output = tmp_path / f"up-{len(started)}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "warmline.cli.main", "up", "--data", str(tmp_path / "data")],
                stdout=file,
                stderr=subprocess.STDOUT,
                # A company's proxy, which does not lead back to this machine.
                env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
            )
        started.append(RunningUp(process, output, StackDirectory(tmp_path / "data")))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        for left in find_processes(each.directory):
            left.process.kill()


@pytest.mark.slow
def test_the_whole_stack_survives_sigkill_and_ends_without_a_trace(
    up: Callable[[], RunningUp], tmp_path: Path
) -> None:
    # Given a machine where another program has the API's usual port
    taken = int(os.environ["WARMLINE_API_PORT"])
    with socket.create_server(("127.0.0.1", taken)):
        # When the stack is started, then everything answers, the API elsewhere
        first = up()
        first.wait_until_ready()
        settings = first.settings
        assert settings.api.port != taken
        _everything_answers(settings, first.directory.path)
        # And it keeps what it is given
        (tmp_path / "call.wav").write_bytes(b"RIFF" * 5000)
        with closing(ObjectStore(settings.s3)) as store:
            store.put_call("calls", JOB.source.key, tmp_path / "call.wav")
        ledger = Ledger.connect(settings.redis, settings.jobs)
        assert ledger.create(JOB)
        ledger.close()

    # When all of it is killed at once, right after an upload
    clients_file = first.directory.clients_file.read_text()
    with closing(ObjectStore(settings.s3)) as store:
        store.put_call("calls", "dropped.wav", tmp_path / "call.wav")
    first.process.kill()
    for each in find_processes(first.directory):
        each.process.kill()
    first.process.wait()
    assert warmline("status", data=first.directory.path).returncode == 1
    # Then it starts again, at the same addresses, with what it was given
    second = up()
    second.wait_until_ready()
    assert second.directory.clients_file.read_text() == clients_file
    ledger = Ledger.connect(settings.redis, settings.jobs)
    assert ledger.get(JOB.id).job == JOB
    # And the upload has its job
    wait_until(
        lambda: [state.job.source.key for state in ledger.list()].count("dropped.wav") == 1, "the upload has a job"
    )
    ledger.close()
    with closing(ObjectStore(settings.s3)) as store:
        store.fetch(JOB.source, tmp_path / "back.wav")
    assert (tmp_path / "back.wav").read_bytes() == (tmp_path / "call.wav").read_bytes()
    _everything_answers(settings, second.directory.path)
    assert f"dashboard {settings.api.base_url}/dashboard" in second.output.read_text()
    _no_secret_shows(second)

    # When it is told to end, then it does, and leaves nothing
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(180) == 0
    assert second.output.read_text().rstrip().endswith("Everything is stopped.")
    assert second.left() == []
    assert "Nothing runs on" in warmline("down", data=second.directory.path).stdout
    sockets = {path.stem.rsplit("-", 1)[1] for path in Path("/tmp").glob("seaweedfs-*.sock")}  # noqa: S108
    assert settings.s3.endpoint_url.rsplit(":", 1)[1] not in sockets


def _everything_answers(settings: Settings, data: Path) -> None:
    status = warmline("status", data=data)
    assert status.returncode == 0, status.stdout + status.stderr
    assert "1 of 1 children warm" in status.stdout or "children warm" in status.stdout
    health = httpx.get(f"{settings.api.base_url}/health", timeout=60).json()
    assert (health["status"], health["model_loaded"]) == ("healthy", True)
    assert "API key" in httpx.get(f"{settings.api.base_url}/dashboard", timeout=60).text
    flower = f"http://127.0.0.1:{settings.flower.port}/workers"
    assert httpx.get(flower, timeout=60).status_code == httpx.codes.UNAUTHORIZED
    password = settings.flower.password.get_secret_value()
    page = httpx.get(flower, auth=(settings.flower.user, password), timeout=60)
    assert page.status_code == httpx.codes.OK
    assert httpx.get(f"{settings.api.base_url}/v1/jobs", timeout=60).status_code == httpx.codes.UNAUTHORIZED
    key = settings.api.keys[0].get_secret_value()
    jobs = httpx.get(f"{settings.api.base_url}/v1/jobs", headers={"Authorization": f"Bearer {key}"}, timeout=60)
    assert jobs.status_code == httpx.codes.OK


def _no_secret_shows(running: RunningUp) -> None:
    """Not on a command line, not in a log, not on the terminal."""
    made = Credentials.keep(running.directory.credentials_file)
    secrets = (made.redis_password, made.s3_secret_key, made.api_key, made.flower_password)
    shown = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    shown += [path.read_text(errors="replace") for path in running.directory.logs.iterdir()]
    shown.append(running.output.read_text())
    shown.append(running.directory.supervisor_file.read_text())
    assert not [secret for secret in secrets for text in shown if secret in text]
    outsiders = [
        path for path in running.directory.path.iterdir() if path.stat().st_mode & 0o077 and path.is_file()
    ]
    assert outsiders == []
