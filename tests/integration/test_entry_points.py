"""The processes' commands: they take no options, and say so instead of starting as if they did."""

from __future__ import annotations

import signal
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


def test_ctrl_c_while_the_command_loads_ends_it_without_a_traceback() -> None:
    # Given a Ctrl-C that comes when the command's modules are asked for
    code = """
import signal, sys
class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == "warmline.cli.main":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Impatient())
from warmline.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
