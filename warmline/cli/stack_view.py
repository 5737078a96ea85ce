"""How a starting and running stack looks: labelled lines, and one moving line while something is waited for."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from config.settings import S3Settings
from warmline.cli.dashboard import address, way_in
from warmline.cli.log_view import LogView
from warmline.local.directory import StackDirectory
from warmline.local.events import (
    Event,
    LeftoversFound,
    LogLine,
    PartDied,
    PartReady,
    PartStarting,
    PartStopping,
    PortTaken,
)
from warmline.local.log_entries import parse_line
from warmline.local.stack import Stack

_COLOURS = {
    "valkey": "magenta",
    "s3": "blue",
    "api": "cyan",
    "uploads": "bright_blue",
    "worker": "green",
    "flower": "yellow",
}
LAST_WORDS = "Ctrl-C stops it."  # of what is said about a stack that is ready
_WIDTH = max(len(name) for name in _COLOURS)


class StackView:
    """Shows a stack's events; call it with each. A context manager, so that its moving line ends."""

    def __init__(self, console: Console, *, logs: bool = True) -> None:
        self._console = console
        self._logs = logs
        self._begun = time.monotonic()
        self._status: Status | None = console.status("starting") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop_moving()

    def __call__(self, event: Event) -> None:
        """Shows one event; any thread may call it."""
        match event:
            case LogLine():
                if self._logs:
                    self._show_line(event)
            case PartStarting():
                self._move(f"{event.part}: waiting for {event.waiting_for}")
            case PartReady():
                self._labelled(event.part, Text(f"ready after {event.seconds:.1f} s", style="bold"))
            case PartDied():
                text = f"died: {event.how} ({event.deaths} in 10 minutes); again in {event.restart_in_seconds:g} s"
                self._labelled(event.part, Text(text, style="bold red"))
            case PartStopping():
                self._move(
                    f"{event.part}: stopping, at most {event.stop_seconds:g} s; Ctrl-C again ends it at once"
                )
            case PortTaken():
                self._labelled(event.part, Text(f"port {event.usual} is taken: using {event.chosen}"))
            case LeftoversFound():
                names = ", ".join(event.parts)
                self._console.print(f"ending what an earlier stack left here: {names}", markup=False)

    def ready(self, stack: Stack) -> None:
        """Says where everything is."""
        self.stop_moving()
        settings, directory = stack.settings, stack.directory
        seconds = time.monotonic() - self._begun
        self._console.print(f"\n[bold green]Warmline is ready[/] after {seconds:.0f} s.")
        self._console.print(addresses_table(stack))
        for what, where in files_of(directory):
            self._console.print(f"  {what:<10}{where}", markup=False, highlight=False, soft_wrap=True)
        for line in (f"  dashboard {address(settings)}", f"            {way_in(settings)}"):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        if any(part.name == "uploads" for part in stack.parts):
            self._console.print(f"\n  {how_to_upload(settings.s3)}", highlight=False, soft_wrap=True)
        if settings.emotion.model == "mini":
            self._console.print("  The model is the mini model, for trying things out: see WARMLINE_MODEL.")
        self._console.print(f"{LAST_WORDS}\n")

    def _show_line(self, event: LogLine) -> None:
        """On a terminal as `warmline logs` shows it; elsewhere as it was written."""
        if self._status is None:
            self._labelled(event.part, Text.from_ansi(event.line))
            return
        for line in LogView(colours=True).lines(parse_line(event.line, event.part)):
            self._console.print(Text.from_ansi(line), soft_wrap=True)

    def _labelled(self, part: str, text: Text) -> None:
        label = Text(f"{part:>{_WIDTH}} | ", style=_COLOURS.get(part, ""))
        self._console.print(label.append_text(text), soft_wrap=True)

    def _move(self, line: str) -> None:
        """On a terminal one line that changes; elsewhere a line of its own."""
        if self._status is None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        self._status.update(Text(line))
        self._status.start()

    def stop_moving(self) -> None:
        """Ends the moving line until the next event, so that something else may move."""
        if self._status is not None:
            self._status.stop()


def addresses_table(stack: Stack) -> Table:
    """A line for each part: its address, and who may enter."""
    notes = {
        "api": "described by /openapi.json and docs/api.md",
        "flower": f"user {stack.settings.flower.user}",
        "uploads": "each recording that is put there is scored",
        "s3": f"buckets {', '.join((*stack.settings.s3.source_buckets, stack.settings.s3.results_bucket))}",
    }
    table = Table.grid(padding=(0, 2))
    for part in stack.parts:
        table.add_row(f"  {part.name}", part.address, Text(notes.get(part.name, ""), style="dim"))
    return table


def how_to_upload(s3: S3Settings) -> str:
    """For people: how a recording gets scored without any command of ours."""
    bucket = f"s3://{s3.source_buckets[0]}/"
    upload = f"aws --endpoint-url {s3.endpoint_url} s3 cp call.wav {bucket}"
    return f"Put recordings into {bucket} with any S3 client, keys: as above. E.g.: [bold]{upload}[/]"


def files_of(directory: StackDirectory) -> list[tuple[str, str]]:
    """What people look for: label, path."""
    return [
        ("passwords", f"{directory.clients_file} (only you can read it)"),
        ("logs", str(directory.logs)),
        ("data", str(directory.path)),
    ]
