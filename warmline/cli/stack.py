"""`warmline up`, `down` and `status`: the one-machine stack."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from config.logging import configure_logging
from config.settings import LogSettings, load_settings
from warmline.cli import consoles
from warmline.cli.fleet_view import show_fleet

if TYPE_CHECKING:
    from warmline.local.directory import StackDirectory
    from warmline.local.status import PartStatus

# What runs a stack is imported in the commands: it comes with `warmline[local]`, and a client does without.

Data = Annotated[
    Path | None, typer.Option(help="Where the stack keeps its data, logs and passwords; .warmline unless set.")
]


def up(
    data: Data = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready; it goes on running.")
    ] = False,
    logs: Annotated[bool, typer.Option(help="Show what the parts print.")] = True,
) -> None:
    """Starts the one-machine stack: Valkey, SeaweedFS, the API, a worker and Flower. Ctrl-C stops it.

    Recordings that are put into its S3 are scored (WARMLINE_STACK_TRIGGERS).
    """
    from warmline.cli.stack_view import StackView
    from warmline.local.stack import running_stack

    if detach:
        _detach(data)
        return
    settings = load_settings(with_stack=False, **_override(data))
    configure_logging(LogSettings(level="ERROR", format="console"), process="up")
    notes = consoles.notes()
    try:
        with StackView(notes, logs=logs) as view, running_stack(settings, on_event=view) as stack:
            view.ready(stack)
            stack.wait()
    except KeyboardInterrupt:
        notes.print("Everything is stopped.")


def down(data: Data = None) -> None:
    """Stops the stack on this data directory and waits until it has; running jobs are finished or handed back."""
    from warmline.local.stack import stop_stack

    directory = _directory(data)
    with consoles.notes().status("stopping; running jobs are finished first, or handed back"):
        stopped = stop_stack(directory)
    if stopped:
        typer.echo(f"Stopped: {', '.join(stopped)}.")
    else:
        typer.echo(f"Nothing runs on {directory.path}.")


def status(data: Data = None) -> None:
    """Shows the stack's parts, its work and its workers; exit code 0 only when all is well."""
    from warmline.local.status import read_status

    directory = _directory(data)
    found = read_status(directory)
    out = consoles.results()
    match found.phase:
        case "down":
            out.print(f"Nothing runs on {directory.path}.", markup=False)
        case "unwatched":
            out.print("The process that started this stack is gone: run `warmline down`, then `warmline up`.")
        case phase:
            out.print(f"The stack on {directory.path} is {phase}.", markup=False)
    if found.parts:
        out.print(_parts_table(found.parts))
    if found.fleet is not None:
        show_fleet(found.fleet)
    if not found.well:
        raise typer.Exit(1)


def _override(data: Path | None) -> dict[str, Any]:
    return {} if data is None else {"WARMLINE_STACK_DATA_DIR": str(data)}


def _directory(data: Path | None) -> StackDirectory:
    from warmline.local.directory import StackDirectory

    return StackDirectory(load_settings(with_stack=False, **_override(data)).stack.data_dir)


def _detach(data: Path | None) -> None:
    """Starts `warmline up` in a session of its own, and returns when it says that it is ready."""
    from warmline.cli.stack_view import LAST_WORDS
    from warmline.local.lock import lock_holder, stack_lock
    from warmline.local.log_lines import last_lines
    from warmline.local.state import StackState

    directory = _directory(data)
    directory.make()
    if lock_holder(directory.lock_file) is not None:
        with stack_lock(directory.lock_file):  # says who has it
            pass
    output = directory.logs / "up.log"
    with output.open("wb") as file:
        command = [sys.executable, "-m", "warmline.cli.main", "up", "--no-logs", "--data", str(directory.path)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    with consoles.notes().status("starting") as moving:
        while process.poll() is None:
            state = StackState.read(directory.state_file)
            if state is not None and state.pid == process.pid:
                if state.phase == "ready" and LAST_WORDS in output.read_text():
                    break
                moving.update(f"starting: {', '.join(part.name for part in state.parts if not part.serves)}")
            time.sleep(0.1)
    for line in last_lines(output, 40):
        if line.strip() != LAST_WORDS:  # there is nobody here to press it
            typer.echo(line, err=True)
    if process.poll() is not None:
        raise typer.Exit(1)
    typer.echo(f"It goes on running (process {process.pid}); `warmline down` stops it.")


def _parts_table(parts: Sequence[PartStatus]) -> Table:
    table = Table("part", "state", "pid", "uptime", "address", "deaths", "", box=None, header_style="dim")
    for part in parts:
        well = part.problem is None
        uptime = str(timedelta(seconds=round(part.uptime_seconds))) if part.pid else ""
        table.add_row(
            part.name,
            Text(part.state, style="green" if well else "red"),
            str(part.pid or ""),
            uptime,
            part.address,
            str(part.deaths),
            Text(part.problem or "", style="red"),
        )
    return table
