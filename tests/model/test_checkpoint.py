"""model.pt fits its configuration tensor by tensor, or is refused with the names; nothing in it runs."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from warmline.emotion.checkpoint import check_finite, read_checkpoint
from warmline.emotion.configuration import Configuration, read_configuration
from warmline.jobs.errors import ModelUnusable

State = dict[str, Any]
QKV = "blocks.1.attn.qkv.weight"


@pytest.fixture(scope="module")
def configuration(tiny: Path) -> Configuration:
    return read_configuration(tiny, labels=9)


@pytest.fixture
def read(tmp_path: Path, configuration: Configuration) -> Callable[[object], dict[str, Tensor]]:
    """Saves what a checkpoint should hold and reads it back."""

    def save_and_read(content: object) -> dict[str, Tensor]:
        torch.save(content, tmp_path / "model.pt")
        return read_checkpoint(tmp_path / "model.pt", configuration)

    return save_and_read


@pytest.fixture
def state(tiny: Path) -> State:
    return dict(torch.load(tiny / "model.pt", weights_only=True))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_a_wrapped_state_dict_is_unwrapped(read: Callable[[object], State], state: State, wrapper: str) -> None:
    assert len(read({wrapper: state, "optimizer": {"step": 3}})) == len(state)


def test_what_only_training_needs_is_left_aside(read: Callable[[object], State], state: State) -> None:
    extra = {"modality_encoders.AUDIO.decoder.blocks.0.0.weight": torch.ones(2), "_ema": torch.ones(2), "step": 1}
    assert len(read({**state, **extra})) == len(state)


def test_tensors_under_funasrs_own_prefix_are_found(read: Callable[[object], State], state: State) -> None:
    assert len(read({f"module.{name}": value for name, value in state.items()})) == len(state)


def test_a_missing_tensor_is_named(read: Callable[[object], State], state: State) -> None:
    del state[QKV], state["proj.bias"]
    with pytest.raises(ModelUnusable, match=r"lacks blocks\.1\.attn\.qkv\.weight, proj\.bias"):
        read(state)


def test_a_tensor_too_many_is_named(read: Callable[[object], State], state: State) -> None:
    state["blocks.3.norm1.weight"] = torch.ones(72)  # the configuration has three blocks: 0, 1, 2
    with pytest.raises(ModelUnusable, match=r"against its configuration: blocks\.3\.norm1\.weight"):
        read(state)


def test_a_tensor_too_many_under_a_prefix_is_named(read: Callable[[object], State], state: State) -> None:
    state["module.blocks.3.norm1.weight"] = torch.ones(72)
    with pytest.raises(ModelUnusable, match=r"against its configuration: module\.blocks\.3\.norm1\.weight"):
        read(state)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.ones(3, 72), "3x72 float32"),
        (torch.ones(216, 72, dtype=torch.int64), "216x72 int64"),
        (torch.ones(216, 72).to_sparse(), "216x72 float32"),
        ("text", "no tensor"),
        (None, "no tensor"),
    ],
    ids=["shape", "integers", "sparse", "text", "nothing"],
)
def test_a_tensor_of_another_kind_is_named(
    read: Callable[[object], State], state: State, value: object, found: str
) -> None:
    state[QKV] = value
    with pytest.raises(
        ModelUnusable, match=rf"blocks\.1\.attn\.qkv\.weight \({found}, should be 216x72 float32\)"
    ):
        read(state)


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, torch.ones(2)], ids=["list", "number", "tensor"])
def test_no_state_dict_is_refused(read: Callable[[object], State], content: object) -> None:
    with pytest.raises(ModelUnusable, match="holds no state dict"):
        read(content)


def test_a_weight_that_is_no_number_is_named(state: State) -> None:
    state[QKV][5, 7] = float("nan")
    state["proj.bias"][0] = float("inf")
    with pytest.raises(ModelUnusable, match=r"not numbers in blocks\.1\.attn\.qkv\.weight, proj\.bias"):
        check_finite(state, Path("model.pt"))


class Bomb:
    """Unpickled by a careless reader, it makes a directory."""

    def __init__(self, witness: Path) -> None:
        self.witness = str(witness)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.witness,))


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_pickle_bomb_does_not_go_off(
    tmp_path: Path, configuration: Configuration, state: State, form: str
) -> None:
    # Given a checkpoint that would run code in a reader that unpickles it
    witness, path = tmp_path / "witness", tmp_path / "model.pt"
    content = {**state, "bomb": Bomb(witness)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(witness), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    # When we read it, then it is refused, with the reason
    with pytest.raises(ModelUnusable, match="holds more than tensors") as refused:
        read_checkpoint(path, configuration)
    assert "weights_only" not in refused.value.message  # no advice to switch the protection off
    assert not witness.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 10_000, -10_000, -1])
def test_a_file_that_is_cut_short_is_refused(
    tiny: Path, tmp_path: Path, configuration: Configuration, kept: int
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes((tiny / "model.pt").read_bytes()[:kept])
    with pytest.raises(ModelUnusable, match=r"model\.pt"):
        read_checkpoint(path, configuration)


def test_text_that_is_called_a_checkpoint_is_refused(tmp_path: Path, configuration: Configuration) -> None:
    path = tmp_path / "model.pt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8")
    with pytest.raises(ModelUnusable, match=r"model\.pt"):
        read_checkpoint(path, configuration)


def test_a_missing_file_is_named(tmp_path: Path, configuration: Configuration) -> None:
    with pytest.raises(ModelUnusable, match=r"model\.pt cannot be read: No such file"):
        read_checkpoint(tmp_path / "model.pt", configuration)


def test_a_file_of_old_torch_is_read(
    tiny: Path, tmp_path: Path, configuration: Configuration, state: State
) -> None:
    path = tmp_path / "model.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    read_state = read_checkpoint(path, configuration)
    shutil.copy(tiny / "model.pt", path)
    torch.testing.assert_close(read_state, read_checkpoint(path, configuration), rtol=0, atol=0)
