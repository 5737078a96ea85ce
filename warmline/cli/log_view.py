"""A log's line for people: time, part, gravity by colour, what happened, to which job, and the rest in order."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final

import click

from warmline.local.log_entries import LogEntry
from warmline.local.parts import ORDER

SHORT_ID: Final = 8  # hex digits of an id: enough to tell a screen's lone jobs and batches apart
_PART_WIDTH: Final = max(map(len, ORDER))
_LEVEL_WIDTH: Final = len("critical")

_PART_COLOURS: Final = {
    "valkey": "magenta", "s3": "blue", "api": "cyan", "uploads": "bright_blue", "sqs": "bright_blue",
    "worker": "green", "engine-host": "bright_green", "flower": "yellow",
}  # fmt: skip
_LEVEL_COLOURS: Final = {
    logging.DEBUG: "bright_black", logging.INFO: None, logging.WARNING: "yellow", logging.ERROR: "red",
    logging.CRITICAL: "bright_red",
}  # fmt: skip
_SAID_ELSEWHERE: Final = frozenset({"timestamp", "level", "action", "process", "exception", "job_id", "batch_id"})
_FIRST: Final = ("attempt", "uri", "code", "error", "reason")
_LAST: Final = ("worker", "host", "logger", "client", "request_id", "trace_id")
# What would move the cursor, ring or recolour: other people's words are in these lines.
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")


class LogView:
    """Writes entries as lines of text."""

    def __init__(self, *, colours: bool, today: date | None = None) -> None:
        self._colours = colours
        self._today = today or datetime.now().astimezone().date()

    def lines(self, entry: LogEntry) -> Iterator[str]:
        """One for the entry, and one for each line of its traceback."""
        colour = _LEVEL_COLOURS.get(entry.level or logging.INFO)
        if entry.fields is None and entry.at is None and not entry.part:
            yield clean(entry.text)  # nothing is known of it
            return
        part = self._style(f"{clean(entry.part):>{_PART_WIDTH}}", _PART_COLOURS.get(entry.part))
        head = f"{self._style(self._time(entry.at), 'bright_black')} {part}"
        if entry.fields is None:
            level = logging.getLevelName(entry.level).lower() if entry.level else ""
            yield f"{head} {level:<{_LEVEL_WIDTH}} {self._style(clean(entry.text), colour)}"
            return
        level = self._style(f"{clean(str(entry.fields.get('level', ''))):<{_LEVEL_WIDTH}}", colour)
        action = self._style(clean(str(entry.fields["action"])), colour, bold=True)
        yield " ".join((head, level, action, *self._facts(entry.fields)))
        for line in str(entry.fields.get("exception") or "").splitlines():
            yield self._style(f"    {clean(line)}", colour)

    def _facts(self, fields: dict[str, Any]) -> Iterator[str]:
        job_id, batch_id = fields.get("job_id"), fields.get("batch_id")
        if isinstance(job_id, str):
            # The jobs of a batch differ in their last digits alone: only a whole id says which one it is.
            yield self._fact("job", job_id if batch_id else job_id[:SHORT_ID])
        if isinstance(batch_id, str):
            yield self._fact("batch", batch_id[:SHORT_ID])
        middle = [name for name in fields if name not in {*_SAID_ELSEWHERE, *_FIRST, *_LAST}]
        for name in (*_FIRST, *middle, *_LAST):
            if fields.get(name) is not None:
                yield self._fact(name, fields[name])

    def _fact(self, name: str, value: Any) -> str:
        if isinstance(value, str) and value and not re.search(r"[\s\"=]", value):
            shown = value
        else:
            shown = json.dumps(value, ensure_ascii=False)
        return f"{self._style(f'{clean(name)}=', 'bright_black')}{clean(shown)}"

    def _time(self, at: float | None) -> str:
        if at is None:
            return f"{'':12}"
        moment = datetime.fromtimestamp(at).astimezone()
        text = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
        return text if moment.date() == self._today else f"{moment:%m-%d} {text}"

    def _style(self, text: str, colour: str | None, *, bold: bool = False) -> str:
        return click.style(text, fg=colour, bold=bold or None) if self._colours and (colour or bold) else text


def clean(text: str) -> str:
    """Without what a terminal would obey; other unprintable characters are written as Python writes them."""
    if text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
