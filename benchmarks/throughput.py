"""Rows 1 to 3: audio seconds a wall second, ours as planned for this machine, beside FunASR and bare OpenVINO."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Result
from benchmarks.speech import clips, speech_pool, write_call
from benchmarks.subjects import (
    Bench,
    NotMeasured,
    Subject,
    alternate,
    describe_plan,
    save_windows,
    seconds_of,
    team,
)
from warmline.emotion.engine import Samples
from warmline.emotion.plan import Plan

CLIP_SECONDS = 5.0
CALL_SECONDS = 60.0


def require(package: str) -> None:
    """Raises NotMeasured where a peer is not installed."""
    if importlib.util.find_spec(package) is None:
        raise NotMeasured(f"{package} is not installed: `pip install {package}`, or Warmline with its extras")


def measure_throughput(bench: Bench) -> Iterator[Result]:
    """Rows 1, 2 and 3, as far as they are wanted."""
    pool = speech_pool(bench.settings.audio)
    for key, measure in (("1", _short_clips), ("2", _whole_calls), ("3", _best_engine)):
        if key in bench.wanted:
            try:
                yield measure(bench, pool)
            except NotMeasured as error:
                yield Result(key=key, reason=str(error))


@contextlib.contextmanager
def our_engines(
    bench: Bench, windows: Sequence[Samples], name: str, **changes: Any
) -> Iterator[Callable[[], float]]:
    """The plan's engines, warm, each with all windows of its own share; yields what measures their RTFx."""
    plan = bench.plan(**changes)
    engines = plan.hosts or plan.children
    settings = bench.with_emotion(**changes)
    subjects = []
    for index in range(engines):
        file = save_windows(bench.scratch / f"{name}-{plan.engine}-{index}.npz", windows[index::engines])
        subjects.append(Subject(bench, "engine", settings=settings, threads=plan.threads, clips=file, index=index))
    audio_seconds = seconds_of(windows)
    with team(subjects) as ours:
        yield lambda: audio_seconds / ours.seconds()


@contextlib.contextmanager
def lone(subject: Subject, audio_seconds: float) -> Iterator[Callable[[], float]]:
    """A subject alone, warm; yields what measures its RTFx."""
    with team([subject]) as alone:
        yield lambda: audio_seconds / alone.seconds()


def funasr(bench: Bench, windows: Sequence[Samples], name: str) -> Subject:
    """FunASR on all cores with these clips."""
    require("funasr")
    file = save_windows(bench.scratch / f"{name}-funasr.npz", windows)
    return Subject(bench, "funasr", model=bench.model, threads=bench.machine.cores, clips=file)


def bare_openvino(bench: Bench, windows: Sequence[Samples], name: str) -> Subject:
    """OpenVINO on all cores with these windows."""
    require("openvino")
    file = save_windows(bench.scratch / f"{name}-openvino.npz", windows)
    return Subject(
        bench,
        "openvino",
        model=bench.model,
        models_dir=bench.settings.emotion.models_dir,
        threads=bench.machine.cores,
        clips=file,
    )


def what_ran(openvino: Subject) -> str:
    """What the peer really is, once it is warm: a CPU without bf16 gets f32 for it without a word."""
    ran = openvino.facts["precision"]
    return "" if ran == "bf16" else f"OpenVINO bare, all cores, in {ran}: this CPU has no bf16"


def _short_clips(bench: Bench, pool: Samples) -> Result:
    plan = bench.plan()
    count = 2 * (plan.hosts or plan.children)
    windows = clips(pool, seconds=CLIP_SECONDS, count=count)
    theirs = windows[:2]
    with (
        lone(funasr(bench, theirs, "short"), 2 * CLIP_SECONDS) as peer,
        our_engines(bench, windows, "short") as ours,
    ):
        rounds = alternate(bench, "row 1", {"FunASR": peer, "Warmline": ours}, bench.rounds + 1)
    return Result(key="1", rounds=_pairs(rounds), subject=describe_plan(plan))


def _whole_calls(bench: Bench, pool: Samples) -> Result:
    plan = bench.plan()
    engines = plan.hosts or plan.children
    seconds = 6.0 if bench.quick else CALL_SECONDS
    whole = clips(pool, seconds=seconds, count=1)
    calls = [_call(bench, pool, seconds, index, engines) for index in range(engines)]
    pipelines = [
        Subject(bench, "pipeline", threads=plan.threads, call=call, index=index)
        for index, call in enumerate(calls)
    ]
    with lone(funasr(bench, whole, "whole"), seconds) as peer, team(pipelines) as ours:
        measures = {"FunASR": peer, "Warmline": lambda: engines * seconds / ours.seconds()}
        rounds = alternate(bench, "row 2", measures, max(1, bench.rounds - 1))
    at_once = f", {engines} calls at once" if engines > 1 else ""
    return Result(key="2", rounds=_pairs(rounds), subject=describe_plan(plan) + at_once)


def _call(bench: Bench, pool: Samples, seconds: float, index: int, count: int) -> Path:
    offset = index * pool.size / 16_000 / count
    return write_call(
        bench.scratch / f"call-{index}.wav", pool, seconds=seconds, channels=1, offset_seconds=offset
    )


def _best_engine(bench: Bench, pool: Samples) -> Result:
    """Each of our engines beside the peer; the best one counts."""
    windows = clips(pool, seconds=CLIP_SECONDS, count=2 * (bench.plan().hosts or bench.plan().children))
    candidates = _candidates(bench)
    failed: list[str] = []
    with contextlib.ExitStack() as stack:
        subject = bare_openvino(bench, windows, "best")
        measures = {"bare OpenVINO": stack.enter_context(lone(subject, seconds_of(windows)))}
        for name, plan in candidates.items():
            try:
                measures[name] = stack.enter_context(
                    our_engines(bench, windows, f"best-{name}", engine=plan.engine, precision=plan.precision)
                )
            except NotMeasured as error:
                failed.append(f"{name}: {error}")
        if len(measures) == 1:
            raise NotMeasured("; ".join(failed))
        rounds = alternate(bench, "row 3", measures, bench.rounds)
    results = {
        name: Result(key="3", rounds=tuple((each[0], each[1 + place]) for each in rounds))
        for place, name in enumerate(list(measures)[1:])
    }
    best = max(results, key=lambda name: results[name].ratio or 0.0)
    others = [f"{name}: {result.ratio:.2f}x" for name, result in results.items() if name != best]
    return Result(
        key="3",
        rounds=results[best].rounds,
        subject=describe_plan(candidates[best]),
        peer=what_ran(subject),
        note="; ".join([*others, *failed]),
    )


def _candidates(bench: Bench) -> dict[str, Plan]:
    """The planned engine, and torch and OpenVINO each in the precision that is planned."""
    emotion = bench.settings.emotion
    engines = ["torch", "openvino"] if emotion.engine == "auto" else [emotion.engine]
    if not bench.machine.has_openvino:
        engines.remove("openvino")
    plans = [bench.plan(engine=engine) for engine in engines]
    return {f"{plan.engine} {plan.precision}": plan for plan in plans}


def _pairs(rounds: Sequence[tuple[float, ...]]) -> tuple[tuple[float, float], ...]:
    return tuple((peer, ours) for peer, ours in rounds)
