"""The public benchmark: every row of the table, beside its peer, on this machine.

    python -m benchmarks                        all rows, with a large model of random weights
    python -m benchmarks --rows 1,5,10.mini     some of them
    python -m benchmarks --model DIR            your own model
    python -m benchmarks --quick                a smoke run with a tiny model: its figures mean nothing

A missed goal is shown as missed, a row that cannot run here as not measured, with the reason: no failures, both.
Ends with 2 where the command or the settings are wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import MachineFacts, look_at_facts
from benchmarks.report import Floor, print_table, write_json
from benchmarks.rows import ROWS, Result, Row, choose_rows
from benchmarks.speech import SAMPLES
from benchmarks.subjects import Bench, NotMeasured, Subject
from config.settings import Settings, SettingsError, load_settings
from warmline.cli import consoles

RESULTS = Path("benchmarks") / "results"
ROLES = "warmline[worker,local,api]"
Group = tuple[tuple[str, ...], Callable[[Bench], Iterator[Result]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen rows and prints the table. Returns the exit code."""
    options = _parse(arguments)
    try:
        rows = choose_rows(options.rows)
        settings = load_settings(with_stack=False)
    except (ValueError, SettingsError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if missing := _missing():
        print(f"benchmarks: {', '.join(missing)} not installed; install {ROLES}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="warmline-benchmark-", ignore_cleanup_errors=True) as scratch:
        run = Run(options, rows, settings, Path(scratch))
        try:
            run.measure()
        except KeyboardInterrupt:
            print("benchmarks: interrupted; the rows so far:", file=sys.stderr)
            run.show()
            return 130
        run.show()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="", help="which rows, e.g. 1,5 or 10.large.bf16; all unless given")
    parser.add_argument("--model", type=Path, help="a FunASR model directory; a random large model unless given")
    parser.add_argument(
        "--engine", default="", help="ours: auto, torch, openvino; as in the settings unless given"
    )
    parser.add_argument("--precision", default="", help="ours: auto, fp32, bf16, int8; likewise")
    parser.add_argument("--rounds", type=int, default=3, help="how often peers alternate (some rows more or less)")
    parser.add_argument(
        "--clips", type=Path, default=SAMPLES, help="recordings for row 10, with labels.csv or not"
    )
    parser.add_argument("--windows", type=int, default=16, help="windows for row 10 with the large model")
    parser.add_argument("--work", type=Path, help="where the random model and converted weights are kept")
    parser.add_argument("--json", type=Path, help=f"the results' file; {RESULTS}/DATE-CPU.json unless given")
    parser.add_argument("--quick", action="store_true", help="a smoke run with a tiny model")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.windows < 2:
        parser.error("--rounds is at least 1, --windows at least 2")
    if not options.clips.is_dir():
        parser.error(f"--clips {options.clips} is no directory")
    return options


def _missing() -> list[str]:
    import importlib.util

    return [name for name in ("torch", "soundfile", "soxr", "psutil") if importlib.util.find_spec(name) is None]


def groups() -> tuple[Group, ...]:
    """Which rows are measured together, in the order of the run."""
    from benchmarks.fidelity import measure_fidelity
    from benchmarks.lengths import measure_lengths
    from benchmarks.stack import measure_children_memory, measure_stack_throughput
    from benchmarks.starting import measure_starts
    from benchmarks.throughput import measure_throughput

    return (
        (("1", "2", "3"), measure_throughput),
        (("4",), measure_stack_throughput),
        (("5", "6"), measure_starts),
        (("7",), measure_children_memory),
        (("8", "9"), measure_lengths),
        (tuple(row.key for row in ROWS if row.key.startswith("10.")), measure_fidelity),
    )


def results_of(bench: Bench, group: Group) -> Iterator[Result]:
    """The group's wanted rows. What raises is a reason, and costs no other group its rows."""
    wanted = [key for key in group[0] if key in bench.wanted]
    if not wanted:
        return
    reason = "it gave no result"
    try:
        for result in group[1](bench):
            wanted.remove(result.key)
            yield result
    except NotMeasured as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the table shows it
        reason = f"{type(error).__name__}: {error}"
    for key in wanted:
        yield Result(key=key, reason=reason)


@dataclass
class Run:
    """One run: its options, and what is known so far."""

    options: argparse.Namespace
    rows: tuple[Row, ...]
    settings: Settings
    scratch: Path
    machine: MachineFacts = field(default_factory=look_at_facts)
    results: dict[str, Result] = field(default_factory=dict)
    floor: Floor | None = None
    title: str = ""
    seconds: dict[str, float] = field(default_factory=dict)  # that rows took; one that came with another: 0

    def measure(self) -> None:
        """All rows, each written down as soon as it is known."""
        notes = consoles.notes()
        with consoles.progress_bar(notes) as bar:
            task = bar.add_task("the model", total=len(self.rows))

            def tell(what: str) -> None:
                bar.update(task, description=what)
                if not notes.is_terminal:
                    notes.print(what, **consoles.PLAIN)

            bench = self._bench(tell)
            self.floor = _measure_floor(bench)
            for group in groups():
                started = time.perf_counter()
                for result in results_of(bench, group):
                    self.results[result.key] = result
                    self.seconds[result.key] = round(time.perf_counter() - started, 1)
                    started = time.perf_counter()
                    bar.advance(task)
                    self._write()
            # The better of two moments: beside a busy neighbour the first may have been slow.
            self.floor = _better(self.floor, _measure_floor(bench))
            self._write()

    def show(self) -> None:
        """The table, on stdout."""
        print_table(
            consoles.results(), self.rows, self.results, title=self.title, machine=self.machine, floor=self.floor
        )
        consoles.notes().print(f"written to {self._file}", **consoles.PLAIN)

    def _bench(self, tell: Callable[[str], None]) -> Bench:
        from warmline.emotion.plan import look_at_machine

        options, quick = self.options, self.options.quick
        work = (
            self.scratch if quick else options.work or self.settings.emotion.models_dir / "benchmark"
        ).expanduser()
        changes: dict[str, Any] = {"models_dir": work / "models", "device": "cpu"}
        changes |= {name: value for name in ("engine", "precision") if (value := getattr(options, name))}
        config = "tiny" if quick else "large"
        changes["model"] = str(options.model.resolve() if options.model else work / f"{config}-random")
        name = options.model.resolve().name if options.model else f"{config}, random weights"
        self.title = (
            f"Warmline beside its peers: {name}{' (a quick run: its figures mean nothing)' if quick else ''}"
        )
        emotion = self.settings.emotion.model_copy(update=changes)
        bench = Bench(
            settings=self.settings.model_copy(update={"emotion": emotion}),
            machine=look_at_machine(),
            model_title=name,
            random_weights=options.model is None,
            work=work,
            scratch=self.scratch,
            rounds=1 if quick else options.rounds,
            quick=quick,
            clips=options.clips.resolve(),
            windows=4 if quick else options.windows,
            wanted=frozenset(row.key for row in self.rows),
            tell=tell,
        )
        if not bench.model.is_dir():
            _build(bench, config)
        return bench

    @property
    def _file(self) -> Path:
        file: Path = self.options.json or RESULTS / f"{self.machine.slug}.json"
        return file

    def _write(self) -> None:
        about = {
            "title": self.title,
            "rounds": self.options.rounds,
            "quick": self.options.quick,
            "seconds": self.seconds,
        }
        write_json(self._file, self.rows, self.results, machine=self.machine, floor=self.floor, about=about)


def _build(bench: Bench, config: str) -> None:
    bench.tell(f"building a {config} model of random weights")
    bench.work.mkdir(parents=True, exist_ok=True)
    with Subject(bench, "random", directory=bench.model, config=config) as subject:
        subject.ready()


def _better(first: Floor | None, second: Floor | None) -> Floor | None:
    if first is None or second is None:
        return first or second
    return replace(
        first,
        fp32_flop_per_second=max(first.fp32_flop_per_second, second.fp32_flop_per_second),
        bf16_flop_per_second=max(first.bf16_flop_per_second, second.bf16_flop_per_second),
    )


def _measure_floor(bench: Bench) -> Floor | None:
    bench.tell("the machine's matrix rate")
    try:
        with Subject(bench, "floor", model=bench.model, threads=bench.machine.cores) as subject:
            subject.ready()
            return Floor(**subject.run())
    except NotMeasured as error:
        bench.tell(f"no floor: {error}")
        return None


if __name__ == "__main__":
    sys.exit(main())
