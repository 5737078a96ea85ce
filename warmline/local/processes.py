"""The processes of a stack, found by what each of them inherits: none is forgotten, and none of others is touched.

Pids alone would not do: they are used again, and after SIGKILL of the supervisor nobody has the list.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmline.local.directory import StackDirectory
from warmline.local.parts import ORDER

if TYPE_CHECKING:
    import psutil

MARKER = "WARMLINESTACK"  # in the environment of every process of a stack: its data directory. No setting.
SUPERVISOR = "supervisor"
_PART = "SUPERVISOR_PROCESS_NAME"  # supervisord tells each part its name
_POLL_SECONDS = 0.05
_KILL_SECONDS = 10.0  # the kernel ends a process that waits for a disk only when the disk has answered


@dataclass(frozen=True)
class StackProcess:
    """A process of a stack: a part's first one, or one that it started."""

    process: psutil.Process
    part: str


def find_processes(directory: StackDirectory) -> Sequence[StackProcess]:
    """Every living process of this stack, the supervisor included, however it was left behind."""
    import psutil  # comes with the parts that need it, not with the plain client

    found = []
    for process in psutil.process_iter(["environ", "status"]):
        environment = process.info["environ"] or {}  # None: not ours to read
        dead = process.info["status"] == psutil.STATUS_ZOMBIE
        if environment.get(MARKER) == str(directory.path) and not dead:
            found.append(StackProcess(process, environment.get(_PART, SUPERVISOR)))
    return found


def end_leftovers(directory: StackDirectory, grace_seconds: float) -> Sequence[str]:
    """Ends what an earlier stack left running, the last part first; returns the names of the parts.

    The supervisor is asked first, because it knows the order; each part has the grace before it is killed.
    """
    left = find_processes(directory)
    names = sorted({each.part for each in left})
    for supervisor in (each for each in left if each.part == SUPERVISOR):
        _terminate([supervisor])
        if not _gone(directory, names, grace_seconds):
            _kill([supervisor])
    for part in (*reversed(ORDER), *names):
        if members := _members(directory, [part]):
            # Its first process tells the others: a worker's children finish their job before they go.
            pids = {each.process.pid for each in members}
            _terminate([each for each in members if _parent_pid(each) not in pids])
            if not _gone(directory, [part], grace_seconds):
                kill_part(directory, part)
    return names


def kill_part(directory: StackDirectory, part: str) -> None:
    """Kills whatever a part that died has left: children without a parent would work beside its successor."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (left := _members(directory, [part])) and time.monotonic() < deadline:
        _kill(left)
        _gone(directory, [part], 1.0)


def _members(directory: StackDirectory, parts: Collection[str]) -> Sequence[StackProcess]:
    return [each for each in find_processes(directory) if each.part in parts]


def _gone(directory: StackDirectory, parts: Collection[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _members(directory, parts):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _parent_pid(member: StackProcess) -> int:
    import psutil

    try:
        return member.process.ppid()
    except psutil.NoSuchProcess:
        return 0


def _terminate(members: Sequence[StackProcess]) -> None:
    import psutil

    for member in members:
        try:
            member.process.terminate()
        except psutil.NoSuchProcess:
            continue


def _kill(members: Sequence[StackProcess]) -> None:
    import psutil

    for member in members:
        try:
            member.process.kill()
        except psutil.NoSuchProcess:
            continue
