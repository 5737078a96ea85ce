"""A window's scores do not depend on its neighbours, on padding, or on the blocks that it is computed in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import windows
from warmline.emotion import architecture as architecture_module
from warmline.emotion.architecture import Architecture, ConvLayer, Emotion2Vec
from warmline.emotion.attention_bias import AttentionBias, alibi_slopes
from warmline.emotion.engine import Engine, score, warm
from warmline.emotion.framing import convolve_frames
from warmline.emotion.hub import MINI_DIRECTORY
from warmline.emotion.packing import Packer
from warmline.emotion.torch_engine import TorchEngine

LENGTHS = (16_000, 400, 31_999, 720, 16_000, 5_003, 12_345)


@pytest.fixture(scope="module")
def engine(tiny: Path, load: LoadEngine) -> Engine:
    return load(tiny)


@pytest.fixture(scope="module")
def batching(tiny: Path, load: LoadEngine) -> TorchEngine:
    """An engine that runs at most 50,000 samples at once, as a GPU would run more."""
    engine = load(tiny)
    assert isinstance(engine, TorchEngine)
    engine._packer = Packer(budget_samples=50_000, fixed_shapes=False)
    return engine


def test_windows_come_back_in_their_order_whatever_the_batches(engine: Engine, batching: TorchEngine) -> None:
    # Given windows of mixed lengths
    audio = windows(LENGTHS)
    alone = np.concatenate([score(engine, [window]) for window in audio])
    # When an engine sorts them into several padded batches
    batches = batching.prepare(audio)
    assert 1 < len(batches) < len(audio)
    assert all(batch.samples.numel() <= 50_000 for batch in batches)
    scores = batching.finish(batching.infer(batches))
    # Then each has the scores that it has alone
    np.testing.assert_allclose(scores, alone, rtol=0, atol=2e-5)


def test_a_cpu_runs_each_window_alone(engine: Engine) -> None:
    assert [len(batch.lengths) for batch in engine.prepare(windows(LENGTHS))] == [1] * len(LENGTHS)


def test_loud_and_broken_neighbours_change_nothing(engine: Engine, batching: TorchEngine) -> None:
    quiet, loud = windows((13_000, 16_000))
    broken = np.full(16_000, np.nan, dtype=np.float32)
    (batch,) = batching.prepare([quiet, loud * 1000, broken])
    scores = batching.finish(batching.infer([batch]))
    np.testing.assert_allclose(scores[:1], score(engine, [quiet]), rtol=0, atol=2e-5)


def test_nothing_to_score_gives_no_rows(engine: Engine) -> None:
    assert score(engine, []).shape == (0, 9)


def test_scores_are_probabilities_and_repeat_exactly(engine: Engine) -> None:
    audio = [*windows((8_000,)), np.zeros(8_000, dtype=np.float32), np.ones(8_000, dtype=np.float32)]
    scores = score(engine, audio)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(scores, score(engine, audio))


@pytest.mark.parametrize("samples", [np.zeros(399, np.float32), np.zeros((2, 800), np.float32)])
def test_too_short_or_two_dimensional_is_the_callers_mistake(engine: Engine, samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="400 samples"):
        engine.prepare([samples])


def test_the_shortest_window_has_exactly_one_frame(engine: Engine) -> None:
    assert engine.min_samples == 400
    assert score(engine, windows((400,))).shape == (1, 9)


def test_an_engine_can_be_warmed(engine: Engine) -> None:
    warm(engine)


def test_attention_in_blocks_is_attention_at_once(engine: TorchEngine) -> None:
    # Given two windows of different lengths, so that both ALiBi and the padding mask are in the bias
    samples = torch.from_numpy(np.stack(windows((16_000, 16_000))))
    network = engine._model
    with torch.inference_mode():
        # Frames and not logits: this random head multiplies the last digit's noise by hundreds.
        at_once, real = network.encode(samples, [16_000, 9_999])
        for elements in (1, 2 * 53 * 7, 2 * 53 * 52):  # 1, 7 and 52 queries of 53 at a time
            network.attention_block_elements = elements
            frames, _ = network.encode(samples, [16_000, 9_999])
            torch.testing.assert_close(frames[real], at_once[real], rtol=1e-5, atol=1e-5)
    network.attention_block_elements = architecture_module.ATTENTION_BLOCK_ELEMENTS


def test_a_long_window_is_computed_in_blocks_and_equals_funasrs_one_piece(engine: TorchEngine) -> None:
    # 60 s: six blocks of the frontend. One block must be the same, or frames at the seams were wrong.
    samples = torch.from_numpy(windows((60 * 16_000,))[0][None])
    frontend = engine._model.frontend
    with torch.inference_mode():
        whole = frontend.projection(frontend.norm(frontend._convolve(samples)))
        assert whole.shape[1] == frontend.architecture.frames(60 * 16_000) == 2999
        torch.testing.assert_close(frontend(samples), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("precision", "near"), [("bf16", 0.02), ("fp16", 0.004)])
def test_half_precisions_agree_with_fp32(load: LoadEngine, precision: str, near: float) -> None:
    # Given a trained model: a random one magnifies every rounding
    whole, half = load(MINI_DIRECTORY), load(MINI_DIRECTORY, precision=precision)
    assert half.info.precision == precision
    audio = windows((16_000, 31_999, 5_003, 48_000))
    scores, expected = score(half, audio), score(whole, audio)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=near)
    assert np.abs(scores - expected).max() > 0, f"{precision} was not what ran"


def test_rows_of_the_attentions_bias_may_begin_at_multiples(engine: TorchEngine) -> None:
    # Given the bias of a padded batch as CUDA's attention wants it, whose rows begin at multiples of 16 elements
    slopes = torch.tensor([0.5, 0.25, 0.0])
    real = torch.arange(37) < torch.tensor([[37], [21]])
    kinds: tuple[tuple[torch.Tensor | None, torch.Tensor | None], ...] = (
        (slopes, real),
        (slopes, None),
        (None, real),
    )
    for of, which in kinds:
        for block in (10**6, 3 * 2 * 37 * 5):
            aligned, plain = (
                AttentionBias(
                    of,
                    which,
                    positions=37,
                    extra_tokens=5,
                    block_elements=block,
                    dtype=torch.float32,
                    row_elements=row,
                )
                for row in (16, 1)
            )
            for (*_, wide), (*_, narrow) in zip(aligned.blocks(), plain.blocks(), strict=True):
                # Then its numbers are the same, and its rows do
                assert wide is not None
                assert narrow is not None
                torch.testing.assert_close(wide, narrow)
                assert all(stride % 16 == 0 for stride in wide.stride()[:-1])
                assert wide.stride(-1) == 1


def test_frames_as_matrix_products_are_the_convolutions(engine: TorchEngine) -> None:
    frontend = engine._model.frontend
    with torch.inference_mode():
        for rows, length in ((1, 400), (1, 7_919), (3, 16_001)):
            samples = torch.from_numpy(np.stack(windows([length] * rows)))
            torch.testing.assert_close(
                frontend._convolve(samples), frontend._convolve_by_channels(samples), rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize(("width", "stride"), [(3, 2), (2, 2), (8, 8), (7, 3), (1, 2), (10, 5)])
def test_any_kernel_and_stride_is_a_sum_of_matrix_products(width: int, stride: int) -> None:
    weight = torch.randn(6, 4, width)
    for frames in range(width, width + 2 * stride + 1):
        x = torch.randn(2, frames, 4)
        expected = torch.nn.functional.conv1d(x.transpose(1, 2), weight, stride=stride).transpose(1, 2)
        torch.testing.assert_close(convolve_frames(x, weight, stride), expected, rtol=1e-4, atol=1e-5)


def test_flop_of_a_window_are_counted_as_torch_counts_them(engine: TorchEngine) -> None:
    # Given torch's own counter, which knows convolutions and matrix products, but not the CPU's own attention
    network, samples = engine._model, torch.from_numpy(windows((31_999,))[0][None])
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(samples, [31_999])
    expected = counter.get_total_flops()
    assert network.architecture.flop_per_window(31_999) == pytest.approx(expected, rel=1e-3)
    assert network.architecture.flop_per_window(399) == 0


def test_alibi_slopes_are_those_of_the_paper() -> None:
    # Eight heads: 1/2, 1/4, ... 1/256. Twelve: those of eight, then every other one of sixteen.
    assert alibi_slopes(8) == [2.0**-power for power in range(1, 9)]
    assert alibi_slopes(12) == pytest.approx([*alibi_slopes(8), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_dropout_and_layerdrop_act_in_training_only() -> None:
    shape = Architecture(
        embed_dim=32, prenet_depth=1, depth=3, num_heads=4, labels=3, alibi_heads=4, conv_pos_groups=4,
        conv_layers=(ConvLayer(16, 10, 5), ConvLayer(16, 8, 8)), dropout=0.3, layerdrop=0.5,
    )  # fmt: skip
    network = Emotion2Vec(shape)
    samples = torch.randn(2, 4_000)
    lengths = [4_000, 3_000]
    network.train()
    assert not torch.equal(network(samples, lengths), network(samples, lengths))
    network(samples, lengths).sum().backward()
    network.eval()
    assert torch.equal(network(samples, lengths), network(samples, lengths))


OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from config.settings import EmotionSettings
from tests.model.random_checkpoints import windows
from warmline.emotion.engine import score, warm
from warmline.emotion.loading import load_engine
from warmline.emotion.packing import Packer
from warmline.jobs.errors import OutOfMemory

settings = EmotionSettings(model=sys.argv[1], models_dir=Path(sys.argv[2]), precision="fp32", device="cpu")
engine = load_engine(settings, threads=1)
engine._packer = Packer(budget_samples=10**7, fixed_shapes=False)
warm(engine)
short, long = windows([16_000] * 96), windows([60 * 16_000])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 48 * 2**20, resource.RLIM_INFINITY))
print(score(engine, short).shape, engine._packer.budget_samples)
try:
    score(engine, long)
except OutOfMemory as error:
    print(error)
"""


def test_out_of_memory_halves_the_batch_and_ends_as_a_typed_error(tiny: Path, models_dir: Path) -> None:
    # Given a process that may not take more than 48 MiB beyond what it has
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(tiny), str(models_dir)],
        # A fixed threshold makes glibc give freed tensors back at once, as an accelerator's allocator does.
        env={
            **os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "MALLOC_MMAP_THRESHOLD_": "65536",
        },
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # When it is given 96 s at once, then it scores them in smaller batches, and goes on with those
    assert "(96, 9)" in done.stdout
    assert "batch_halved" in done.stdout
    assert "(96, 9) 10000000" not in done.stdout
    # When it is given one window that has no room at all, then that is an error with a sentence
    assert "A window of 60 s does not fit into cpu's memory" in done.stdout
