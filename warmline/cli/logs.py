"""`warmline logs`: what the parts of a stack wrote, or what is handed on from elsewhere, for people to read."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from config.settings import load_settings
from warmline.cli import consoles
from warmline.cli.log_view import LogView
from warmline.local.directory import StackDirectory
from warmline.local.log_entries import LogEntry
from warmline.local.logs import StackLogs, Wanted, entries_of

STDIN: Final = "-"
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Level(StrEnum):
    """How grave a line is at least."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def logs(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="api, worker, uploads, …; all unless given. -: lines from standard input", metavar="PART"
        ),
    ] = None,
    job: Annotated[str, typer.Option(help="Only lines about this job; its id, or how that begins.")] = "",
    batch: Annotated[str, typer.Option(help="Only lines about this batch and its jobs.")] = "",
    level: Annotated[
        Level, typer.Option(case_sensitive=False, help="Only lines that are so grave, or more.")
    ] = Level.DEBUG,
    since: Annotated[
        str, typer.Option(help="Only later lines: 45s, 10m, 2h, 1d ago, or a time in ISO 8601.")
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they were written, for machines.")] = False,
    data: Annotated[Path | None, typer.Option(help="The stack's data directory; .warmline unless set.")] = None,
) -> None:
    """Shows the logs of the one-machine stack, its parts' lines in the order of time.

    Logs from elsewhere are read from standard input: `kubectl logs deploy/worker | warmline logs -`.
    """
    wanted = Wanted(
        job=_hex(job, "--job"),
        batch=_hex(batch, "--batch"),
        level=0 if level is Level.DEBUG else logging.getLevelNamesMapping()[level],
        since=_moment(since),
    )
    if parts == [STDIN]:
        _show(entries_of(sys.stdin.buffer, wanted), as_json=as_json, at_once=True)
        return
    if STDIN in (parts or ()):
        raise typer.BadParameter("standard input (-) cannot be mixed with parts", param_hint="PART")
    with StackLogs(_directory(data), parts or ()) as found:
        later = found.followed(wanted) if follow else found.torn(wanted)
        _show(chain(found.written(wanted), later), as_json=as_json, at_once=follow)


def _show(entries: Iterator[LogEntry], *, as_json: bool, at_once: bool) -> None:
    view = LogView(colours=consoles.results().color_system is not None)
    for entry in entries:
        if as_json:
            sys.stdout.write(f"{entry.text if entry.fields is not None else _as_json(entry)}\n")
        else:
            sys.stdout.writelines(f"{line}\n" for line in view.lines(entry))
        if at_once:
            sys.stdout.flush()


def _as_json(entry: LogEntry) -> str:
    """A line of another program in our shape, as far as it says so much."""
    at = None if entry.at is None else datetime.fromtimestamp(entry.at).astimezone().isoformat()
    level = logging.getLevelName(entry.level).lower() if entry.level else None
    facts: dict[str, Any] = {"timestamp": at, "level": level, "process": entry.part, "action": entry.text}
    return json.dumps({name: value for name, value in facts.items() if value is not None}, ensure_ascii=False)


def _directory(data: Path | None) -> StackDirectory:
    override: dict[str, Any] = {} if data is None else {"WARMLINE_STACK_DATA_DIR": str(data)}
    return StackDirectory(load_settings(with_stack=False, **override).stack.data_dir)


def _hex(text: str, option: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{0,32}", text):
        raise typer.BadParameter("an id is 32 hex digits, or the first of them", param_hint=option)
    return text


def _moment(since: str) -> float:
    """Seconds since the epoch; 0 for an empty text."""
    if not since:
        return 0.0
    if ago := re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", since):
        return time.time() - float(ago[1]) * _UNIT_SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(since).timestamp()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{since!r} is neither as 45s, 10m, 2h, 1d nor a time as 2026-05-04T10:00", param_hint="--since"
        ) from None
