"""What the stack promises of its processes, on small real ones: restarted, given up, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers import wait_until
from warmline.local.directory import StackDirectory
from warmline.local.lock import lock_holder
from warmline.local.processes import MARKER, find_processes
from warmline.local.stack import stop_stack
from warmline.local.state import StackState
from warmline.local.supervisor import Supervisor

SCRIPT = Path(__file__).with_name("small_stack.py")


class SmallStack:
    """A running small_stack.py."""

    def __init__(self, data: Path, scenario: str) -> None:
        self.directory = StackDirectory(data)
        self.output = data.parent / f"{data.name}-{time.monotonic_ns()}.out"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(data), scenario], stdout=file, stderr=subprocess.STDOUT
            )

    def says(self, text: str) -> bool:
        return text in self.output.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(
            lambda: self.says(text) or self.process.poll() is not None, f"{text} in {self.output.read_text()}"
        )
        assert self.says(text), self.output.read_text()

    def wait_for_end(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)

    def pid_of(self, part: str) -> int:
        return Supervisor(self.directory).processes()[part].pid

    def pids_of_all(self, part: str) -> set[int]:
        return {each.process.pid for each in find_processes(self.directory) if each.part == part}

    def left(self) -> list[str]:
        """What runs of it, found in two ways: by inheritance, and by the data directory on the command line."""
        lines = {each.process.pid: each.part for each in find_processes(self.directory)}
        for process in psutil.process_iter(["cmdline"]):
            if str(self.directory.path) in " ".join(process.info["cmdline"] or ()):
                lines.setdefault(process.pid, " ".join(process.info["cmdline"]))
        return sorted(lines.values())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., SmallStack]]:
    started: list[SmallStack] = []

    def begin(scenario: str, data: Path = tmp_path / "data") -> SmallStack:
        started.append(SmallStack(data, scenario))
        return started[-1]

    yield begin
    for stack in started:
        stack.process.kill()
        stack.process.wait()
        for each in find_processes(stack.directory):
            each.process.kill()


def test_sigterm_stops_the_last_part_first_and_leaves_nothing(start: Callable[..., SmallStack]) -> None:
    # Given a stack that runs
    stack = start("two servers")
    stack.wait_for("READY")
    stack.wait_for("api | Serving HTTP on 127.0.0.1")
    assert {"api", "supervisor", "valkey"} < set(stack.left())
    # When it is told to end
    stack.process.send_signal(signal.SIGTERM)
    # Then it ends well, in reverse order, and neither process nor socket nor client file is left
    assert stack.wait_for_end() == 0
    text = stack.output.read_text()
    # (a part that serves at the first look is never said to be starting)
    assert text.index("PartReady valkey") < text.index("PartReady api")
    assert text.index("PartStopping api") < text.index("PartStopping valkey") < text.index("INTERRUPTED")
    assert stack.left() == []
    directory = stack.directory
    left = [directory.socket_file, directory.clients_file, directory.state_file, directory.supervisor_file]
    assert [path for path in left if path.exists()] == []
    # And what it printed is kept
    assert "Serving HTTP on 127.0.0.1" in directory.log_of("api").read_text()


def test_a_part_that_is_killed_is_started_again(start: Callable[..., SmallStack]) -> None:
    stack = start("two servers")
    stack.wait_for("READY")
    before, other = stack.pid_of("api"), stack.pid_of("valkey")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: stack.output.read_text().count("PartReady api") == 2, "api serves again")
    assert stack.pid_of("api") != before
    assert stack.pid_of("valkey") == other
    state = StackState.read(stack.directory.state_file)
    assert state is not None
    assert [(part.name, part.serves, part.deaths) for part in state.parts] == [
        ("valkey", True, 0),
        ("api", True, 1),
    ]


def test_what_a_killed_part_leaves_does_not_work_beside_its_successor(start: Callable[..., SmallStack]) -> None:
    # Given a part with a child, as a worker has
    stack = start("parent and child")
    stack.wait_for("READY")
    wait_until(lambda: len(stack.pids_of_all("worker")) == 2, "the child is there, too")
    before = stack.pids_of_all("worker")
    # When the parent is killed, which leaves the child without one
    os.kill(stack.pid_of("worker"), signal.SIGKILL)
    wait_until(lambda: stack.output.read_text().count("PartReady worker") == 2, "the worker runs again")
    # Then the child is gone, and there is one worker with one child
    wait_until(lambda: len(stack.pids_of_all("worker")) == 2, "one parent and one child")
    assert not stack.pids_of_all("worker") & before


def test_a_part_that_always_dies_is_given_up_and_the_rest_is_stopped(start: Callable[..., SmallStack]) -> None:
    stack = start("dies again and again")
    assert stack.wait_for_end() == 1
    text = stack.output.read_text()
    assert text.count("PartDied api") == 2
    assert "FAILED api died 3 times in 10 minutes, at last: exit status 3" in text
    assert text.rstrip().endswith("the well is dry")
    assert text.index("PartStopping valkey") < text.index("FAILED")
    assert stack.left() == []


def test_a_part_that_dies_while_it_starts_is_reported_at_once(start: Callable[..., SmallStack]) -> None:
    stack = start("dies at start")
    assert stack.wait_for_end() == 1
    text = stack.output.read_text()
    assert "FAILED api ended while it started: exit status 3" in text
    assert text.rstrip().endswith("the well is dry")
    assert "flower" not in text
    assert stack.left() == []


def test_a_part_that_never_serves_is_reported(start: Callable[..., SmallStack]) -> None:
    stack = start("never serves and is given up")
    assert stack.wait_for_end() == 1
    assert stack.says("FAILED api did not serve within 2 s")
    assert stack.left() == []


def test_a_part_that_takes_no_sigterm_is_killed_with_its_children(start: Callable[..., SmallStack]) -> None:
    stack = start("stubborn")
    stack.wait_for("READY")
    stack.process.send_signal(signal.SIGTERM)
    assert stack.wait_for_end() == 0
    assert stack.left() == []


def test_a_second_ctrl_c_does_not_wait(start: Callable[..., SmallStack]) -> None:
    stack = start("stubborn for long")
    stack.wait_for("READY")
    stack.process.send_signal(signal.SIGINT)
    stack.wait_for("PartStopping worker")
    time.sleep(0.7)  # two signals within half a second are one wish
    assert stack.process.poll() is None
    stack.process.send_signal(signal.SIGINT)
    assert stack.wait_for_end() == 0
    assert stack.left() == []


def test_a_signal_while_it_starts_leaves_nothing(start: Callable[..., SmallStack]) -> None:
    stack = start("never serves")
    stack.wait_for("PartStarting api")
    stack.process.send_signal(signal.SIGINT)
    assert stack.wait_for_end() == 0
    assert stack.says("INTERRUPTED")
    assert stack.left() == []


@pytest.mark.parametrize("killed", ["starter", "supervisor and starter", "everything"])
def test_a_start_after_sigkill_ends_what_was_left(start: Callable[..., SmallStack], killed: str) -> None:
    # Given a stack of which something was killed, so that nobody could clean up
    first = start("two servers")
    first.wait_for("READY")
    left = {each.part: each.process for each in find_processes(first.directory)}
    victims = {"starter": [], "supervisor and starter": [left["supervisor"]], "everything": list(left.values())}
    first.process.kill()
    first.wait_for_end()
    for victim in victims[killed]:
        victim.kill()
    assert first.directory.state_file.exists()
    # When the stack is started again
    second = start("two servers")
    second.wait_for("READY")
    # Then nothing of the first is there, and the second can be stopped as ever
    assert not [process for process in left.values() if process.is_running() and process.status() != "zombie"]
    assert second.says("LeftoversFound") == (killed != "everything")
    second.process.send_signal(signal.SIGTERM)
    assert second.wait_for_end() == 0
    assert second.left() == []


def test_a_stack_whose_supervisor_is_killed_ends_the_parts_and_says_so(start: Callable[..., SmallStack]) -> None:
    stack = start("two servers")
    stack.wait_for("READY")
    [supervisor] = [each.process for each in find_processes(stack.directory) if each.part == "supervisor"]
    supervisor.kill()
    assert stack.wait_for_end() == 1
    assert stack.says("FAILED the process supervisor has ended")
    assert stack.left() == []


def test_a_second_stack_on_the_directory_is_refused_and_the_first_can_be_stopped_by_others(
    start: Callable[..., SmallStack],
) -> None:
    # Given a stack that runs
    first = start("two servers")
    first.wait_for("READY")
    # When a second one is started there, then it says who has the directory, and the first runs on
    second = start("two servers")
    assert second.wait_for_end() == 1
    assert second.says(f"FAILED A stack already runs on {first.directory.path} (process {first.process.pid})")
    assert first.process.poll() is None
    assert len(find_processes(first.directory)) == 3
    # When another process stops it, then it ends well; and there is nothing left to stop
    assert stop_stack(first.directory) == ["api", "supervisor", "valkey"]
    assert first.wait_for_end() == 0
    assert lock_holder(first.directory.lock_file) is None
    assert stop_stack(first.directory) == []


def test_down_ends_what_a_killed_starter_left(start: Callable[..., SmallStack]) -> None:
    stack = start("two servers")
    stack.wait_for("READY")
    stack.process.kill()
    stack.wait_for_end()
    assert stop_stack(stack.directory) == ["api", "supervisor", "valkey"]
    assert stack.left() == []
    assert not stack.directory.clients_file.exists()


def test_a_path_too_long_for_a_socket_and_odd_for_a_configuration(
    start: Callable[..., SmallStack], tmp_path: Path
) -> None:
    data = tmp_path / ("a long way down " * 6) / "100% 'mine' and \"yours\""
    data.parent.mkdir()
    stack = start("two servers", data)
    stack.wait_for("READY")
    elsewhere = stack.directory.socket_file.parent
    assert data not in elsewhere.parents
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    stack.process.send_signal(signal.SIGTERM)
    assert stack.wait_for_end() == 0
    assert stack.left() == []
    assert not elsewhere.exists()


def test_processes_of_others_are_none_of_its_business(tmp_path: Path) -> None:
    # Given a process with another stack's marker, and one of ours
    mine, other = StackDirectory(tmp_path / "mine"), StackDirectory(tmp_path / "mine too")
    sleepers = [
        subprocess.Popen(["/bin/sleep", "100"], env={**os.environ, MARKER: str(directory.path)})
        for directory in (mine, other)
    ]
    try:
        wait_until(lambda: bool(find_processes(mine) and find_processes(other)), "both are found")
        assert [each.process.pid for each in find_processes(mine)] == [sleepers[0].pid]
        # When one stack is stopped, then the other one's process lives
        stop_stack(mine, timeout_seconds=5)
        assert sleepers[0].wait(60) == -signal.SIGTERM
        assert sleepers[1].poll() is None
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
