"""How fast a plan really is here: all its engines score at once for some seconds, as they would at work."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING

import numpy as np

from config.logging import configure_logging
from config.settings import EmotionSettings, LogSettings
from warmline.emotion.engine import SAMPLE_RATE, EngineInfo, score, warm
from warmline.jobs.errors import OutOfMemory, WarmlineError

if TYPE_CHECKING:
    from warmline.emotion.plan import Plan

WINDOW_SAMPLES = 5 * SAMPLE_RATE
LOAD_TIMEOUT_SECONDS = 900.0  # the first load of a large model converts it


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was seen."""

    engines: int  # that ran at once
    seconds: float  # that each of them scored for, at least
    rtfx: float  # audio seconds a wall second, all engines together, on windows of 5 s
    info: EngineInfo  # of the first


def measure(settings: EmotionSettings, plan: Plan, *, seconds: float = 5.0) -> Measurement:
    """Loads the plan's engines in processes of their own and has them score together.

    One engine alone would promise too much: processes share caches and memory bandwidth. Raises what loading
    raises, and OutOfMemory where a process is killed.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit threads and, on CUDA, a context
    engines = plan.hosts or plan.children
    start_line = spawn.Barrier(engines)
    waiting: dict[int, Connection] = {}  # by file descriptor
    for index in range(engines):
        ours, theirs = spawn.Pipe(duplex=False)
        arguments = (theirs, start_line, settings, plan.threads, index, seconds)
        spawn.Process(target=_score_for, args=arguments, daemon=True).start()
        theirs.close()
        waiting[ours.fileno()] = ours
    outcomes: list[tuple[float, EngineInfo]] = []
    errors: list[WarmlineError] = []
    while waiting:
        for ready in connection.wait(list(waiting)):
            ours = waiting.pop(int(ready))  # type: ignore[arg-type]  # wait gives back what it was given
            outcome: tuple[float, EngineInfo] | WarmlineError
            try:
                outcome = ours.recv()
            except EOFError:  # it died without a word
                outcome = OutOfMemory(f"One of {engines} engines was killed; use fewer children.")
            ours.close()
            if isinstance(outcome, WarmlineError):
                start_line.abort()  # the others need not wait for it
                errors.append(outcome)
            else:
                outcomes.append(outcome)
    if errors:
        raise errors[0]
    return Measurement(
        engines=engines,
        seconds=seconds,
        rtfx=round(sum(rtfx for rtfx, _ in outcomes), 2),
        info=outcomes[0][1],
    )


def _score_for(
    answer: Connection, start_line: Barrier, settings: EmotionSettings, threads: int, index: int, seconds: float
) -> None:
    """In a process of its own: sends the audio seconds a wall second of one engine, or what is wrong."""
    from warmline.emotion.loading import load_engine

    configure_logging(LogSettings(level="ERROR"), process="measurement")
    try:
        engine = load_engine(settings, threads=threads, child_index=index)
        warm(engine)
        noise = np.random.default_rng(index).standard_normal((engine.windows_at_once, WINDOW_SAMPLES), np.float32)
        windows = list(noise * 0.1)
        start_line.wait(LOAD_TIMEOUT_SECONDS)
        scored, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            score(engine, windows)
            scored += len(windows)
        answer.send((scored * WINDOW_SAMPLES / SAMPLE_RATE / elapsed, engine.info))
    except WarmlineError as error:
        answer.send(error)
    except threading.BrokenBarrierError:
        answer.send(OutOfMemory("The engines were not loaded in time."))
