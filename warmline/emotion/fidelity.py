"""How near an engine's scores come to the reference's, measured, recorded, and held against a goal.

The reference is the torch engine in fp32, which equals FunASR to 1e-4. A record lies beside the converted weights,
so another checkpoint or another reading of its configuration has none. A precision whose record misses its goal is
not loaded unless the settings say WARMLINE_ALLOW_INACCURATE; int8 is not loaded without a record.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from warmline.emotion.converted import locked, written_whole
from warmline.emotion.device import Precision
from warmline.emotion.engine import Engine, Samples, score
from warmline.jobs.errors import ModelUnusable

FORMAT = 1
WINDOWS_AT_ONCE = 32

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What two engines made of the same windows."""

    windows: int
    same_top: int  # windows with the same top label
    largest_difference: float  # of any label's probability in any window
    widest_flipped_margin: float  # by which the reference's label led where the tops differ; small: a toss-up

    @property
    def same_top_share(self) -> float:
        """Share of the windows with the same top label."""
        return self.same_top / self.windows if self.windows else 0.0


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a precision has to reach to be chosen without an explicit flag."""

    same_top_share: float
    largest_difference: float | None = None  # None: not asked for
    min_windows: int = 1  # with fewer, one window that flips would be a miss

    def is_met(self, fidelity: Fidelity) -> bool:
        """Whether a measurement reaches it."""
        near = self.largest_difference is None or fidelity.largest_difference <= self.largest_difference
        return near and fidelity.same_top_share >= self.same_top_share

    def __str__(self) -> str:
        share = f"the same top label in {self.same_top_share:.1%} of the windows"
        if self.largest_difference is None:
            return share
        return f"no probability off by more than {self.largest_difference:g}"


# In fp32 a window whose two best labels are within 1e-4 may flip, so the difference alone is asked for.
GOALS: dict[str, Goal] = {
    "fp32": Goal(same_top_share=0.0, largest_difference=1e-4),
    "bf16": Goal(same_top_share=0.995, min_windows=200),
    "fp16": Goal(same_top_share=0.995, min_windows=200),
    "int8": Goal(same_top_share=0.99, min_windows=100),
}


def compare(
    reference: Engine,
    candidate: Engine,
    windows: Iterable[Samples],
    on_progress: Callable[[int], None] | None = None,
) -> Fidelity:
    """Scores the windows with both engines; `on_progress` is told how many are done.

    Raises ValueError where there is no window or the engines' labels differ, ModelUnusable where a score is no
    number, and what the engines raise.
    """
    if reference.info.labels != candidate.info.labels:
        raise ValueError("the engines have different labels")
    done, same, largest, widest = 0, 0, 0.0, 0.0
    for batch in _batched(windows):
        expected, scores = score(reference, batch), score(candidate, batch)
        if not np.isfinite(expected).all() or not np.isfinite(scores).all():
            raise ModelUnusable("The model gives scores that are no numbers for these clips; check its weights.")
        rows = np.arange(len(batch))
        equal = expected.argmax(axis=1) == scores.argmax(axis=1)  # (windows,)
        ordered = np.sort(expected, axis=1)
        margins = ordered[rows, -1] - ordered[rows, -2] if expected.shape[1] > 1 else np.zeros(len(batch))
        largest = max(largest, float(np.abs(expected - scores).max()))
        widest = max(widest, float(margins[~equal].max(initial=0.0)))
        same += int(equal.sum())
        done += len(batch)
        if on_progress:
            on_progress(done)
    if not done:
        raise ValueError("there is no window to compare on")
    return Fidelity(windows=done, same_top=same, largest_difference=largest, widest_flipped_margin=widest)


def _batched(windows: Iterable[Samples]) -> Iterator[list[Samples]]:
    windows = iter(windows)
    while batch := list(itertools.islice(windows, WINDOWS_AT_ONCE)):
        yield batch


def write_record(converted: Path, fidelity: Fidelity, *, engine: str, precision: str) -> Path:
    """Remembers a measurement beside a model's converted weights. Raises OSError where that cannot be written."""
    file = _record_file(converted, engine, precision)
    values = {"format": FORMAT, "engine": engine, "precision": precision, **dataclasses.asdict(fidelity)}
    with locked(converted / "lock"), written_whole(file) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n")
    return file


def read_record(converted: Path, *, engine: str, precision: str) -> Fidelity | None:
    """The measurement of an engine in a precision on a model; None where there is none that can be read."""
    file = _record_file(converted, engine, precision)
    try:
        return _parse(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("fidelity_record_unreadable", file=str(file), reason=str(error))
        return None


def _parse(values: Any) -> Fidelity:
    if values["format"] != FORMAT:
        raise ValueError(f"it has the format {values['format']}, not {FORMAT}")
    return Fidelity(
        windows=int(values["windows"]),
        same_top=int(values["same_top"]),
        largest_difference=float(values["largest_difference"]),
        widest_flipped_margin=float(values["widest_flipped_margin"]),
    )


def forget_record(converted: Path, *, engine: str, precision: str) -> None:
    """Removes a measurement that is of another engine from now on."""
    _record_file(converted, engine, precision).unlink(missing_ok=True)


def quantize_command(directory: Path) -> str:
    """What makes and measures an int8 model of a model directory, for a sentence."""
    return f"`warmline model quantize {directory} --clips DIR`, where DIR holds recordings like those to be scored"


def refuse_inaccurate(
    converted: Path, *, directory: Path, engine: str, precision: Precision, allowed: bool
) -> None:
    """Raises ModelUnusable for a precision that was measured on this model and missed, or an int8 never measured.

    With `allowed`, WARMLINE_ALLOW_INACCURATE, there is a warning in the log instead.
    """
    fidelity, goal = read_record(converted, engine=engine, precision=precision), GOALS[precision]
    if fidelity is None and precision == "int8":
        problem = f"There is no int8 of {directory.name} whose fidelity was measured"
        advice = f"Make it with {quantize_command(directory)}."
    elif fidelity is not None and not goal.is_met(fidelity):
        problem = (
            f"The {engine} engine in {precision} misses its goal for {directory.name} ({goal}): of"
            f" {fidelity.windows} windows {fidelity.same_top_share:.2%} have the same top label, and the largest"
            f" difference of a probability is {fidelity.largest_difference:.2g}"
        )
        advice = "Set WARMLINE_PRECISION to another one, or WARMLINE_ALLOW_INACCURATE=true to use it anyway."
    else:
        return
    if not allowed:
        raise ModelUnusable(f"{problem}. {advice}")
    log.warning("inaccurate_precision_allowed", engine=engine, precision=precision, reason=problem)


def _record_file(converted: Path, engine: str, precision: str) -> Path:
    return converted / f"fidelity-{engine}-{precision}.json"
