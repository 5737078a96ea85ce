"""What a storm came to: the figures, as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import MachineFacts
from tests.chaos.faults import KINDS, Fault


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Seconds from a kind of fault until work went on."""

    kind: str
    injected: int
    down_seconds: Sequence[float]  # of a server
    next_end: Sequence[float]  # to the next job that ended
    same_job: Sequence[float]  # to the next attempt at a job that died


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The reckoning of a storm."""

    seed: int
    jobs: int
    statuses: Mapping[str, int]
    accepted: int  # as those who submitted were told
    refused: int  # submissions that were answered with an error, and repeated
    lost: Sequence[str]
    published_twice: int
    repeated_attempts: int
    outcomes: Mapping[str, int]  # of attempts
    recoveries: Sequence[Recovery]
    left: Mapping[str, int]  # in Redis
    scratch_files: Sequence[str]
    orphans: Sequence[str]
    own_exits: Sequence[int]  # of workers that nobody had killed
    wall_seconds: float
    replayed: int
    dead_after_replay: int
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def repeated_percent(self) -> float:
        """Attempts beyond the first for each hundred jobs."""
        return 100 * self.repeated_attempts / self.jobs

    def print(self, console: Console) -> None:
        """The table."""
        facts = Table(title=f"Chaos, seed {self.seed}", title_justify="left", show_header=False, pad_edge=False)
        for what, value in self._facts():
            facts.add_row(what, value)
        console.print(facts)
        table = Table(header_style="bold", pad_edge=False)
        for heading in ("fault", "times", "down", "next job ended after", "same job ran again after"):
            table.add_column(heading, justify="left" if heading == "fault" else "right")
        for each in self.recoveries:
            table.add_row(
                KINDS[each.kind],
                str(each.injected),
                spread(each.down_seconds),
                spread(each.next_end),
                spread(each.same_job),
            )
        console.print(table)

    def _facts(self) -> list[tuple[str, str]]:
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        history = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return [
            ("jobs", f"{self.jobs:,}: {statuses}"),
            ("accepted, as the senders were told", f"{self.accepted:,}"),
            ("submissions refused and repeated", str(self.refused)),
            ("faults injected", str(sum(each.injected for each in self.recoveries))),
            ("lost", str(len(self.lost))),
            ("published twice", str(self.published_twice)),
            ("attempts", history),
            ("repeated work", f"{self.repeated_percent:.2f} % (attempts beyond the first / jobs)"),
            ("dead, replayed, then still dead", f"{self.replayed}, {self.dead_after_replay}"),
            ("left in Redis", ", ".join(f"{size} {what}" for what, size in self.left.items()) or "nothing"),
            ("temporary files, orphans", f"{len(self.scratch_files)}, {len(self.orphans)}"),
            ("workers that ended by themselves", str(len(self.own_exits))),
            ("wall time", f"{self.wall_seconds:,.0f} s"),
            *((what, str(value)) for what, value in self.notes.items()),
        ]

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self)


def spread(seconds: Sequence[float]) -> str:
    """Median (least to most), in seconds."""
    if not seconds:
        return "-"
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def recoveries(
    faults: Sequence[Fault], next_end: Mapping[Fault, float], again: Mapping[Fault, Sequence[float]]
) -> list[Recovery]:
    """By kind, in the order of KINDS."""
    counted = Counter(fault.kind for fault in faults)
    return [
        Recovery(
            kind=kind,
            injected=counted[kind],
            down_seconds=[fault.down_seconds for fault in faults if fault.kind == kind and fault.down_seconds],
            next_end=[round(next_end[fault], 3) for fault in faults if fault.kind == kind and fault in next_end],
            same_job=[round(s, 3) for fault in faults if fault.kind == kind for s in again.get(fault, ())],
        )
        for kind in KINDS
        if counted[kind]
    ]


def write_json(path: Path, machine: MachineFacts, document: Mapping[str, Any]) -> None:
    """Replaces the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine.to_json(), **document}, indent=2, default=str)
    path.write_text(text + "\n", encoding="utf-8")
