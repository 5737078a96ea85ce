"""The scores are FunASR's own, for the same weights and the same samples."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import change_config, random_state, windows, write_random_model
from warmline.emotion.batches import make_batch
from warmline.emotion.configuration import read_configuration
from warmline.emotion.engine import Engine, Samples, Scores, score
from warmline.emotion.labels import STANDARD_LABELS
from warmline.emotion.layout import funasr_names
from warmline.emotion.packing import Group

# FunASR and what it imports warn of their own old ways.
pytestmark = pytest.mark.filterwarnings("ignore")

PROMISED = 1e-4
SEEN = 2e-5  # what the heads of these random models, steeper than a trained one's, leave of fp32's precision

# One frame and just below two; odd ones; a tenth of a second to twenty seconds.
LENGTHS = (400, 719, 1_600, 7_919, 16_000, 80_007, 320_000)


def assert_same(ours: Scores, theirs: Scores) -> None:
    assert SEEN < PROMISED
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=SEEN)
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))


def differ(scores: Scores) -> bool:
    """Scores that are all alike would agree whatever the model did."""
    return len(set(scores.argmax(axis=1))) > 1 and float(np.ptp(scores, axis=0).max()) > 0.3


@pytest.fixture(scope="module")
def audio() -> list[Samples]:
    return windows(LENGTHS)


@pytest.fixture(scope="module")
def reference(tiny: Path, load: LoadEngine) -> Engine:
    return load(tiny, engine="funasr")


@pytest.fixture(scope="module")
def expected(reference: Engine, audio: list[Samples]) -> Scores:
    return score(reference, audio)


def test_tiny_scores_equal_at_every_length(
    tiny: Path, load: LoadEngine, audio: list[Samples], expected: Scores
) -> None:
    scores = score(load(tiny), audio)
    assert differ(expected)
    assert_same(scores, expected)


def test_tiny_scores_equal_in_one_padded_batch(
    tiny: Path, load: LoadEngine, audio: list[Samples], expected: Scores
) -> None:
    # Given all windows in one batch, and beside them two rows that are empty
    engine = load(tiny)
    order = tuple(sorted(range(len(LENGTHS)), key=lambda index: -LENGTHS[index]))
    group = Group(indices=order, rows=len(LENGTHS) + 2, samples=max(LENGTHS) + 7_000, fixed=False)
    batch = make_batch(group, audio, device=torch.device("cpu"))
    batch.samples[0, LENGTHS[order[0]] :] = np.nan  # padding of any content
    # When windows of 400 and of 320,000 samples share a batch, then each is scored as if alone
    assert_same(engine.finish(engine.infer([batch])), expected)


def test_both_engines_say_the_same_of_the_model(tiny: Path, load: LoadEngine, reference: Engine) -> None:
    ours = load(tiny)
    assert ours.info.labels == reference.info.labels == STANDARD_LABELS
    assert ours.info.model_hash == reference.info.model_hash
    assert ours.min_samples == reference.min_samples == 400
    assert (ours.info.engine, reference.info.engine) == ("torch", "funasr")


def test_the_reference_prints_nothing(
    tiny: Path, load: LoadEngine, audio: list[Samples], capsys: pytest.CaptureFixture[str]
) -> None:
    # Given FunASR's habit of printing its version, which our log repeats at its lowest level
    score(load(tiny, engine="funasr"), audio[:1])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "funasr version" in line and "funasr_printed" not in line] == []
    assert any("funasr version" in line for line in lines)


def test_every_tensor_of_funasrs_model_has_a_name_here(tiny: Path) -> None:
    from funasr.models.emotion2vec.model import Emotion2vec
    from omegaconf import OmegaConf

    config = OmegaConf.load(tiny / "config.yaml")
    theirs = Emotion2vec(model_conf=config.model_conf, vocab_size=9).state_dict()
    ours = random_state(tiny)
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


def test_unused_tokens_are_masked_as_funasr_does(tmp_path: Path, load: LoadEngine, audio: list[Samples]) -> None:
    tokens = "unuse_0\n生气/angry\nunuse_1\n开心/happy\n中立/neutral\n<unk>\nunuse_2\n"
    directory = write_random_model(tmp_path / "m", "tiny", tokens=tokens)
    engine = load(directory)
    scores = score(engine, audio[:5])
    assert engine.info.labels == ("angry", "happy", "neutral", "unknown")
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert_same(scores, score(load(directory, engine="funasr"), audio[:5]))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_alibi_encoder": "false"},
        {"learned_alibi_scale_per_head": "false"},
        {"num_extra_tokens": 0},
        {"normalize": "false"},
        {"conv_pos_width": 2, "num_heads": 8, "num_alibi_heads": 8},
        {"prenet_depth": 0},
    ],
    ids=",".join,
)
def test_other_architectures_score_equal(
    tmp_path: Path, load: LoadEngine, audio: list[Samples], changes: dict[str, object]
) -> None:
    directory = write_random_model(tmp_path / "m", "tiny", changes=changes)
    assert_same(score(load(directory), audio[1:5]), score(load(directory, engine="funasr"), audio[1:5]))


def test_a_training_checkpoint_scores_equal(
    tiny: Path, tmp_path: Path, load: LoadEngine, audio: list[Samples], expected: Scores
) -> None:
    # Given weights as a trainer leaves them: wrapped, under a prefix, in half precision where it does no harm,
    # beside a decoder and running averages
    directory = tmp_path / "m"
    shutil.copytree(tiny, directory)
    text = (directory / "config.yaml").read_text(encoding="utf-8")
    (directory / "config.yaml").write_text(text + "scope_map:\n- 'd2v_model.'\n- none\n", encoding="utf-8")
    state = torch.load(tiny / "model.pt", weights_only=True)
    prefixed = {name if name.startswith("proj") else f"d2v_model.{name}": value for name, value in state.items()}
    leftovers = {"d2v_model.modality_encoders.AUDIO.decoder.proj.weight": torch.ones(3), "_ema": torch.ones(2)}
    torch.save({"model": prefixed | leftovers, "step": 7}, directory / "model.pt")
    # When both load it, then both find every tensor
    assert_same(score(load(directory), audio[:5]), expected[:5])
    assert_same(score(load(directory, engine="funasr"), audio[:5]), expected[:5])


@pytest.mark.slow
@pytest.mark.parametrize(("config", "millions", "lengths"), [
    ("base", 93, (1_600, 16_000, 48_007)),
    ("large", 313, (32_000, 80_000)),
])  # fmt: skip
def test_released_architectures_score_equal(
    tmp_path: Path, load: LoadEngine, config: str, millions: int, lengths: tuple[int, ...]
) -> None:
    directory = write_random_model(tmp_path / config, config)
    architecture = read_configuration(directory, labels=9).architecture
    parameters = sum(tensor.numel() for tensor in random_shapes(directory))
    assert round(parameters / 1e6) == millions
    assert len(funasr_names(architecture)) == len(list(random_shapes(directory)))
    audio = windows(lengths)
    scores = score(load(directory, threads=2), audio)
    expected = score(load(directory, engine="funasr", threads=2), audio)
    assert differ(expected)
    assert_same(scores, expected)


def random_shapes(directory: Path) -> list[torch.Tensor]:
    return list(torch.load(directory / "model.pt", weights_only=True, mmap=True).values())


def test_a_config_that_funasr_would_evaluate_never_reaches_it(
    tiny: Path, tmp_path: Path, load: LoadEngine
) -> None:
    directory = tmp_path / "m"
    shutil.copytree(tiny, directory)
    witness = tmp_path / "witness"
    change_config(directory, {"feature_encoder_spec": f'\'[open("{witness}", "w")]\''})
    with pytest.raises(Exception, match="feature_encoder_spec"):
        load(directory, engine="funasr")
    assert not witness.exists()
