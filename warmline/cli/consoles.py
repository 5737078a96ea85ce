"""Where the command writes: results to stdout, everything else (progress, notes, errors) to stderr."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

FILE_COLUMNS = 100_000  # more than any row has: `grep` is to find an id or a key in one piece
# For lines that hold other people's words: a key or a message with brackets in it is no markup.
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


# What a terminal takes for an order, and what turns text around. Tabs and line ends are what they seem.
_ORDERS = dict.fromkeys(
    [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)],
    "\ufffd",
)


def shown(words: str) -> str:
    """Other people's words as a terminal may have them: whoever names a call must not rule the screen it is on."""
    return words if words.isprintable() else words.translate(_ORDERS)


class Terminal(Console):
    """A console on which the only orders are rich's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))


def results() -> Console:
    """For what was asked for. A file or a pipe has no width: it gets whole lines."""
    return Terminal() if sys.stdout.isatty() else Terminal(width=FILE_COLUMNS)


def notes() -> Console:
    """For everything beside it; into a file or a pipe in whole lines, too."""
    return Terminal(stderr=True) if sys.stderr.isatty() else Terminal(stderr=True, width=FILE_COLUMNS)


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
