"""The benchmark's results as a table for people and as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.machine import MachineFacts
from benchmarks.rows import RTFX, Result, Row

FORMAT = 1  # of the JSON
COLOURS = {"reached": "green", "missed": "red", "not measured": "yellow"}


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What no engine can pass on this machine."""

    flop_per_audio_second: float
    fp32_flop_per_second: float
    bf16_flop_per_second: float

    @property
    def best_rate(self) -> float:
        """FLOP a second in the faster of the two."""
        return max(self.fp32_flop_per_second, self.bf16_flop_per_second)

    def rtfx(self, rate: float) -> float:
        """Audio seconds a wall second at that many FLOP a second, with nothing else to do."""
        return rate / self.flop_per_audio_second

    def explain(self, row: Row, result: Result) -> str:
        """Why a throughput's goal was missed, as far as arithmetic says; "" for other rows."""
        if row.unit != RTFX or row.key == "9" or result.ours is None or result.peer_figure is None:
            return ""
        share = result.ours / self.rtfx(self.best_rate)
        needed = row.goal * result.peer_figure / self.rtfx(self.best_rate)
        said = f"uses {share:.0%} of this machine's matrix rate; the goal needs {needed:.0%} of it"
        return f"{said}: out of reach here in fp32 and in bf16" if needed > 1 else said

    def lines(self) -> list[str]:
        """For people."""
        giga = self.flop_per_audio_second / 1e9
        return [
            f"floor: {giga:.1f} GFLOP for a second of audio; a linear layer of the model's shape runs at"
            f" {self.fp32_flop_per_second / 1e9:.0f} GFLOP/s in fp32 ({self.rtfx(self.fp32_flop_per_second):.1f} x"
            f" real time at most), {self.bf16_flop_per_second / 1e9:.0f} in bf16"
            f" ({self.rtfx(self.bf16_flop_per_second):.1f} x)"
        ]


def print_table(
    console: Console,
    rows: Sequence[Row],
    results: Mapping[str, Result],
    *,
    title: str,
    machine: MachineFacts,
    floor: Floor | None,
) -> None:
    """All rows, the machine below them, then a line for each note."""
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for heading in ("", "what", "peer", "peer's", "ours", "ours / peer (spread)", "goal", ""):
        figure = heading in {"peer's", "ours"}
        # What can be read over two lines gives way to what cannot.
        table.add_column(heading, justify="right" if figure else "left", no_wrap=heading not in {"what", "peer"})
    for row in rows:
        table.add_row(*_cells(row, results.get(row.key, Result(key=row.key, reason="not reached yet"))))
    console.print(table)
    for row in rows:
        if (result := results.get(row.key)) and (remark := remarks(row, result, floor)):
            console.print(f"{row.key}: {remark}", markup=False, highlight=False)
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    console.print(
        f"machine: {machine.cpu}, {machine.cores} cores, {' '.join(machine.flags)}, {machine.memory_gib:g} GiB;"
        f" {machine.started_at}, load average at the start {machine.load_average}",
        highlight=False,
    )
    console.print(f"software: Python {machine.python}, {versions}", highlight=False)
    for line in floor.lines() if floor else ():
        console.print(line, highlight=False)


def remarks(row: Row, result: Result, floor: Floor | None) -> str:
    """What stands below the table of a row."""
    said = [result.subject and f"ours: {result.subject}", result.note, result.reason]
    if floor and result.verdict(row) == "missed" and not result.reason:
        said.append(floor.explain(row, result))
    return "; ".join(part for part in said if part)


def _cells(row: Row, result: Result) -> list[Text]:
    verdict = result.verdict(row)
    spread = ""
    if result.ratio is not None:
        spread = f"{result.ratio:.3g}"
        if len(result.ratios) > 1:
            spread += f" ({min(result.ratios):.3g} to {max(result.ratios):.3g})"
    return [
        Text(row.key),
        Text(row.what),
        Text(result.peer or row.peer),
        Text(_figure(result.peer_figure, row.unit)),
        Text(_figure(result.ours, row.unit)),
        Text(spread),
        Text(row.goal_text),
        Text(verdict, style=COLOURS[verdict]),
    ]


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    number = f"{value:,.0f}" if abs(value) >= 100 and unit != "%" else f"{value:.3g}"
    return f"{number} {'x' if unit == RTFX else unit}".rstrip()


def write_json(
    path: Path,
    rows: Sequence[Row],
    results: Mapping[str, Result],
    *,
    machine: MachineFacts,
    floor: Floor | None,
    about: Mapping[str, Any],
) -> None:
    """Writes all that is known so far; replaced whole, so that a break loses no row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": FORMAT,
        **about,
        "machine": machine.to_json(),
        "floor": None if floor is None else vars(floor),
        "rows": [_row_json(row, results[row.key], floor) for row in rows if row.key in results],
    }
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _row_json(row: Row, result: Result, floor: Floor | None) -> dict[str, Any]:
    return {
        "row": row.key,
        "what": row.what,
        "peer": result.peer or row.peer,
        "unit": row.unit,
        "peer_figure": result.peer_figure,
        "ours": result.ours,
        "ratio": result.ratio,
        "ratio_spread": [min(result.ratios), max(result.ratios)] if result.ratios else None,
        "rounds": [list(pair) for pair in result.rounds],
        "goal": row.goal,
        "goal_is_for": row.goal_is_for,
        "better": row.better,
        "verdict": result.verdict(row),
        "remarks": remarks(row, result, floor),
    }
