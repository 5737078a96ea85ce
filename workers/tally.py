"""What a worker's children did, told to their parent, which counts it: `workers.metrics`.

A child never waits to be counted. Where the parent does not read in time, what finds no room is left out, and how
much that was is told later. Nothing is written to disk, and nothing grows with the number of children that were.
"""

from __future__ import annotations

from pydantic import Field, ValidationError

from warmline.jobs.records import Lane, Record
from workers.line_pipe import LinePipe

CAPACITY_BYTES = 1024**2  # some thousands of observations; as much as an ordinary user may have


class AttemptSeen(Record):
    """One attempt at a job, over."""

    lane: Lane
    outcome: str
    code: str = ""
    seconds: float
    wait_seconds: float | None = None  # from the queue to the first claim
    stage_seconds: dict[str, float] = Field(default_factory=dict)
    audio_seconds: float | None = None  # of a call that was analysed
    speech_seconds: float | None = None
    rtfx: float | None = None


class StoreSeen(Record):
    """One request to the object store, with the client's own retries, until the head of its answer was there."""

    operation: str
    outcome: str
    seconds: float


class _Line(Record):
    """One observation on the wire."""

    attempt: AttemptSeen | None = None
    store: StoreSeen | None = None
    dropped: int = 0  # observations that found no room before this one


Seen = AttemptSeen | StoreSeen


class Tally:
    """The pipe: children write to it, their parent reads."""

    def __init__(self) -> None:
        self._pipe = LinePipe.open(capacity_bytes=CAPACITY_BYTES, patient=False)
        self._dropped = 0

    def fileno(self) -> int:
        """The parent's end, for an event loop."""
        return self._pipe.fileno()

    def tell_attempt(self, seen: AttemptSeen) -> None:
        """From a child. Never waits, and never fails."""
        self._write(_Line(attempt=seen, dropped=self._dropped))

    def tell_request(self, operation: str, outcome: str, seconds: float) -> None:
        """From a child, of the object store. Never waits, and never fails."""
        seen = StoreSeen(operation=operation, outcome=outcome, seconds=round(seconds, 6))
        self._write(_Line(store=seen, dropped=self._dropped))

    def read(self) -> tuple[list[Seen], int]:
        """In the parent: what was told since the last call, and how many found no room. Never waits."""
        lines = [line for text in self._pipe.read() if (line := _parse(text)) is not None]
        seen = [one for line in lines for one in (line.attempt, line.store) if one is not None]
        return seen, sum(line.dropped for line in lines)

    def _write(self, line: _Line) -> None:
        # Two threads of a child may count a drop once too often or too seldom: it is a warning, not a sum.
        if self._pipe.write(line.model_dump_json(exclude_defaults=True).encode()):
            self._dropped = 0
        else:
            self._dropped += 1


def _parse(text: bytes) -> _Line | None:
    try:
        return _Line.model_validate_json(text)
    except ValidationError:
        return None  # a child that was killed while it wrote
