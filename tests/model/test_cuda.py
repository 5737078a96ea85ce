"""What only a GPU can show. Skipped everywhere else, on CI too: nothing that a test can start would bring one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import windows, write_random_model
from warmline.emotion.batches import make_batch
from warmline.emotion.engine import score, warm
from warmline.emotion.hub import MINI_DIRECTORY
from warmline.emotion.packing import Packer
from warmline.emotion.runners import CudaRunner
from warmline.emotion.torch_engine import TorchEngine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")

MIXED = (80_000, 80_000, 72_000, 64_000, 79_999, 40_000, 33_333, 16_000, 5_003, 400, 96_000)


def load_cuda(load: LoadEngine, directory: Path, precision: str) -> TorchEngine:
    engine = load(directory, device="cuda", precision=precision)
    assert isinstance(engine, TorchEngine)
    return engine


def half_precisions() -> list[str]:
    major = torch.cuda.get_device_capability()[0] if torch.cuda.is_available() else 8
    return ["bf16", "fp16"] if major >= 8 else ["fp16"]


@pytest.mark.parametrize("precision", ["fp32", *half_precisions()])
def test_graphs_score_what_kernels_launched_one_by_one_score(load: LoadEngine, precision: str) -> None:
    # Given the engine as it is, with graphs, and a runner without
    engine = load_cuda(load, MINI_DIRECTORY, precision)
    eager = CudaRunner(engine._model, torch.device("cuda:0"), graphs=False)
    for seed in range(3):
        prepared = engine.prepare(windows(MIXED, seed=seed))
        # When both run the same batches, the second and third time by replay
        graphs = engine.finish(engine.infer(prepared))
        with torch.inference_mode():
            expected = engine.finish([eager.run(batch) for batch in prepared])
        # Then the scores are the same
        np.testing.assert_allclose(graphs, expected, rtol=0, atol=1e-5 if precision == "fp32" else 2e-3)
    assert isinstance(engine._runner, CudaRunner)
    assert engine._runner.captured > 0, "no graph was captured"


def test_fp32_scores_are_the_cpus(load: LoadEngine, tiny: Path) -> None:
    expected = score(load(tiny), windows(MIXED))
    np.testing.assert_allclose(score(load_cuda(load, tiny, "fp32"), windows(MIXED)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", half_precisions())
def test_half_precisions_agree_with_fp32_on_the_top_label(load: LoadEngine, precision: str) -> None:
    audio = windows([80_000, 50_000, 30_000, 16_000] * 64)
    scores = score(load_cuda(load, MINI_DIRECTORY, precision), audio)
    expected = score(load(MINI_DIRECTORY), audio)
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.995


def test_results_are_right_when_the_next_batches_are_begun_before_the_first_are_finished(
    load: LoadEngine, tiny: Path
) -> None:
    engine, expected = load_cuda(load, tiny, "fp32"), load(tiny)
    calls = [windows(MIXED, seed=seed) for seed in range(6)]
    begun = [engine.infer(engine.prepare(audio)) for audio in calls]
    for audio, output in zip(calls, begun, strict=True):
        np.testing.assert_allclose(engine.finish(output), score(expected, audio), rtol=0, atol=1e-4)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """This process may take 600 MiB of the GPU's memory."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(600 * 2**20 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("little_memory")
def test_out_of_memory_halves_the_batch_and_loses_no_window(
    tmp_path: Path, load: LoadEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a frontend as wide as the released models', and a batch that takes more memory than there is
    directory = write_random_model(tmp_path / "m", "tiny", changes={
        "feature_encoder_spec": "'[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] + [(512, 2, 2)]'"
    })  # fmt: skip
    engine = load_cuda(load, directory, "fp32")
    engine._packer = Packer(budget_samples=64 * 80_000, fixed_shapes=True)
    audio = windows([80_000] * 64)
    # When it is scored, twice
    first, second = score(engine, audio), score(engine, audio)
    # Then in smaller batches, and all of them
    assert "batch_halved" in capsys.readouterr().out
    assert engine._packer.budget_samples < 64 * 80_000
    np.testing.assert_allclose(first, score(load(directory), audio), rtol=0, atol=1e-4)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4)


def test_the_memory_of_a_batch_is_what_was_reckoned(tmp_path: Path, load: LoadEngine) -> None:
    engine = load_cuda(load, write_random_model(tmp_path / "base", "base"), "fp32")
    reckoned = engine._model.architecture.activation_bytes_per_sample(4) * 8 * 80_000
    audio = windows([80_000] * 8)
    (group,) = engine._packer.pack([80_000] * 8)
    eager = CudaRunner(engine._model, torch.device("cuda:0"), graphs=False)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        eager.run(make_batch(group, audio, device=torch.device("cuda:0"))).wait()
    assert torch.cuda.max_memory_allocated() - before < 1.3 * reckoned


@pytest.mark.parametrize("graphs", [True, False])
def test_embeddings_are_the_cpus(load: LoadEngine, tiny: Path, graphs: bool) -> None:
    reference, engine = load(tiny), load_cuda(load, tiny, "fp32")
    engine._runner = CudaRunner(engine._model, torch.device("cuda:0"), graphs=graphs)
    for seed in range(2):  # the second time by replay
        audio = windows(MIXED, seed=seed)
        output = engine.infer(engine.prepare(audio), embeddings=True)
        expected = reference.embeddings(reference.infer(reference.prepare(audio)))
        np.testing.assert_allclose(engine.embeddings(output), expected, rtol=0, atol=1e-4)


def test_an_engine_warms_with_the_shape_that_it_gets_most(load: LoadEngine, tiny: Path) -> None:
    engine = load_cuda(load, tiny, "fp32")
    warm(engine)
    assert isinstance(engine._runner, CudaRunner)
    assert engine._runner.captured == 1
    assert engine.windows_at_once >= 64
