"""Runs the `warmline` command as a user does: a process of its own, judged by its output and exit code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from tests.servers import require_server
from warmline.cli.api_client import ApiClient
from warmline.jobs.records import JobState, JobStatus
from warmline.local.seaweedfs import seaweedfs_binary
from warmline.local.stack import Stack, running_stack
from warmline.local.valkey import valkey_binary

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "samples" / "calls").iterdir())

Warmline = Callable[..., subprocess.CompletedProcess[str]]


def finished(api: ApiClient, job_id: str) -> JobState:
    """The job when it has succeeded; fails the test when it fails, or takes longer than 30 s."""
    deadline = time.monotonic() + 60
    while not (state := api.job(job_id)).status.finished:
        assert time.monotonic() < deadline, state
        time.sleep(0.02)
    assert state.status is JobStatus.SUCCEEDED, state.failure
    return state


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where these tests convert models: nobody's own cache."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def warmline(models_dir: Path) -> Warmline:
    """`warmline("analyze", path, WARMLINE_X="y")`: runs the command and returns what it printed."""

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "warmline.cli.main", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "WARMLINE_MODELS_DIR": str(models_dir), **variables},
        )

    return run


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Stack]:
    """The one-machine stack on free ports, with the bundled model."""
    require_server(valkey_binary)
    require_server(seaweedfs_binary)
    settings = load_settings(
        with_stack=False,
        WARMLINE_STACK_DATA_DIR=str(tmp_path_factory.mktemp("stack")),
        WARMLINE_MODELS_DIR=str(models_dir),
        # What these tests submit themselves is not to be scored a second time.
        WARMLINE_TRIGGERS_IGNORE_PREFIXES="submitted/,first/,night/,twice",
        WARMLINE_WORKER_HEARTBEAT_SECONDS="2",
    )
    with running_stack(settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(warmline: Warmline, stack: Stack) -> Warmline:
    """The command as a client of that stack: it finds the addresses in the stack's directory."""

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return warmline(*arguments, WARMLINE_STACK_DATA_DIR=str(stack.settings.stack.data_dir), **variables)

    return run
