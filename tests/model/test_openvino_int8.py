"""An int8 model is made from speech, measured, and never used without that."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from config.settings import EmotionSettings
from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import windows
from warmline.emotion.engine import Engine, score
from warmline.emotion.fidelity import Fidelity, compare, read_record, write_record
from warmline.emotion.hub import MINI_DIRECTORY
from warmline.emotion.loading import load_engine, open_model
from warmline.emotion.openvino_quantize import import_nncf, quantize
from warmline.jobs.errors import ModelUnusable

GOOD = Fidelity(windows=400, same_top=400, largest_difference=0.01, widest_flipped_margin=0.0)


def load_int8(models_dir: Path, *, allow_inaccurate: bool = False) -> Engine:
    settings = EmotionSettings(
        model="mini", models_dir=models_dir, engine="openvino", precision="int8", device="cpu",
        allow_inaccurate=allow_inaccurate,
    )  # fmt: skip
    return load_engine(settings, threads=1)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the mini model was converted and quantized; not measured."""
    models_dir = tmp_path_factory.mktemp("quantized")
    quantize(open_model("mini", models_dir), windows([16_000, 24_000, 31_999, 8_000] * 4, seed=3))
    return models_dir


@pytest.fixture
def mine(quantized: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(quantized, tmp_path / "models"))


def folder(models_dir: Path) -> Path:
    return open_model("mini", models_dir).converted_folder()


def test_it_scores_nearly_as_fp32_does(mine: Path, load: LoadEngine) -> None:
    # Given the quantized mini model and windows that it has not seen, of lengths that it has not seen
    engine, reference = load_int8(mine, allow_inaccurate=True), load(MINI_DIRECTORY)
    assert (engine.info.engine, engine.info.precision) == ("openvino", "int8")
    fidelity = compare(reference, engine, windows([12_345, 48_000, 80_000, 20_000] * 5, seed=4))
    # Then it is near, and it is not fp32 under another name
    assert 1e-4 < fidelity.largest_difference < 0.1
    assert fidelity.same_top_share >= 0.9


def test_it_takes_less_room_than_fp32(mine: Path) -> None:
    int8, fp32 = (folder(mine) / f"openvino-{name}-1" / "model.bin" for name in ("int8", "fp32"))
    assert int8.stat().st_size < fp32.stat().st_size


def test_what_was_compiled_is_kept_and_scores_the_same(mine: Path) -> None:
    # Given a first start, which keeps what it compiled
    audio = windows([16_000, 31_999])
    first = score(load_int8(mine, allow_inaccurate=True), audio)
    (kept,) = (folder(mine) / "openvino-int8-1" / "compiled").iterdir()
    written = kept.stat().st_mtime_ns
    # Then the second one reads it and scores exactly the same
    engine = load_int8(mine, allow_inaccurate=True)
    assert engine._request.get_compiled_model().get_property("LOADED_FROM_CACHE")  # type: ignore[attr-defined]
    np.testing.assert_array_equal(score(engine, audio), first)
    assert kept.stat().st_mtime_ns == written
    # And a damaged one is compiled anew
    kept.write_bytes(kept.read_bytes()[:1000])
    np.testing.assert_array_equal(score(load_int8(mine, allow_inaccurate=True), audio), first)


def test_it_is_not_used_before_it_is_measured(mine: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"warmline model quantize .*mini --clips DIR"):
        load_int8(mine)
    write_record(folder(mine), GOOD, engine="openvino", precision="int8")
    assert load_int8(mine).info.precision == "int8"


def test_quantizing_anew_forgets_what_was_measured(mine: Path) -> None:
    write_record(folder(mine), GOOD, engine="openvino", precision="int8")
    quantize(open_model("mini", mine), windows([16_000] * 4, seed=5))
    assert read_record(folder(mine), engine="openvino", precision="int8") is None


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_damaged_one_names_the_command(mine: Path, name: str) -> None:
    write_record(folder(mine), GOOD, engine="openvino", precision="int8")
    file = folder(mine) / "openvino-int8-1" / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelUnusable, match=r"is broken .*warmline model quantize"):
        load_int8(mine)


def test_a_models_dir_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(ModelUnusable, match="WARMLINE_MODELS_DIR"):
        quantize(open_model("mini", tmp_path / "models"), windows([16_000] * 2))


def test_without_nncf_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an environment without it: Python takes None in this place for a module that is not there
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ModelUnusable, match="pip install nncf"):
        import_nncf()
