"""A line of a log, understood: when it was written, by whom, how grave it is, and what it is about.

Our own processes write JSON. Valkey, SeaweedFS, Flower and supervisord write lines of their own, of which the time
and the gravity are read; what is none of these is shown as it is.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

LEVELS: Final = {
    name.lower(): getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
}

# `docker compose logs` puts the service's name before each line.
_COMPOSE: Final = re.compile(
    r"(?:\x1b\[[0-9;]*m)*([a-z][\w.\-]*?)(?:-\d+)? *\| ?(?:\x1b\[[0-9;]*m)*(.*)", re.DOTALL
)
_LETTERS: Final = {"D": "debug", "I": "info", "W": "warning", "E": "error", "F": "critical", "C": "critical"}
_VALKEY: Final = {".": "debug", "-": "debug", "*": "info", "#": "warning"}


def _in_this_year(text: str) -> datetime:
    """glog's `0504 10:00:00.000000`, which is not in the future."""
    now = datetime.now()  # noqa: DTZ005  # these servers write local time
    moment = datetime.strptime(f"{now.year}{text}", "%Y%m%d %H:%M:%S.%f")  # noqa: DTZ007
    return moment if moment.month <= now.month else moment.replace(year=now.year - 1)


# How others write: the pattern, with groups `at` and `level`; how to read the time; what the level's sign means.
_OTHERS: Final[tuple[tuple[re.Pattern[str], Callable[[str], datetime], dict[str, str]], ...]] = (
    (
        re.compile(r"\d+:[A-Z] (?P<at>\d\d? \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3}) (?P<level>[.\-*#]) "),
        lambda text: datetime.strptime(text, "%d %b %Y %H:%M:%S.%f"),  # noqa: DTZ007
        _VALKEY,
    ),
    (re.compile(r"(?P<level>[IWEF])(?P<at>\d{4} \d\d:\d\d:\d\d\.\d{6}) "), _in_this_year, _LETTERS),
    (
        re.compile(r"\[(?P<level>[DIWEC]) (?P<at>\d{6} \d\d:\d\d:\d\d)"),
        lambda text: datetime.strptime(text, "%y%m%d %H:%M:%S"),  # noqa: DTZ007
        _LETTERS,
    ),
    (
        re.compile(r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (?P<level>DEBG|BLAT|TRAC|INFO|WARN|ERRO|CRIT) "),
        lambda text: datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f"),  # noqa: DTZ007
        {"INFO": "info", "WARN": "warning", "ERRO": "error", "CRIT": "critical"},
    ),
    # Ours, under WARMLINE_LOG_FORMAT=console
    (
        re.compile(
            r"(?:\x1b\[[0-9;]*m)*(?P<at>\d{4}-\d\d-\d\dT[\d:.]+Z)(?:\x1b\[[0-9;]*m)* \[.*?(?P<level>[a-z]+)"
        ),
        datetime.fromisoformat,
        {name: name for name in LEVELS},
    ),
)


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One line. `fields` is None where it is no JSON of ours."""

    part: str
    text: str
    fields: dict[str, Any] | None
    at: float | None  # seconds since the epoch
    level: int | None  # as `logging` counts


def parse_line(text: str, part: str = "") -> LogEntry:
    """One line of a part's log; where that is not known, the line may say."""
    composed = None if part or text.startswith("{") else _COMPOSE.fullmatch(text)
    if composed is not None:
        part, text = composed[1], composed[2]
    if text.startswith("{") and (fields := _fields(text)) is not None:
        level = LEVELS.get(str(fields.get("level", "")).lower())
        own = part or str(fields.get("process", ""))
        return LogEntry(part=own, text=text, fields=fields, at=_seconds(fields.get("timestamp")), level=level)
    for pattern, read, levels in _OTHERS:
        if found := pattern.match(text):
            level = LEVELS.get(levels.get(found["level"], ""), logging.DEBUG)
            return LogEntry(part=part, text=text, fields=None, at=_seconds(found["at"], read), level=level)
    return LogEntry(part=part, text=text, fields=None, at=None, level=None)


def _fields(text: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and "action" in fields else None


def _seconds(text: object, read: Callable[[str], datetime] = datetime.fromisoformat) -> float | None:
    try:
        return read(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None
