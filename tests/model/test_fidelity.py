"""Fidelity is measured, remembered, and decides what may run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from config.settings import EmotionSettings
from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import windows, write_random_model
from warmline.emotion.engine import Engine, score
from warmline.emotion.fidelity import GOALS, Fidelity, compare, read_record, write_record
from warmline.emotion.loading import load_engine, open_model
from warmline.jobs.errors import ModelUnusable

NEAR = Fidelity(windows=400, same_top=400, largest_difference=0.01, widest_flipped_margin=0.0)
FAR = Fidelity(windows=400, same_top=390, largest_difference=0.3, widest_flipped_margin=0.2)


@pytest.fixture
def directory(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def load_bf16(directory: Path, models_dir: Path, *, allow_inaccurate: bool = False) -> Engine:
    settings = EmotionSettings(
        model=str(directory), models_dir=models_dir, engine="torch", precision="bf16", device="cpu",
        allow_inaccurate=allow_inaccurate,
    )  # fmt: skip
    return load_engine(settings, threads=1)


def converted(directory: Path, models_dir: Path) -> Path:
    return open_model(str(directory), models_dir).converted_folder()


def test_a_comparison_counts_what_differs(load: LoadEngine, tiny: Path, tmp_path: Path) -> None:
    # Given two models that know nothing of each other, and more windows than are scored at once
    reference, other = load(tiny), load(write_random_model(tmp_path / "other", "tiny", seed=7))
    audio = windows([4_000] * 70)
    progress: list[int] = []
    # When they are compared
    fidelity = compare(reference, other, iter(audio), progress.append)
    # Then the figures are those of all windows together
    expected, scores = score(reference, audio), score(other, audio)
    flipped = expected.argmax(axis=1) != scores.argmax(axis=1)
    ahead = np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0]
    assert 0 < flipped.sum() < 70
    assert (fidelity.windows, fidelity.same_top) == (70, 70 - flipped.sum())
    assert fidelity.same_top_share == pytest.approx(1 - flipped.mean())
    assert fidelity.largest_difference == pytest.approx(np.abs(expected - scores).max(), abs=1e-5)
    assert fidelity.widest_flipped_margin == pytest.approx(ahead[flipped].max(), abs=1e-5)
    assert progress == [32, 64, 70]


def test_an_engine_equals_itself(load: LoadEngine, tiny: Path) -> None:
    engine = load(tiny)
    fidelity = compare(engine, engine, windows([4_000] * 3))
    assert fidelity == Fidelity(windows=3, same_top=3, largest_difference=0.0, widest_flipped_margin=0.0)
    assert all(goal.is_met(fidelity) for goal in GOALS.values())


def test_nothing_to_compare_on_is_the_callers_mistake(load: LoadEngine, tiny: Path) -> None:
    with pytest.raises(ValueError, match="no window"):
        compare(load(tiny), load(tiny), [])


def test_scores_that_are_no_numbers_are_not_measured(load: LoadEngine, tiny: Path) -> None:
    engine = load(tiny)
    with pytest.raises(ModelUnusable, match="no numbers"):
        compare(engine, engine, [np.full(4_000, np.nan, dtype=np.float32)])


@pytest.mark.parametrize(
    ("precision", "same", "difference", "met"),
    [
        ("fp32", 1000, 1e-4, True),
        ("fp32", 999, 9e-5, True),  # a toss-up
        ("fp32", 1000, 1.1e-4, False),
        ("bf16", 995, 0.5, True),
        ("bf16", 994, 0.01, False),
        ("int8", 990, 0.5, True),
        ("int8", 989, 0.01, False),
    ],
)
def test_each_precision_has_its_goal(precision: str, same: int, difference: float, met: bool) -> None:
    fidelity = Fidelity(windows=1000, same_top=same, largest_difference=difference, widest_flipped_margin=0.0)
    assert GOALS[precision].is_met(fidelity) == met


def test_without_a_record_bf16_is_loaded(directory: Path, tmp_path: Path) -> None:
    assert load_bf16(directory, tmp_path).info.precision == "bf16"


def test_a_recorded_miss_is_refused_until_it_is_allowed(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a measurement that missed its goal
    load_bf16(directory, tmp_path)
    folder = converted(directory, tmp_path)
    write_record(folder, FAR, engine="torch", precision="bf16")
    # Then the precision is not loaded
    with pytest.raises(ModelUnusable, match=r"97\.50%.*WARMLINE_ALLOW_INACCURATE"):
        load_bf16(directory, tmp_path)
    # But it is with the explicit flag, and the log says so
    capsys.readouterr()
    load_bf16(directory, tmp_path, allow_inaccurate=True)
    assert "inaccurate_precision_allowed" in capsys.readouterr().out
    # And other engines and precisions are nobody's business
    assert read_record(folder, engine="openvino", precision="bf16") is None
    assert read_record(folder, engine="torch", precision="fp32") is None
    # When it is measured again and reaches its goal
    write_record(folder, NEAR, engine="torch", precision="bf16")
    # Then it is loaded
    assert read_record(folder, engine="torch", precision="bf16") == NEAR
    load_bf16(directory, tmp_path)


def test_a_record_is_of_its_weights_alone(directory: Path, tmp_path: Path) -> None:
    load_bf16(directory, tmp_path)
    write_record(converted(directory, tmp_path), FAR, engine="torch", precision="bf16")
    write_random_model(directory, "tiny", seed=1)
    load_bf16(directory, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "windows": "many"}'])
def test_a_record_that_cannot_be_read_is_none(
    directory: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load_bf16(directory, tmp_path)
    file = write_record(converted(directory, tmp_path), FAR, engine="torch", precision="bf16")
    file.write_text(text, encoding="utf-8")
    load_bf16(directory, tmp_path)
    assert "fidelity_record_unreadable" in capsys.readouterr().out
