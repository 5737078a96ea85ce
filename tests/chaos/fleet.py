"""Workers as a supervisor keeps them: what ends is started again, until all are told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pytest

from config.settings import Settings, process_environment
from tests.servers import wait_until
from warmline.jobs.ledger import Ledger

COMMAND = (sys.executable, "-c", "import sys; from workers.app import main; sys.exit(main())")
MARKER = "CHAOSFLEET"  # in the environment of every process of a fleet, so that an orphan is found
WARM_SECONDS = 90.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.05


class Worker:
    """One place in the fleet: the process that has it now, and the log of all that had it."""

    def __init__(self, settings: Settings, log: Path, token: str, prefix: Sequence[str] = ()) -> None:
        self._command = [*prefix, *COMMAND]
        self._environment = process_environment(settings, **{MARKER: token})
        self.log = log
        self.own_exits: list[int] = []  # exit codes of processes that nobody had killed
        self._killed = False
        self.start()

    def start(self) -> None:
        """A new process, with a session of its own."""
        self._killed = False
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )

    def revive(self) -> None:
        """Starts it again if it has ended."""
        if self.process.poll() is not None:
            if not self._killed:
                self.own_exits.append(self.process.returncode)
            self.start()

    def children(self) -> list[int]:
        """Pids of its children."""
        try:
            return [child.pid for child in psutil.Process(self.process.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def kill(self, *, group: bool) -> list[int]:
        """SIGKILL of the parent, and of its children too if `group`; the pids that such a kill leaves dead."""
        self._killed = True
        pids = [self.process.pid, *self.children()]
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        return pids

    def lines(self) -> Iterator[dict[str, Any]]:
        """The log's structured lines."""
        with self.log.open(errors="replace") as file:
            for line in file:
                if line.startswith("{") and line.endswith("}\n"):
                    yield json.loads(line)


class Fleet:
    """Some workers under the same settings, kept running while the block lasts."""

    def __init__(self, settings: Settings, directory: Path, size: int, *, prefix: Sequence[str] = ()) -> None:
        self._settings = settings
        self._token = uuid.uuid4().hex
        self._stopping = threading.Event()
        self.workers = [Worker(settings, directory / f"worker-{n}.log", self._token, prefix) for n in range(size)]
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._supervisor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._supervisor.join()
        for process in self.processes():
            process.kill()
        for worker in self.workers:
            worker.process.wait()

    def wait_warm(self, children: int) -> None:
        """Returns when each worker has so many warm children."""
        ledger = Ledger.connect(self._settings.redis, self._settings.jobs)

        def warm() -> bool:
            for worker in self.workers:
                if worker.own_exits:
                    tail = worker.log.read_text(errors="replace")[-4000:]
                    pytest.fail(f"a worker ended with {worker.own_exits}:\n{tail}")
            states = ledger.workers()
            return len(states) == len(self.workers) and all(len(state.warm) >= children for state in states)

        wait_until(warm, "all workers are warm", seconds=WARM_SECONDS)
        ledger.close()

    def stop(self) -> list[int]:
        """SIGTERM for all; their exit codes. Fails the test when one does not end."""
        self._stopping.set()
        self._supervisor.join()
        for worker in self.workers:
            worker.process.terminate()
        codes = []
        for worker in self.workers:
            try:
                codes.append(worker.process.wait(STOP_SECONDS))
            except subprocess.TimeoutExpired:
                pytest.fail(f"a worker outlives SIGTERM:\n{worker.log.read_text(errors='replace')[-4000:]}")
        return codes

    def lose(self) -> list[int]:
        """SIGKILL of every process at once, and none is started again: the host is gone. Their pids."""
        self._stopping.set()
        self._supervisor.join()
        processes = self.processes()
        for process in processes:
            process.suspend()  # else the last ones would notice what became of the first
        for process in processes:
            process.kill()
        return [process.pid for process in processes]

    def processes(self) -> list[psutil.Process]:
        """Every living process of the fleet, orphans included."""
        found = []
        for process in psutil.process_iter(["environ", "status"]):
            marked = (process.info["environ"] or {}).get(MARKER) == self._token
            if marked and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def lines(self) -> Iterator[dict[str, Any]]:
        """The structured lines of all logs."""
        for worker in self.workers:
            yield from worker.lines()

    def _supervise(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            for worker in self.workers:
                worker.revive()


def wait_gone(fleet: Fleet, seconds: float = 15.0) -> list[str]:
    """What still runs of the fleet after so long; empty as soon as nothing does."""
    deadline = time.monotonic() + seconds
    while (left := fleet.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"{process.pid}: {' '.join(process.cmdline())[:80]}" for process in left]
