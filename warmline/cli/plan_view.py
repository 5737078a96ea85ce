"""What `warmline doctor --plan` shows: the machine, what a worker makes of it, and how fast that is."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from rich.table import Table

from warmline.cli import consoles

if TYPE_CHECKING:
    from config.settings import Settings
    from warmline.emotion.plan import Machine, Plan
    from warmline.emotion.self_measurement import Measurement


def show_plan(settings: Settings, *, as_json: bool) -> None:
    """Plans, measures the plan for five seconds, and prints both. Raises what loading the model raises."""
    from warmline.emotion.plan import look_at_machine, plan_worker
    from warmline.emotion.self_measurement import measure

    machine = look_at_machine()
    plan = plan_worker(settings.emotion, settings.worker, machine)
    with consoles.notes().status("loading the planned engines, then measuring for 5 s"):
        measured = measure(settings.emotion, plan)
    if as_json:
        consoles.results().print_json(json.dumps(_facts(machine, plan, measured)))
    else:
        consoles.results().print(_table(machine, plan, measured))


def _facts(machine: Machine, plan: Plan, measured: Measurement) -> dict[str, Any]:
    return {
        "machine": dataclasses.asdict(machine) | {"cpu_flags": sorted(machine.cpu_flags)},
        "plan": dataclasses.asdict(plan),
        "measured": dataclasses.asdict(measured),
    }


def _table(machine: Machine, plan: Plan, measured: Measurement) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    engines = f"{plan.hosts} engine hosts" if plan.hosts else "each child holds the engine"
    rows = {
        "cores": str(machine.cores),
        "memory": f"{machine.memory_bytes / 2**30:.1f} GiB",
        "GPUs": str(machine.gpus),
        "bf16 in the CPU": "yes" if machine.cpu_has_bf16 else "no",
        "children": f"{plan.children} ({engines})",
        "live children": f"{plan.live_children}, kept free for the live lane",
        "threads": f"{plan.threads} for each engine",
        "engine": f"{measured.info.engine} on {measured.info.device}: {plan.reason}",
        "precision": measured.info.precision,
        "model": measured.info.model,
        "expected": f"{measured.rtfx:.1f} x real time of speech, all engines together, measured for"
        f" {measured.seconds:.0f} s on windows of 5 s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
