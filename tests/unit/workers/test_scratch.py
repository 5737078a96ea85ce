"""Calls on disk: gone after each job, after each child, and after each worker, whatever ended them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from config.settings import SettingsError
from tests.servers import wait_until
from tests.unit.workers.conftest import Fork
from workers.scratch import Scratch


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def has_ended(pid: int) -> bool:
    """Whether the process has let go of its files; nobody may have asked for its exit code yet."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_call_is_gone_when_its_job_has_ended(tmp_path: Path) -> None:
    scratch = Scratch.open(tmp_path / "new" / "scratch")
    scratch.enter_child()
    with scratch.file() as path:
        path.write_bytes(b"call")
        path.with_suffix(".part").write_bytes(b"more")
    with suppress(RuntimeError), scratch.file() as path:
        path.write_bytes(b"call")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    scratch.remove()
    assert list((tmp_path / "new" / "scratch").iterdir()) == []


def test_a_replacement_removes_what_a_killed_child_left(tmp_path: Path, fork: Fork) -> None:
    # Given two children of one worker with a call each, of which one is killed
    scratch = Scratch.open(tmp_path)
    pids = [fork(scratch.enter_child, scratch.file().__enter__) for _ in range(2)]
    for pid in pids:
        (next(tmp_path.glob(f"worker-*/{pid}")) / "call").touch()
    end(pids[0])
    # When another takes its place
    pids.append(fork(scratch.enter_child))
    # Then the dead one's call is gone, and the living one's is not
    assert {path.name for path in tmp_path.glob("worker-*/[0-9]*")} == {str(pid) for pid in pids[1:]}
    assert next(tmp_path.glob(f"worker-*/{pids[1]}/call")).exists()
    for pid in pids[1:]:
        end(pid)
    scratch.remove()


def test_the_next_worker_removes_what_a_killed_one_left_unless_its_children_live(
    tmp_path: Path, fork: Fork
) -> None:
    # Given a worker that was killed, of which a child lives on
    orphan_file = tmp_path / "orphan"

    def start_worker() -> None:
        scratch = Scratch.open(tmp_path / "scratch")
        orphan_file.write_text(str(fork(scratch.enter_child)))

    worker = fork(start_worker)
    end(worker)
    orphan = int(orphan_file.read_text())
    (left,) = (tmp_path / "scratch").iterdir()
    # When another worker starts, then it leaves the directory alone
    second = Scratch.open(tmp_path / "scratch")
    assert left.exists()
    # When the child has died too, then the next one to start removes it, and not that of the second
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: has_ended(orphan), "the orphan is dead")
    third = Scratch.open(tmp_path / "scratch")
    assert not left.exists()
    assert len(list((tmp_path / "scratch").iterdir())) == 2
    second.remove()
    third.remove()


def test_a_directory_that_cannot_be_used_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="WARMLINE_WORKER_SCRATCH_DIR"):
        Scratch.open(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that is another user's")
def test_another_users_directory_is_not_used(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(SettingsError, match="another user"):
        Scratch.open(tmp_path)
