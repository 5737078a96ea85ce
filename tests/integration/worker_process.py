"""A real worker as a child process, and what a test can see of it: its log, its children, the ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pytest

from config.settings import Settings, process_environment
from tests.servers import is_over, wait_until
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus

START_SECONDS = 180.0  # alone it takes 4; other tests and other people may use the machine
PATIENCE_SECONDS = 30.0
COMMAND = [sys.executable, "-c", "import sys; from workers.app import main; sys.exit(main())"]


class WorkerProcess:
    """`warmline-worker` under these settings, while the block lasts."""

    def __init__(self, settings: Settings, log: Path, variables: Mapping[str, str] | None = None) -> None:
        """`variables` are more of its environment."""
        self.settings = settings
        self._variables = variables or {}
        # The test asks with patience, however little the worker has.
        patient = settings.redis.model_copy(update={"timeout_seconds": PATIENCE_SECONDS})
        self.ledger = Ledger.connect(patient, settings.jobs)
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**process_environment(self.settings), **self._variables},
            )
        self._parent = psutil.Process(self.process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        children = self._parent.children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for child in children:
            child.resume()  # a stopped one dies of its parent's death only when it runs again
        self.ledger.close()
        wait_until(lambda: all(is_over(child) for child in children), "no child outlives its parent")

    def wait_warm(self, children: int = 1) -> None:
        """Returns when so many children can take jobs; fails the test when the worker ends before."""

        def warm() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"the worker ended with {self.process.returncode}:\n{self.log_text()}")
            workers = self.ledger.workers()
            return bool(workers) and len(workers[0].warm) == children

        wait_until(warm, "the worker is warm", seconds=START_SECONDS)

    def wait_exit(self, seconds: float = START_SECONDS) -> int:
        """The exit code; fails the test when there is none in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker still runs after {seconds:g} s:\n{self.log_text()}")

    def wait_finished(self, job_id: str, seconds: float = START_SECONDS) -> JobState:
        """The job, ended."""
        wait_until(lambda: self.ledger.get(job_id).status.finished, f"job {job_id} has ended", seconds=seconds)
        return self.ledger.get(job_id)

    def wait_running(self, job_id: str, *, attempt: int = 1) -> int:
        """The pid of the child that runs this attempt at the job."""
        wait_until(lambda: self._runs(job_id, attempt), f"attempt {attempt} runs", interval_seconds=0.001)
        return int((self.ledger.get(job_id).worker or "").rpartition("/")[2])

    def _runs(self, job_id: str, attempt: int) -> bool:
        state = self.ledger.get(job_id)
        return state.status is JobStatus.RUNNING and state.attempt == attempt

    def hold(self, job_id: str) -> psutil.Process:
        """Stops (SIGSTOP) the child that runs the job, in the middle of it."""
        child = psutil.Process(self.wait_running(job_id))
        child.suspend()
        assert self.ledger.get(job_id).status is JobStatus.RUNNING, "the job was too short to be held"
        return child

    def hold_new_child(self, known: Collection[int] = ()) -> psutil.Process:
        """Stops (SIGSTOP) the next child that is not among the known ones, while it loads."""

        def new() -> set[int]:
            return self.children() - set(known)

        wait_until(lambda: bool(new()), "a child is forked", seconds=START_SECONDS, interval_seconds=0.001)
        child = psutil.Process(new().pop())
        child.suspend()
        return child

    def children(self) -> set[int]:
        """The pids of the worker's children."""
        return {child.pid for child in self._parent.children()}

    def signal(self, number: signal.Signals) -> None:
        """Sends the worker's parent a signal."""
        self.process.send_signal(number)

    def lines(self, action: str) -> list[dict[str, Any]]:
        """The log's lines with this action."""
        lines = [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["action"] == action]

    def log_text(self) -> str:
        """All that it wrote."""
        return self._log.read_text()


def kill(pid: int) -> None:
    """SIGKILL: the process is gone, whatever it was doing."""
    os.kill(pid, signal.SIGKILL)
