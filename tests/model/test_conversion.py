"""Weights are converted once, whole or not at all, and shared by everyone who maps them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from config.settings import EmotionSettings
from tests.model.random_checkpoints import windows, write_random_model
from warmline.emotion import converted
from warmline.emotion.checkpoint import read_checkpoint
from warmline.emotion.configuration import read_configuration
from warmline.emotion.converted import Weights, load_weights, remembered_hash
from warmline.emotion.device import Precision
from warmline.emotion.engine import score
from warmline.emotion.loading import load_engine
from warmline.jobs.errors import ModelUnusable


@pytest.fixture
def directory(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def convert(directory: Path, models_dir: Path, precision: Precision = "fp32") -> Weights:
    configuration = read_configuration(directory, labels=9)
    return load_weights(directory, configuration, models_dir=models_dir, precision=precision)


def conversions(text: str) -> int:
    return text.count("model_converting")


def test_a_second_load_maps_what_the_first_wrote(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = convert(directory, tmp_path)
    second = convert(directory, tmp_path)
    assert conversions(capsys.readouterr().out) == 1
    assert first.file == second.file
    assert first.file is not None
    assert first.file.parent.name.startswith(first.model_hash[:16])
    assert sorted(path.name for path in first.file.parent.iterdir()) == ["fp32.safetensors", "lock", "model.json"]
    # and it is what model.pt holds
    stored = read_checkpoint(directory / "model.pt", read_configuration(directory, labels=9))
    torch.testing.assert_close(dict(second.state), stored, rtol=0, atol=0)


def test_bf16_is_a_file_of_its_own_that_keeps_what_decides_in_fp32(directory: Path, tmp_path: Path) -> None:
    convert(directory, tmp_path)
    half = convert(directory, tmp_path, "bf16")
    assert half.file is not None
    assert sorted(path.name for path in half.file.parent.glob("*.safetensors")) == [
        "bf16.safetensors",
        "fp32.safetensors",
    ]
    types = {name: tensor.dtype for name, tensor in half.state.items()}
    assert types.pop("alibi_scale") == types.pop("head.weight") == types.pop("head.bias") == torch.float32
    assert set(types.values()) == {torch.bfloat16}


def test_other_weights_and_another_configuration_are_converted_anew(directory: Path, tmp_path: Path) -> None:
    first = convert(directory, tmp_path)
    # Given other weights of the same size, in the same place
    write_random_model(directory, "tiny", seed=1)
    second = convert(directory, tmp_path)
    assert second.model_hash != first.model_hash
    # Given the same weights read in another way
    configuration = read_configuration(directory, labels=9)
    quiet = replace(configuration, architecture=replace(configuration.architecture, norm_eps=1e-6))
    third = load_weights(directory, quiet, models_dir=tmp_path, precision="fp32")
    assert third.model_hash == second.model_hash
    # Then nobody gets somebody else's file
    assert len({first.file, second.file, third.file}) == 3


def test_a_hash_is_taken_once_per_change(directory: Path, tmp_path: Path) -> None:
    path, memory = directory / "model.pt", tmp_path / "hashes"
    digest = remembered_hash(path, memory)
    stat = path.stat()
    # Given other bytes that pretend to be the same file: the memory is what answers
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert remembered_hash(path, memory) == digest
    # Given a later time of change, the bytes are read
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert remembered_hash(path, memory) != digest


@pytest.mark.parametrize("note", ["", "[]", "{}", "not json", '{"sha256": 3}'])
def test_a_broken_memory_is_forgotten(directory: Path, tmp_path: Path, note: str) -> None:
    path, memory = directory / "model.pt", tmp_path / "hashes"
    digest = remembered_hash(path, memory)
    (file,) = memory.iterdir()
    file.write_text(note, encoding="utf-8")
    assert remembered_hash(path, memory) == digest


def test_a_models_dir_that_cannot_be_written_costs_sharing_but_not_the_job(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a place for models that is no place (root may write anywhere else)
    (tmp_path / "file").write_text("", encoding="utf-8")
    for precision in ("fp32", "bf16"):
        weights = convert(directory, tmp_path / "file" / "models", precision)
        assert weights.file is None
        assert len(weights.model_hash) == 64
    assert "model_not_converted" in capsys.readouterr().out
    # When an engine is loaded all the same, then it scores the same
    scores = []
    for models_dir in (tmp_path / "file" / "models", tmp_path / "models"):
        settings = EmotionSettings(model=str(directory), models_dir=models_dir, precision="fp32", device="cpu")
        scores.append(score(load_engine(settings, threads=1), windows((8_000,))))
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-6)


def test_a_broken_conversion_is_removed_and_the_next_start_heals(directory: Path, tmp_path: Path) -> None:
    weights = convert(directory, tmp_path)
    assert weights.file is not None
    content = weights.file.read_bytes()
    del weights
    (file,) = tmp_path.glob("converted/*/fp32.safetensors")
    file.unlink()
    file.write_bytes(content[:-100])
    with pytest.raises(ModelUnusable, match="was broken"):
        convert(directory, tmp_path)
    assert convert(directory, tmp_path).file == file
    assert file.read_bytes() == content


def test_weights_that_are_not_numbers_are_never_converted(directory: Path, tmp_path: Path) -> None:
    state = torch.load(directory / "model.pt", weights_only=True)
    state["proj.bias"][3] = float("nan")
    torch.save(state, directory / "model.pt")
    with pytest.raises(ModelUnusable, match=r"not numbers in head\.bias"):
        convert(directory, tmp_path)
    assert not list(tmp_path.glob("converted/*/*.safetensors"))


def test_a_conversion_that_died_leaves_nothing_behind(directory: Path, tmp_path: Path) -> None:
    weights = convert(directory, tmp_path)
    assert weights.file is not None
    weights.file.unlink()
    abandoned = weights.file.with_name("fp32.safetensors.abc.partial")
    abandoned.write_bytes(b"half of it")
    assert convert(directory, tmp_path).file == weights.file
    assert not abandoned.exists()


CHILD = """
import sys
from pathlib import Path
from config.settings import EmotionSettings
from tests.model.random_checkpoints import windows
from tests.model.test_conversion import own_memory
from warmline.emotion.engine import score
from warmline.emotion.loading import load_engine
import warmline.emotion.torch_engine

settings = EmotionSettings(model=sys.argv[1], models_dir=Path(sys.argv[2]), precision=sys.argv[3], device="cpu")
print("imported", flush=True)
sys.stdin.readline()
load_engine(settings, threads=1)
before = own_memory()
engine = load_engine(settings, threads=1)
score(engine, windows([8_000]))
print("grown", own_memory() - before, flush=True)
sys.stdin.readline()
"""


def own_memory() -> int:
    """Memory of this process that no file stands behind, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


class Child:
    """A process that loads a model when told, scores a window, and stays."""

    def __init__(self, directory: Path, models_dir: Path, precision: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory), str(models_dir), precision],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said = ""
        self.wait_for("imported")

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait_for(self, word: str) -> str:
        """The rest of the line that begins with this word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError(f"the child ended before it said {word}:\n{self.said}")


@pytest.fixture(scope="module")
def converted_together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Child]]]:
    """Two processes that wanted a model of 130 MB at the same moment, and where it was converted to."""
    changes = {"embed_dim": 576, "depth": 6, "prenet_depth": 4, "mlp_ratio": "4.0"}
    directory = write_random_model(tmp_path_factory.mktemp("random") / "m", "tiny", changes=changes)
    models_dir = tmp_path_factory.mktemp("models")
    children = [Child(directory, models_dir, "fp32") for _ in range(2)]
    try:
        for child in children:
            child.go_on()
        yield models_dir, children
    finally:
        for child in children:
            child.process.kill()
            child.process.communicate(timeout=30)


def test_children_that_start_together_convert_once_and_share_the_pages(
    converted_together: tuple[Path, list[Child]],
) -> None:
    models_dir, children = converted_together
    # When both have scored a window
    grown = [int(child.wait_for("grown")) for child in children]
    # Then one of them has converted, and no half-written file is left
    assert sum(conversions(child.said) for child in children) == 1
    assert not list(models_dir.rglob("*.partial"))
    (file,) = models_dir.glob("converted/*/fp32.safetensors")
    size = file.stat().st_size
    assert size > 120 * 2**20
    for child in children:
        mapped = _mapped(child.process.pid, "fp32.safetensors")
        assert mapped["Rss"] > 0.95 * size  # all of it is used where it lies in the map ...
        assert mapped["Anonymous"] == 0  # ... none of it was written to ...
        assert mapped["Pss"] < 0.55 * size  # ... half of it is charged to each of the two ...
    assert max(grown) < 0.5 * size  # ... and loading it once more made no copy of it


def _mapped(pid: int, suffix: str) -> dict[str, int]:
    """What /proc says of a process's mapping of a file, in bytes: Size, Rss, Pss, Anonymous."""
    found: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        key, _, rest = line.partition(":")
        if " " in key:  # a mapping's first line: addresses, rights, file
            inside = line.endswith(suffix)
        elif inside and rest.endswith("kB"):
            found[key] = found.get(key, 0) + int(rest.split()[0]) * 1024
    return found


def test_parameters_are_views_of_the_map(directory: Path, tmp_path: Path) -> None:
    weights = convert(directory, tmp_path)
    settings = EmotionSettings(model=str(directory), models_dir=tmp_path, precision="fp32", device="cpu")
    engine = load_engine(settings, threads=1)
    maps = [
        [int(part, 16) for part in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        if line.endswith(str(weights.file))
    ]
    for name, parameter in engine._model.named_parameters():  # type: ignore[attr-defined]
        assert any(start <= parameter.data_ptr() < end for start, end in maps), name


def test_the_format_is_part_of_the_key(directory: Path) -> None:
    configuration = read_configuration(directory, labels=9)
    assert converted._key(configuration) == converted._key(read_configuration(directory, labels=9))
    assert converted._key(configuration) != converted._key(read_configuration(directory, labels=8))
