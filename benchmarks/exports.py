"""How fast reports become tables, and whether the memory for it grows with their number.

    python -m benchmarks.exports [--reports 2000,20000] [--windows 60] [--json FILE]

Writes made reports (two channels, seeded random scores) of a month's days into a folder, and runs the command on
them, each time in a process of its own: a first export to Parquet, one with nothing new, one after a hundredth of
the reports changed, a CSV of the windows, and an aggregate. Goal: the peak memory for the most reports is at most
a tenth above that for the fewest, whose files are too small to fill the parts that are held in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import look_at_facts
from config.settings import AnalysisSettings
from warmline.calls.report import STANDARD_LABELS, ModelProvenance, Provenance, Report, ReportSource, Span
from warmline.calls.sides import RawWindow, Side, describe_sides
from warmline.jobs.records import Options

DISTINCT = 100  # reports that are made; the others are these under other names
DAYS = 30
CHANGED = 100  # of so many reports one
GROWTH = 1.1
ROLES = ("agent", "customer")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the command."""

    what: str
    reports: int  # that there are
    seconds: float  # from the process' start to its end
    cpu_seconds: float  # which a busy neighbour changes less
    peak_mb: float
    output_mb: float = 0.0


def main() -> int:
    """Runs the measurement and prints it; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", default="2000,20000", help="how many, comma-separated")
    parser.add_argument("--windows", type=int, default=60, help="windows of each report")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    facts, runs = look_at_facts(("warmline", "pyarrow")), list[Run]()
    print(f"{facts.cpu}, {facts.cores} cores, load {facts.load_average}, {facts.started_at}")
    for count in map(int, arguments.reports.split(",")):
        with tempfile.TemporaryDirectory() as data:
            size = write_reports(Path(data) / "reports", count, arguments.windows)
            print(f"{count:,} reports of {arguments.windows} windows, {size / count / 1000:.0f} kB each")
            for run in measure(Path(data), count):
                runs.append(run)
                print(
                    f"  {run.what:<24} {run.seconds:7.1f} s  {run.reports / run.seconds:8,.0f} reports/s"
                    f"  {run.reports / run.cpu_seconds:8,.0f} a second of processor"
                    f"  peak {run.peak_mb:5.0f} MB  wrote {run.output_mb:6.1f} MB"
                )
    if arguments.json:
        figures = {"machine": facts.to_json(), "windows": arguments.windows, "runs": [asdict(run) for run in runs]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if _is_flat(runs) else 1


def measure(data: Path, count: int) -> Iterator[Run]:
    """The runs over one folder of reports."""
    reports, tables = data / "reports", data / "tables"
    export = ("export", "--reports", str(reports), "--date", "key", "--to")
    yield run_command("export to Parquet", count, (*export, str(tables)), tables)
    yield run_command("nothing new", count, (*export, str(tables)))
    for path in sorted(reports.rglob("*.json"))[::CHANGED]:
        path.touch()
    yield run_command("a hundredth changed", count, (*export, str(tables)))
    windows = data / "windows.csv"
    yield run_command("windows as CSV", count, (*export, str(windows), "--tables", "windows"), windows)
    yield run_command(
        "aggregate by agent, day", count, ("aggregate", "--reports", str(reports), "--by", "agent,day")
    )


def run_command(what: str, count: int, arguments: Sequence[str], output: Path | None = None) -> Run:
    """Runs `warmline`, and looks at what its process took."""
    started = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-m", "warmline.cli.main", *arguments], os.environ, file_actions=quiet
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"warmline {' '.join(arguments)} failed")
    files = (
        [] if output is None else [output] if output.is_file() else [p for p in output.rglob("*") if p.is_file()]
    )
    return Run(
        what=what,
        reports=count,
        seconds=time.perf_counter() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss / 1000,
        output_mb=sum(path.stat().st_size for path in files) / 1e6,
    )


def write_reports(folder: Path, count: int, windows: int) -> int:
    """Writes reports as files by day, and returns their bytes."""
    chance = random.Random(7)
    made = [made_report(chance, windows).model_dump_json() for _ in range(min(DISTINCT, count))]
    total = 0
    for number in range(count):
        day = f"2026/11/{number * DAYS // count + 1:02}"
        text = (
            made[number % len(made)].replace("KEY", f"{day}/call-{number:07}").replace("NAME", f"a-{number % 50}")
        )
        path = folder / day / f"{number:07}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        total += path.write_text(text)
    return total


def made_report(chance: random.Random, windows: int) -> Report:
    """A call of two sides that speak in turn, with random scores."""
    at_ms, sides = 0, list[list[RawWindow]]([[], []])
    for number in range(windows):
        length = chance.randrange(1500, 5000)
        weights = [chance.random() ** 3 for _ in STANDARD_LABELS]
        scores = [round(weight / sum(weights), 4) for weight in weights]
        scores[5] += 1 - sum(scores)
        sides[number % 2].append(
            RawWindow(
                start_ms=at_ms,
                end_ms=at_ms + length,
                loudness_dbfs=round(chance.uniform(-40, -15), 1),
                scores=dict(zip(STANDARD_LABELS, scores, strict=True)),
            )
        )
        at_ms += length + chance.randrange(-400, 2500)
    described = describe_sides(
        [
            Side(
                index=index,
                role=ROLES[index],
                windows=tuple(side),
                speech=tuple(Span(start_ms=window.start_ms, end_ms=window.end_ms) for window in side),
            )
            for index, side in enumerate(sides)
        ],
        duration_ms=at_ms + 5000,
        excluded=(),
        recorded_channels=2,
        settings=AnalysisSettings(),
    )
    return Report(
        job_id=None, metadata={"agent": "NAME", "queue": "billing"}, **_facts(at_ms + 5000), **vars(described)
    )


def _facts(duration_ms: int) -> dict[str, Any]:
    model = ModelProvenance(name="made", hash="ab" * 32, mini=True, engine="none", device="cpu", precision="fp32")
    return {
        "source": ReportSource(
            uri="s3://calls/KEY.wav", bucket="calls", key="KEY.wav", etag="0" * 32, size_bytes=16 * duration_ms,
            container="WAV", codec="ULAW", sample_rate_hz=8000, channels=2, duration_seconds=duration_ms / 1000,
        ),
        "provenance": Provenance(
            warmline_version="0", model=model, options=Options(roles=ROLES), stage_seconds={}, rtfx=1.0,
            analysed_at=datetime(2026, 11, 30, tzinfo=UTC),
        ),
    }  # fmt: skip


def _is_flat(runs: Sequence[Run]) -> bool:
    flat = True
    for what in dict.fromkeys(run.what for run in runs):
        peaks = [run.peak_mb for run in runs if run.what == what]
        growth = peaks[-1] / peaks[0]
        flat = flat and growth <= GROWTH
        verdict = "reached" if growth <= GROWTH else "missed"
        print(f"{what}: peak memory x {growth:.2f} (goal: <= {GROWTH}, {verdict})")
    return flat


if __name__ == "__main__":
    sys.exit(main())
