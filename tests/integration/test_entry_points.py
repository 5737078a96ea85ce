"""The processes' commands: they take no options, and say so instead of starting as if they did."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("module", "name"),
    [("api.app", "warmline-api"), ("workers.app", "warmline-worker"), ("pollers.app", "warmline-sqs")],
)
def test_help_is_help_and_another_word_is_refused(module: str, name: str) -> None:
    told = run(module, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"usage: {name} ")
    assert "config/example.env" in told.stdout
    refused = run(module, "--concurrency=4")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--concurrency=4" in refused.stderr
