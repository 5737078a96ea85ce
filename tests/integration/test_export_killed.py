"""An export that is killed, at every step that it takes: the next run neither loses a row nor has one twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.servers import wait_until
from tests.unit.exports.conftest import call, check, layout, put, read_back
from warmline.calls.stored_reports import FolderShelf
from warmline.exports.export import export_dataset
from warmline.exports.places import Folder


class Dying(Folder):
    """A folder whose process is killed in front of its so-and-so-manieth step."""

    def __init__(self, root: Path, last_step: int) -> None:
        super().__init__(root)
        self._left = last_step

    def _step(self, what: Callable[..., Any], *arguments: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return what(*arguments)

    def fetch(self, name: str, to: Path) -> None:
        self._step(super().fetch, name, to)

    def stage(self, name: str, path: Path) -> str:
        token: str = self._step(super().stage, name, path)
        return token

    def commit(self, number: int, state: Path) -> bool:
        done: bool = self._step(super().commit, number, state)
        return done

    def publish(self, name: str, token: str) -> None:
        self._step(super().publish, name, token)

    def remove(self, names: Sequence[str]) -> None:
        self._step(super().remove, names)

    def done(self, number: int) -> None:
        self._step(super().done, number)

    def tidy(self) -> None:
        self._step(super().tidy)


def run(reports: Path, place: Folder) -> None:
    of = layout("jsonl", tables="calls,windows")
    export_dataset(FolderShelf(reports), place, of, since=None, full=False, on_progress=lambda _: None)


def killed(reports: Path, place: Path, step: int) -> bool:
    """Runs an export in a process of its own that is killed at a step; False when it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            run(reports, Dying(place, step))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_killed_at_each_step_of_a_run_that_adds_and_replaces(tmp_path: Path) -> None:
    reports, place = tmp_path / "reports", tmp_path / "export"
    expected = {}
    for number in range(6):
        put(reports, number, call(number, emotion="angry"))
        expected[number] = "angry"
    run(reports, Folder(place))
    step = 1
    killed_last = True
    while killed_last:
        # Given one new report, one changed one, and one that changed and is another day's now
        new, changed, moved = 100 + step, step % 6, (step + 1) % 6
        emotion = ("happy", "surprised", "fearful")[step % 3]
        put(reports, new, call(new, emotion=emotion))
        put(reports, changed, call(changed, emotion=emotion))
        put(reports, moved, call(moved, emotion=emotion, key=f"2026/07/{1 + step % 9:02}/call.wav"))
        expected |= {new: emotion, changed: emotion, moved: emotion}

        # When a run is killed, and another one follows
        killed_last = killed(reports, place, step)
        run(reports, Folder(place))

        # Then all is there once
        check(place, expected, tables=("windows",))
        assert not any((place / "_warmline" / "pending").iterdir())
        step += 1
    assert step > 15


def test_a_run_that_is_killed_before_its_commit_shows_nothing(tmp_path: Path) -> None:
    # Given the real command at a report that takes for ever to read
    reports, place = tmp_path / "reports", tmp_path / "export"
    for number in range(6):
        put(reports, number, call(number, emotion="angry"))
    os.mkfifo(reports / "9999.json")
    command = [sys.executable, "-m", "warmline.cli.main", "export", "--reports", str(reports), "--to", str(place)]
    with subprocess.Popen([*command, "--date", "key"], stdout=subprocess.DEVNULL) as process:
        pending = place / "_warmline" / "pending"
        wait_until(lambda: pending.is_dir() and any(pending.glob("*/state.sqlite")), "the run has begun")
        process.kill()
    assert read_back(place, "calls") == []
    assert any(pending.iterdir())

    # When the report is there, and the command runs again
    (reports / "9999.json").unlink()
    put(reports, 9999, call(9999, emotion="happy"))
    done = subprocess.run([*command, "--date", "key"], capture_output=True, text=True, check=True)

    # Then all is there once
    assert "7 reports exported" in done.stdout
    check(place, dict.fromkeys(range(6), "angry") | {9999: "happy"})
    assert not any(pending.iterdir())
