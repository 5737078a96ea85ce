"""The parent's side of what is measured: each subject runs in a process of its own and does as it is told.

    with Subject(bench, "funasr", clips=file, threads=2) as subject:
        subject.run()

Subjects wait without spinning, so one can rest, loaded, while its peer is measured.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from config.settings import Settings, process_environment
from warmline.emotion.engine import SAMPLE_RATE, Samples
from warmline.emotion.plan import Machine as PlannedMachine
from warmline.emotion.plan import Plan, make_plan


class NotMeasured(Exception):
    """A row cannot be measured here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the measurements of a run share."""

    settings: Settings  # of "ours": model, engine, precision
    machine: PlannedMachine
    model_title: str  # for the table, which never takes random weights for the real model
    random_weights: bool
    work: Path  # kept between runs: models, converted weights
    scratch: Path  # gone after the run
    rounds: int
    quick: bool  # a smoke run: everything is short
    clips: Path  # recordings for the fidelity
    windows: int  # most windows for the fidelity of a slow model
    wanted: frozenset[str]  # keys of rows
    tell: Callable[[str], None] = field(default=lambda _: None)  # what goes on, for the progress bar

    @property
    def model(self) -> Path:
        """The model's directory."""
        return Path(self.settings.emotion.model)

    def plan(self, *, children: int = 0, **changes: Any) -> Plan:
        """The plan of "ours" here, with other settings where given."""
        emotion = self.settings.emotion.model_copy(update=changes)
        hosts = self.settings.worker.engine_hosts
        return make_plan(emotion, self.machine, children=children, hosts=None if hosts == "auto" else int(hosts))

    def with_emotion(self, **changes: Any) -> Settings:
        """Our settings, some of the model's changed."""
        return self.settings.model_copy(update={"emotion": self.settings.emotion.model_copy(update=changes)})


class Subject:
    """A process of `benchmarks.subject`. Raises NotMeasured where it cannot do its work."""

    def __init__(self, bench: Bench, kind: str, *, settings: Settings | None = None, **spec: Any) -> None:
        self.facts: dict[str, Any] = {}
        self._kind = kind
        self._log = bench.scratch / f"{kind}-{time.monotonic_ns()}.log"
        self.started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.subject", kind, json.dumps(spec, default=str)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # The same for all: threads that spin while they wait would take the cores from each other.
                env=process_environment(settings or bench.settings, OMP_WAIT_POLICY="PASSIVE"),
            )

    def ready(self) -> dict[str, Any]:
        """Waits until it is warm; returns what it says of itself, also kept as `facts`."""
        self.facts = self.answer()
        return self.facts

    def run(self, **task: Any) -> dict[str, Any]:
        """Does its work once."""
        self.ask(**task)
        return self.answer()

    def ask(self, **task: Any) -> None:
        """Tells it to work, without waiting."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` will say how it ended
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Waits for what it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            lines = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise NotMeasured(f"{self._kind} ended with {code}: {lines[-1][:300]}")
        said: dict[str, Any] = json.loads(line)
        if error := said.get("error"):
            raise NotMeasured(str(error))
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(1 if kind else 30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Team:
    """Subjects that work at the same time, as a worker's children do."""

    def __init__(self, members: Sequence[Subject]) -> None:
        self.members = members

    def ready(self) -> list[dict[str, Any]]:
        """Waits until all are warm."""
        return [member.ready() for member in self.members]

    def seconds(self) -> float:
        """Wall seconds until all have done their work."""
        started = time.perf_counter()
        for member in self.members:
            member.ask()
        for member in self.members:
            member.answer()
        return time.perf_counter() - started


@contextlib.contextmanager
def team(subjects: Sequence[Subject]) -> Iterator[Team]:
    """A team that is warm; its members end with the block."""
    with contextlib.ExitStack() as stack:
        made = Team([stack.enter_context(subject) for subject in subjects])
        made.ready()
        yield made


def alternate(
    bench: Bench, title: str, measures: Mapping[str, Callable[[], float]], rounds: int
) -> list[tuple[float, ...]]:
    """A B A B ...: each measure's figure, round by round."""
    return [
        tuple(_one(bench, title, names, measures, count, rounds) for names in measures) for count in range(rounds)
    ]


def _one(
    bench: Bench, title: str, name: str, measures: Mapping[str, Callable[[], float]], count: int, rounds: int
) -> float:
    bench.tell(f"{title}: round {count + 1} of {rounds}, {name}")
    return measures[name]()


def save_windows(path: Path, windows: Sequence[Samples]) -> Path:
    """Writes windows for subjects to score."""
    with path.open("wb") as file:
        np.savez(file, **{f"w{index:05}": window for index, window in enumerate(windows)})  # type: ignore[arg-type]
    return path


def seconds_of(windows: Sequence[Samples]) -> float:
    """Audio seconds of all windows."""
    return sum(window.size for window in windows) / SAMPLE_RATE


def describe_plan(plan: Plan) -> str:
    """What "ours" is, in a few words."""
    engines = plan.hosts or plan.children
    return f"{plan.engine} {plan.precision}, {engines} x {plan.threads} thread{'s' if plan.threads > 1 else ''}"


def warm_page_cache(*files: Path) -> None:
    """Reads files once, so that no subject waits for the disk."""
    for path in files:
        with path.open("rb") as file:
            while file.read(2**24):
                pass
