"""`warmline logs` as people use it: on a stack's directory, in a pipe, and when there is nothing to show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Warmline
from warmline.local.directory import StackDirectory

LINE = {"timestamp": "2026-05-04T10:00:01Z", "level": "warning", "action": "job_retried", "process": "worker"}


def test_a_stack_that_has_ended_is_read_and_json_stays_json(warmline: Warmline, tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    directory.make()
    directory.log_of("worker").write_text(f"{json.dumps({**LINE, 'job_id': '1f' * 16})}\nplain\n")
    shown = warmline(
        "logs", "worker", "--data", tmp_path, "--job", "1f1f", "--level", "warning", "--since", "2026-05-01"
    )
    assert shown.returncode == 0, shown.stderr
    assert "job_retried job=1f1f1f1f" in shown.stdout
    assert "\x1b" not in shown.stdout
    as_json = warmline("logs", "--data", tmp_path, "--json")
    assert [json.loads(text)["action"] for text in as_json.stdout.splitlines()] == ["job_retried", "plain"]


def test_lines_from_a_pipe_are_shown_as_they_come() -> None:
    command = [sys.executable, "-m", "warmline.cli.main", "logs", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for sent, expected in ((json.dumps(LINE), "job_retried"), ("not ours", "not ours")):
            process.stdin.write(f"{sent}\n")
            process.stdin.flush()
            assert expected in process.stdout.readline()  # while the pipe is still open
        process.stdin.close()
        assert process.wait(60) == 0


def test_what_is_wrong_is_said_in_a_line(warmline: Warmline, tmp_path: Path) -> None:
    nothing = warmline("logs", "--data", tmp_path)
    assert nothing.returncode == 1
    assert "no stack has run there" in nothing.stderr
    assert warmline("logs", "--data", tmp_path, "--since", "yesterday").returncode == 2
