"""What happens to a stack, for whoever shows it: the command line, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LeftoversFound:
    """An earlier stack on this directory was not stopped; its processes are being ended."""

    parts: Sequence[str]


@dataclass(frozen=True)
class PortTaken:
    """Another program has the usual port of a part; it listens on another one."""

    part: str
    usual: int
    chosen: int


@dataclass(frozen=True)
class PartStarting:
    """A part has been started; `waiting_for` says what it is still about to do."""

    part: str
    waiting_for: str


@dataclass(frozen=True)
class PartReady:
    """A part serves."""

    part: str
    address: str
    seconds: float


@dataclass(frozen=True)
class PartDied:
    """A part has ended by itself, and is started again after a while."""

    part: str
    how: str  # e.g. exit status 1; terminated by SIGKILL
    deaths: int  # within the last ten minutes
    restart_in_seconds: float


@dataclass(frozen=True)
class PartStopping:
    """A part was asked to end, and has so long for it."""

    part: str
    stop_seconds: float


@dataclass(frozen=True)
class LogLine:
    """A part printed a line."""

    part: str
    line: str


Event = LeftoversFound | PortTaken | PartStarting | PartReady | PartDied | PartStopping | LogLine
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """For those who do not want to know."""
