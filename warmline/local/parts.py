"""What the one-machine stack is made of: its parts, in the order in which they start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from warmline.jobs.errors import PermanentError

ORDER = ("valkey", "s3", "api", "uploads", "worker", "flower")  # started so, stopped the other way round


class StackError(PermanentError):
    """The one-machine stack cannot start, or has given up."""

    code = "stack_failed"
    title = "The stack failed"


class StackRunning(StackError):
    """Another process runs a stack on this data directory."""

    code = "stack_running"
    title = "The stack is running"


class ServerMissing(StackError):
    """A server of the one-machine stack is not installed."""

    code = "server_missing"
    title = "A server is not installed"

    def __init__(self, package: str, purpose: str, detail: str = "") -> None:
        found = f" ({detail})" if detail else ""
        super().__init__(
            f"{package}, {purpose}, is not usable here{found}: install it with `pip install 'warmline[local]'`."
        )


def _nothing() -> None:
    """It leaves none."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the stack, and how to tell that it serves."""

    name: str
    command: Sequence[str]
    directory: Path
    address: str  # where people find it; never with a password
    waiting_for: Callable[
        [int], str | None
    ]  # given its pid: None once it serves, else what it is still about to do
    stop_seconds: int = 15  # from SIGTERM to SIGKILL
    remove_traces: Callable[[], None] = _nothing  # called before its start and after its end
    cleared: Sequence[str] = ()  # variables of the environment that it must not see
