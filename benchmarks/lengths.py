"""Rows 8 and 9: what a call's length costs. With the mini model: its constants are small, so both are harder."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.rows import Result
from benchmarks.speech import speech_pool, write_call
from benchmarks.subjects import Bench, Subject, alternate

SHORT_SECONDS = 60.0
LONG_SECONDS = 3 * 3600.0
QUICK_LONG_SECONDS = 120.0
SHORT_TIMES = 5  # analyses of the short call that one round takes
QUICK_SHORT_TIMES = 1


def measure_lengths(bench: Bench) -> Iterator[Result]:
    """A 1-minute and a 3-hour stereo call, both channels speaking throughout, each in a process of its own."""
    pool = speech_pool(bench.settings.audio)
    long_seconds = QUICK_LONG_SECONDS if bench.quick else LONG_SECONDS
    bench.tell("rows 8 and 9: writing the calls")
    calls = {
        seconds: write_call(bench.scratch / f"stereo-{seconds:.0f}.wav", pool, seconds=seconds, channels=2)
        for seconds in (SHORT_SECONDS, long_seconds)
    }
    settings = bench.with_emotion(model="mini")
    plan = bench.plan(model="mini", children=1)
    subjects = {
        seconds: Subject(bench, "pipeline", settings=settings, threads=plan.threads, call=call)
        for seconds, call in calls.items()
    }
    peaks: dict[float, int] = {}

    def rtfx(seconds: float, times: int) -> float:
        said = subjects[seconds].run(times=times)
        peaks[seconds] = said["peak_bytes"]
        return times * seconds / float(said["seconds"])

    with subjects[SHORT_SECONDS] as short, subjects[long_seconds] as long:
        short.ready()
        long.ready()
        short.run()  # the first call's one-time costs belong to no length
        measures = {
            "1 minute": lambda: rtfx(SHORT_SECONDS, QUICK_SHORT_TIMES if bench.quick else SHORT_TIMES),
            f"{long_seconds / 60:.0f} minutes": lambda: rtfx(long_seconds, 1),
        }
        rounds = alternate(bench, "rows 8 and 9", measures, 1 if bench.quick else 2)
    note = "mini model: its small constants make the ratio the harder test"
    if bench.quick:
        note += f"; {long_seconds / 60:.0f} minutes instead of 3 hours"
    model = f"mini, {plan.engine} {plan.precision}, one process of {plan.threads} threads"
    if "8" in bench.wanted:
        peak = (peaks[SHORT_SECONDS] / 1e6, peaks[long_seconds] / 1e6)
        yield Result(key="8", rounds=(peak,), subject=model, note=note)
    if "9" in bench.wanted:
        yield Result(
            key="9", rounds=tuple((short_rtfx, long_rtfx) for short_rtfx, long_rtfx in rounds), subject=model,
            note=note,
        )  # fmt: skip
