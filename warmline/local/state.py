"""What `warmline up` writes down of a running stack for `warmline status`, in another process."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from warmline.local.events import Event, PartDied, PartReady
from warmline.local.parts import Part
from warmline.local.private_files import write_private

Phase = Literal["starting", "ready", "stopping"]


class PartState(BaseModel):
    """One part, as the process that watches it sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    address: str
    serves: bool
    deaths: int  # within the last ten minutes, when the last one happened


class StackState(BaseModel):
    """One stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Phase
    pid: int
    started_at: datetime
    parts: tuple[PartState, ...]

    @classmethod
    def read(cls, path: Path) -> StackState | None:
        """None when no stack has written one, or another version of Warmline did."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, path: Path) -> None:
        """Replaces what was there."""
        write_private(path, self.model_dump_json())


class StateFile:
    """Keeps the file true while the stack runs; any thread may tell it what happened."""

    def __init__(self, path: Path, parts: Sequence[Part]) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._parts = {
            part.name: PartState(name=part.name, address=part.address, serves=False, deaths=0) for part in parts
        }
        self._phase: Phase = "starting"
        self._started_at = datetime.now(UTC)

    def enter(self, phase: Phase) -> None:
        """The whole stack is in this phase now."""
        with self._lock:
            self._phase = phase
            self._write()

    def note(self, event: Event) -> None:
        """Something happened; most of it changes nothing here."""
        with self._lock:
            match event:
                case PartReady():
                    change: dict[str, object] = {"serves": True}
                case PartDied():
                    change = {"serves": False, "deaths": event.deaths}
                case _:
                    return
            self._parts[event.part] = self._parts[event.part].model_copy(update=change)
            self._write()

    def _write(self) -> None:
        state = StackState(
            phase=self._phase,
            pid=os.getpid(),
            started_at=self._started_at,
            parts=tuple(self._parts.values()),
        )
        state.write(self._path)
