"""A window's embedding is FunASR's own, from every engine, and comes with the window's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from config.settings import EmotionSettings
from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import windows, write_random_model
from warmline.emotion.batches import Batch, make_batch
from warmline.emotion.engine import Embeddings, Engine, Samples, Scores, score
from warmline.emotion.funasr_engine import FunasrEngine
from warmline.emotion.hub import MINI_DIRECTORY
from warmline.emotion.loading import load_engine
from warmline.emotion.packing import Group, Packer
from warmline.emotion.runners import HostRunner, MeanFrames
from warmline.emotion.torch_engine import TorchEngine

# FunASR and what it imports warn of their own old ways.
pytestmark = pytest.mark.filterwarnings("ignore")

LENGTHS = (1_600, 1_999, 7_919, 16_000, 80_007, 160_000)


def embed(engine: Engine, audio: list[Samples]) -> tuple[Embeddings, Scores]:
    output = engine.infer(engine.prepare(audio), embeddings=True)
    return engine.embeddings(output), engine.finish(output)


def funasr_itself(engine: Engine, audio: list[Samples]) -> Embeddings:
    """What FunASR gives to somebody who calls it as its documentation says."""
    assert isinstance(engine, FunasrEngine)
    answers = [engine._model.generate(one, granularity="utterance", extract_embedding=True) for one in audio]
    return np.stack([answer[0]["feats"] for answer in answers])


class CrampedRunner(HostRunner):
    """Has room for two windows at once."""

    def run(self, batch: Batch) -> MeanFrames:
        """See `Runner`."""
        if len(batch.indices) > 2:
            raise MemoryError
        return super().run(batch)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    """The bundled model in the engines that are here, in fp32."""
    models = tmp_path_factory.mktemp("models")
    settings = EmotionSettings(model="mini", models_dir=models, precision="fp32", device="cpu")
    return {
        name: load_engine(settings.model_copy(update={"engine": name}), threads=1)
        for name in ("torch", "openvino", "funasr")
    }


@pytest.fixture(scope="module")
def audio() -> list[Samples]:
    return windows(LENGTHS)


@pytest.fixture(scope="module")
def expected(mini: dict[str, Engine], audio: list[Samples]) -> Embeddings:
    found = funasr_itself(mini["funasr"], audio)
    assert np.ptp(found, axis=0).max() > 0.5, "embeddings that are all alike would agree whatever the engine did"
    return found


@pytest.mark.parametrize("name", ["torch", "openvino", "funasr"])
def test_they_are_funasrs_own(
    mini: dict[str, Engine], audio: list[Samples], expected: Embeddings, name: str
) -> None:
    # When an engine is asked for the embeddings of windows of one frame to ten seconds
    engine = mini[name]
    found, scores = embed(engine, audio)
    # Then they are FunASR's to five digits, and the scores beside them are the ordinary ones
    assert found.dtype == np.float32
    assert found.shape == (len(audio), engine.embedding_dimensions)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(scores, score(engine, audio))


@pytest.mark.parametrize("name", ["torch", "openvino", "funasr"])
def test_no_windows_have_no_embeddings(mini: dict[str, Engine], name: str) -> None:
    engine = mini[name]
    assert engine.embeddings([]).shape == (0, engine.embedding_dimensions)
    assert engine.finish([]).shape == (0, len(engine.info.labels))


def test_what_was_given_out_stays_when_the_engine_goes_on(mini: dict[str, Engine], audio: list[Samples]) -> None:
    # OpenVINO writes each answer into the same memory
    for engine in mini.values():
        output = engine.infer(engine.prepare(audio[3:4]), embeddings=True)
        embed(engine, audio[4:5])
        np.testing.assert_allclose(engine.embeddings(output), embed(engine, audio[3:4])[0], rtol=0, atol=1e-6)


def test_a_padded_batch_in_any_order_has_each_windows_own(
    mini: dict[str, Engine], audio: list[Samples], expected: Embeddings
) -> None:
    # Given windows in two padded batches, as a GPU gets them, with an empty row beside each
    engine = mini["torch"]
    groups = [((5, 2, 1), 160_000), ((4, 3, 0), 90_000)]
    batches = [
        make_batch(Group(indices=own, rows=4, samples=samples, fixed=True), audio, device=torch.device("cpu"))
        for own, samples in groups
    ]
    output = engine.infer(batches, embeddings=True)
    # Then each has its own embedding, at its own place
    np.testing.assert_allclose(engine.embeddings(output), expected, rtol=0, atol=1e-5)


def test_a_batch_that_was_halved_for_lack_of_memory_has_them_all(
    mini: dict[str, Engine], audio: list[Samples], expected: Embeddings
) -> None:
    # Given a model that finds no room for more than two windows at once
    engine = load_engine(EmotionSettings(model=str(MINI_DIRECTORY), precision="fp32", device="cpu"), threads=1)
    assert isinstance(engine, TorchEngine)
    engine._runner = CrampedRunner(engine._model)
    engine._packer = Packer(budget_samples=10 * 160_000, fixed_shapes=False)
    similar = [audio[3]] * 3 + [audio[2]] * 2
    found, _ = embed(engine, similar)
    assert engine.batch_samples < 10 * 160_000
    np.testing.assert_allclose(found, expected[[3, 3, 3, 2, 2]], rtol=0, atol=1e-5)


def test_in_bf16_they_are_float32_and_near(load: LoadEngine, audio: list[Samples], expected: Embeddings) -> None:
    found, _ = embed(load(MINI_DIRECTORY, precision="bf16"), audio)
    assert found.dtype == np.float32
    similar = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert similar.min() > 0.999
    assert np.abs(found - expected).max() > 1e-6, "bf16 was not what ran"


def test_a_model_traced_by_an_earlier_version_gives_them_too(
    tiny: Path, load: LoadEngine, audio: list[Samples], capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a converted model that lies there since before, which was always traced up to the mean over frames
    reference, _ = embed(load(tiny), audio)
    load(tiny, engine="openvino")
    capsys.readouterr()
    # When it is loaded again, then nothing is traced anew, and it gives the embeddings
    found, _ = embed(load(tiny, engine="openvino"), audio)
    assert "openvino_model_traced" not in capsys.readouterr().out
    np.testing.assert_allclose(found, reference, rtol=0, atol=1e-4)


def test_without_the_tokens_in_use_they_are_whole(tmp_path: Path, load: LoadEngine, audio: list[Samples]) -> None:
    # An embedding is of the model, whichever labels its head has
    directory = write_random_model(tmp_path / "m", "tiny", tokens="angry\nunuse_0\nhappy\n")
    found, scores = embed(load(directory), audio)
    assert (found.shape[1], scores.shape[1]) == (load(directory).embedding_dimensions, 2)
