"""Rows 5 and 6: how long until a process is warm, from nothing and as a replacement child."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.rows import Result
from benchmarks.stack import replace_child, warm_worker
from benchmarks.subjects import Bench, Subject, alternate, describe_plan, warm_page_cache
from benchmarks.throughput import require


def measure_starts(bench: Bench) -> Iterator[Result]:
    """FunASR from nothing, ours from nothing, a killed child's replacement: in turn, each round."""
    require("funasr")
    wanted = {"5", "6"} & bench.wanted
    plan = bench.plan(children=1)
    parts: dict[str, dict[str, float]] = {}

    def cold(kind: str, **spec: Any) -> Callable[[], float]:
        def start() -> float:
            with Subject(bench, kind, **spec) as subject:
                parts[kind] = {name: value for name, value in subject.ready().items() if isinstance(value, float)}
                return time.perf_counter() - subject.started

        return start

    with contextlib.ExitStack() as stack:
        measures = {"FunASR": cold("funasr", model=bench.model, threads=bench.machine.cores)}
        if "5" in wanted:
            measures["Warmline"] = cold("engine", threads=plan.threads)
        if "6" in wanted:
            worker = stack.enter_context(warm_worker(bench))
            measures["a replacement"] = lambda: replace_child(worker)
        warm_page_cache(bench.model / "model.pt", *bench.settings.emotion.models_dir.rglob("*.safetensors"))
        for name in ("FunASR", "Warmline"):  # libraries into the page cache, weights converted
            if name in measures and not bench.quick:
                bench.tell(f"rows 5 and 6: {name}, unmeasured")
                measures[name]()
        rounds = alternate(bench, "rows 5 and 6", measures, bench.rounds if bench.quick else bench.rounds + 1)
    if "5" in wanted:
        yield Result(
            key="5",
            rounds=tuple((each[0], each[1]) for each in rounds),
            subject=describe_plan(plan),
            note=f"FunASR {_parts(parts['funasr'])}; ours {_parts(parts['engine'])}; both score a quarter second",
        )
    if "6" in wanted:
        yield Result(key="6", rounds=tuple((each[0], each[-1]) for each in rounds), subject=_worker(bench))


def _worker(bench: Bench) -> str:
    plan = bench.plan()
    return f"{describe_plan(plan)}, {plan.children} children, one killed"


def _parts(seconds: dict[str, float]) -> str:
    names = {"import": "imports", "load": "loading", "first": "first inference"}
    return ", ".join(f"{names[name]} {seconds[name]:.2f} s" for name in names if name in seconds)
