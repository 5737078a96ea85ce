"""Where the command writes: results to stdout, everything else (progress, notes, errors) to stderr."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

FILE_COLUMNS = 100_000  # more than any row has: `grep` is to find an id or a key in one piece
# For lines that hold other people's words: a key or a message with brackets in it is no markup.
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def results() -> Console:
    """For what was asked for. A file or a pipe has no width: it gets whole lines."""
    return Console() if sys.stdout.isatty() else Console(width=FILE_COLUMNS)


def notes() -> Console:
    """For everything beside it; into a file or a pipe in whole lines, too."""
    return Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=FILE_COLUMNS)


def command() -> str:
    """This command as people have to type it here: by its path, where no shell was told of it (`make demo`)."""
    called = Path(sys.argv[0])
    return "warmline" if called.name != "warmline" or shutil.which("warmline") else str(called)


def progress_bar(console: Console) -> Progress:
    """A bar with counts, elapsed and remaining time; shows nothing where `console` is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=False,
    )


@contextmanager
def stdout_for_results_only() -> Iterator[TextIO]:
    """Keeps libraries from writing between our lines: yields the real stdout and sends all other writes to stderr.

    The file descriptor itself is redirected, because compiled code does not ask `sys.stdout`.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as real:
            yield real
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
