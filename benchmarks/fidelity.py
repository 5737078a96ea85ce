"""Row 10: do the scores stay right in every engine and precision that this machine can run?

Each engine scores the same windows once, in a process of its own; then the scores are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import ROWS, Result
from benchmarks.speech import SpokenWindow, spoken_windows
from benchmarks.subjects import Bench, NotMeasured, Subject, save_windows
from benchmarks.throughput import require
from config.settings import Settings
from warmline.emotion.engine import Scores
from warmline.emotion.fidelity import GOALS

Row = NDArray[np.float32]  # (labels,)
MINI_WINDOWS = 400
MINI_CALIBRATION = 32
FIDELITY_KEYS = tuple(row.key for row in ROWS if row.key.startswith("10."))
REFERENCES = {"fp32": ("funasr", "fp32"), "bf16": ("torch", "fp32"), "int8": ("torch", "fp32")}


@dataclass
class Scored:
    """A model and its windows; remembers what each engine made of them, or why it could not."""

    bench: Bench
    settings: Settings
    windows: Path
    calibration: Path  # other windows, for int8
    found: dict[tuple[str, str], Scores | NotMeasured] = field(default_factory=dict)

    def scores(self, engine: str, precision: str) -> Scores:
        """(windows, labels). Raises NotMeasured."""
        if (engine, precision) not in self.found:
            try:
                self.found[engine, precision] = self._score(engine, precision)
            except NotMeasured as error:
                self.found[engine, precision] = error
        found = self.found[engine, precision]
        if isinstance(found, NotMeasured):
            raise found
        return found

    def _score(self, engine: str, precision: str) -> Scores:
        if engine in {"funasr", "openvino"}:
            require(engine)
        emotion = self.settings.emotion
        self.bench.tell(f"row 10: {emotion.model.rpartition('/')[2]}, {engine} {precision}")
        # A precision that misses its goal is measured nevertheless.
        changed = emotion.model_copy(update={"engine": engine, "precision": precision, "allow_inaccurate": True})
        settings = self.settings.model_copy(update={"emotion": changed})
        if precision == "int8":
            self._quantize()
        save = self.bench.scratch / "scores.npy"
        with Subject(
            self.bench, "engine", settings=settings, threads=self.bench.machine.cores, clips=self.windows
        ) as subject:
            ran = subject.ready()["precision"]
            if ran != precision:
                raise NotMeasured(f"this CPU has no {precision}: {engine} would run in {ran}")
            subject.run(save=str(save))
        scores: Scores = np.load(save)
        return scores

    def _quantize(self) -> None:
        require("nncf")
        emotion = self.settings.emotion
        with Subject(
            self.bench, "quantized", model=emotion.model, models_dir=emotion.models_dir, clips=self.calibration
        ) as subject:
            subject.ready()


def measure_fidelity(bench: Bench) -> Iterator[Result]:
    """The rows of the mini model, then those of a large one whose head is fitted to the clips.

    Nothing is compared on windows that int8 was calibrated with: of them it knows more.
    """
    spoken = list(spoken_windows(bench.clips, bench.settings.audio))
    if _wanted(bench, "mini"):
        some = _spread(spoken, MINI_WINDOWS)
        others = some[::4][:MINI_CALIBRATION]
        compared = [window for window in some if not any(window is other for other in others)]
        yield from _compare_all(bench, bench.with_emotion(model="mini"), "mini", compared, others, "mini")
    if _wanted(bench, "large"):
        few = _spread(spoken, 2 * bench.windows)
        others, compared = few[::2], few[1::2]
        settings, note = bench.settings, bench.model_title
        if bench.random_weights:
            settings, note = _fit_head(bench, few)
        yield from _compare_all(bench, settings, "large", compared, others, note)


def _wanted(bench: Bench, model: str) -> bool:
    return any(key.startswith(f"10.{model}.") for key in bench.wanted)


def _spread(spoken: Sequence[SpokenWindow], count: int) -> list[SpokenWindow]:
    """At most so many of them, from beginning to end."""
    if len(spoken) <= count:
        return list(spoken)
    return [spoken[round(index * (len(spoken) - 1) / (count - 1))] for index in range(count)]


def _save(bench: Bench, spoken: Sequence[SpokenWindow], name: str) -> Path:
    return save_windows(bench.scratch / f"fidelity-{name}.npz", [window.samples for window in spoken])


def _fit_head(bench: Bench, spoken: Sequence[SpokenWindow]) -> tuple[Settings, str]:
    """The settings of the fitted model, and a note about it."""
    emotion = bench.settings.emotion
    directory = bench.scratch / "fitted"
    file = _save(bench, spoken, "fit")
    bench.tell("row 10: fitting the large model's head")
    labels, whose = _labels(bench, spoken)
    threads = bench.machine.cores
    with Subject(bench, "fitted", model=bench.model, models_dir=emotion.models_dir, threads=threads) as subject:
        subject.ready()
        said = subject.run(clips=str(file), labels=json.dumps(labels), directory=str(directory))
    note = f"{bench.model_title}, its head fitted to {said['labels']} labels of {len(spoken)} windows ({whose})"
    return bench.with_emotion(model=str(directory), models_dir=bench.scratch / "models"), note


def _labels(bench: Bench, spoken: Sequence[SpokenWindow]) -> tuple[list[str], str]:
    """A label for each window: the list's where it names the model's own labels, else the mini model's."""
    with Subject(bench, "engine", settings=bench.with_emotion(model="mini"), threads=1) as subject:
        names = subject.ready()["labels"]
    if all(window.label in names for window in spoken):
        return [window.label for window in spoken], "labels.csv"
    file = _save(bench, spoken, "labels")
    mini = Scored(bench=bench, settings=bench.with_emotion(model="mini"), windows=file, calibration=file)
    scores = mini.scores("torch", "fp32")
    return [names[row] for row in scores.argmax(axis=1)], "labelled by the mini model"


def _compare_all(
    bench: Bench,
    settings: Settings,
    model: str,
    compared: Sequence[SpokenWindow],
    others: Sequence[SpokenWindow],
    note: str,
) -> Iterator[Result]:
    scored = Scored(
        bench=bench,
        settings=settings,
        windows=_save(bench, compared, model),
        calibration=_save(bench, others, f"{model}-calibration"),
    )
    for key in (key for key in FIDELITY_KEYS if key in bench.wanted and key.startswith(f"10.{model}.")):
        _, _, precision, engine = key.split(".")
        try:
            reference = scored.scores(*REFERENCES[precision])
            said = f"{note}, calibrated with {len(others)} other windows" if precision == "int8" else note
            yield _compare(key, reference, scored.scores(engine, precision), said)
        except NotMeasured as error:
            yield Result(key=key, reason=str(error))


def _compare(key: str, reference: Scores, candidate: Scores, note: str) -> Result:
    """Our figure: the share of windows with the same top label in %, or in fp32 the largest difference."""
    difference = float(np.abs(candidate - reference).max())
    tops = reference.argmax(axis=1)
    same = float((candidate.argmax(axis=1) == tops).mean() * 100)
    counted = f"{len(tops)} windows with {len(set(tops.tolist()))} top labels"
    if flipped := [_margin(row) for row, other in zip(reference, candidate, strict=True) if _flips(row, other)]:
        counted += f", {len(flipped)} flipped where the reference's label led by at most {max(flipped):.2g}"
    needed = GOALS[key.split(".")[2]].min_windows
    if len(tops) < needed:
        counted += f", too few to be sure: that takes {needed}"
    if ".fp32." in key:
        return Result(key=key, ours_alone=difference, note=f"{note}; {counted}, {same:.2f} % with the same")
    return Result(key=key, ours_alone=same, note=f"{note}; {counted}, largest difference {difference:.2g}")


def _flips(reference: Row, candidate: Row) -> bool:
    return bool(reference.argmax() != candidate.argmax())


def _margin(row: Row) -> float:
    """By how much the first label leads the second: a toss-up where it is small."""
    second, first = np.sort(row)[-2:]
    return float(first - second)
