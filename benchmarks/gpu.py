"""How fast a GPU scores: `python -m benchmarks.gpu`, wherever one is at hand. Prints a table, and JSON if asked.

The model runs as a worker's engine host runs it: windows are copied from pinned memory, scored, and their scores
copied back, one batch begun while the one before is computed. Without --model its weights are random, in the shape
of the large model: that changes no speed. `--device cpu` runs the same code and says nothing about any GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.random_model import windows as make_windows
from benchmarks.random_model import write_random_model
from warmline.emotion.device import Precision
from warmline.emotion.engine import SAMPLE_RATE, Samples, score
from warmline.emotion.loading import Model, describe_engine, open_model
from warmline.emotion.packing import Packer, padding_share
from warmline.emotion.placement import Placement
from warmline.emotion.runners import MeanFrames
from warmline.emotion.torch_engine import TorchEngine, build_model, prepare_cuda

AIM_RTFX = 5_000  # on an H100, with the large model
WINDOW_SAMPLES = 5 * SAMPLE_RATE
BATCH_WINDOWS = (1, 8, 32, 64, 128, 256)
IN_FLIGHT = 2  # batches that are begun before the oldest is finished
MIXED_WINDOWS = 256  # as the engine asks for at once
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Dense 16-bit rates of the makers' data sheets, FLOP a second; the first name that fits counts.
DATA_SHEETS = (
    ("H100 PCIe", 756e12), ("H100", 989e12), ("H200", 989e12), ("A100", 312e12), ("L40S", 362e12), ("L4", 121e12),
    ("A10", 125e12), ("T4", 65e12), ("V100", 125e12),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One way to run the model, measured."""

    precision: str
    way: str  # graphs, or eager: each kernel launched from Python
    windows: int  # of 5 s in a batch; 0: windows of 0.6 to 5 s as calls have them, packed
    rtfx: float  # audio seconds, padding not counted, in a second
    flop_per_second: float  # of the model, padding not counted
    share_of_matrix_rate: float  # of what a large matrix product reached in the same precision and run
    share_of_data_sheet: float | None  # None: no data sheet is known for this device and precision
    host_to_device_bytes_per_second: float
    peak_bytes: int  # of the device's memory, weights included; 0 on a CPU
    first_seconds: float  # of the first batch of its shape: algorithms are chosen, graphs captured


class Card:
    """The device that is measured."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.on_cuda = device != "cpu"
        self.name = torch.cuda.get_device_name(device) if self.on_cuda else "CPU"

    def precisions(self) -> tuple[Precision, ...]:
        """What it computes at a speed worth measuring."""
        if not self.on_cuda:
            return ("fp32", "bf16")
        major, _ = torch.cuda.get_device_capability(self.device)
        return ("fp32", "bf16", "fp16") if major >= 8 else ("fp32", "fp16")

    def data_sheet(self, precision: str) -> float | None:
        """FLOP a second of 16-bit products by the data sheet."""
        rates = (rate for name, rate in DATA_SHEETS if name in self.name)
        return next(rates, None) if precision != "fp32" and self.on_cuda else None

    def wait(self) -> None:
        """Until all that was begun is done."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def matrix_rate(self, precision: str, seconds: float) -> float:
        """FLOP a second of a large product of random matrices."""
        size = 8192 if self.on_cuda else 512
        left, right = (torch.randn(size, size, device=self.device).to(DTYPES[precision]) for _ in range(2))

        def multiply() -> None:
            torch.mm(left, right)

        times, wall = self.repeat(multiply, seconds)
        return 2.0 * size**3 * times / wall

    def repeat(self, work: Callable[[], object], seconds: float) -> tuple[int, float]:
        """Runs it for about so long: how many times, and in how many seconds. Once before, not counted."""
        work()
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        times = max(3, int(seconds / max(time.perf_counter() - started, 1e-6)))
        started = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return times, time.perf_counter() - started


class Bench:
    """All that is measured of one model on one card."""

    def __init__(self, card: Card, model: Model, *, seconds: float, sizes: Sequence[int]) -> None:
        self.card = card
        self.seconds = seconds
        self.sizes = sizes
        self.architecture = model.configuration.architecture
        self.matrix_rates: dict[str, float] = {}
        self._model = model

    def run(self) -> Iterator[Measurement]:
        """Each precision, by graphs and without, over the sizes of a batch; last, windows of mixed lengths."""
        for precision in self.card.precisions():
            self.matrix_rates[precision] = self.card.matrix_rate(precision, self.seconds)
            for graphs in (True, False) if self.card.on_cuda else (False,):
                yield from self._run(precision, graphs=graphs)

    def _run(self, precision: Precision, *, graphs: bool) -> Iterator[Measurement]:
        weights = self._model.convert(precision)
        network = build_model(self.architecture, weights, self.card.device)
        placement = Placement(
            engine="torch", device=self.card.device, precision=precision, threads=torch.get_num_threads()
        )
        info = describe_engine(self._model, placement, weights.model_hash)

        def engine_for(size: int) -> TorchEngine:
            if self.card.on_cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.card.device)
                prepare_cuda(network, self.card.device)
            samples = size * WINDOW_SAMPLES
            return TorchEngine(network, self._model.labels, info, batch_samples=samples, graphs=graphs)

        audio = make_windows([WINDOW_SAMPLES] * max(self.sizes))
        for size in self.sizes:
            # Batches that differ, so that the one in work is not the one that is copied.
            engine = engine_for(size)
            found = self._measure(engine, [audio[:size], audio[-size:]], graphs=graphs)
            if engine.batch_samples < size * WINDOW_SAMPLES:
                return  # it was halved for want of memory, and so would larger ones be
            del engine  # with its graphs, whose memory the next one may need
            yield dataclasses.replace(found, windows=size)
        lengths = mixed_lengths(min(MIXED_WINDOWS, 4 * max(self.sizes)))
        mixed = [make_windows(lengths[start::2], seed=start) for start in (0, 1)]
        yield self._measure(engine_for(min(64, max(self.sizes))), mixed, graphs=graphs, packing=True)

    def _measure(
        self, engine: TorchEngine, sets: Sequence[list[Samples]], *, graphs: bool, packing: bool = False
    ) -> Measurement:
        started = time.perf_counter()
        for audio in sets:
            score(engine, audio)
        first_seconds = time.perf_counter() - started
        ready = [engine.prepare(audio) for audio in sets]
        turns = itertools.cycle(range(len(sets)))
        begun: deque[list[MeanFrames]] = deque()

        def step() -> None:
            turn = next(turns)
            begun.append(engine.infer(engine.prepare(sets[turn]) if packing else ready[turn]))
            if len(begun) > IN_FLIGHT:
                engine.finish(begun.popleft())

        times, wall = self.card.repeat(step, self.seconds)
        samples = sum(window.size for audio in sets for window in audio) / len(sets)  # of a step
        flop = sum(self.architecture.flop_per_window(window.size) for audio in sets for window in audio) / len(
            sets
        )
        copied = sum(4 * batch.samples.numel() for prepared in ready for batch in prepared) / len(sets)
        rate = flop * times / wall
        sheet = self.card.data_sheet(engine.info.precision)
        return Measurement(
            precision=engine.info.precision,
            way="graphs" if graphs else "eager",
            windows=0,
            rtfx=samples / SAMPLE_RATE * times / wall,
            flop_per_second=rate,
            share_of_matrix_rate=rate / self.matrix_rates[engine.info.precision],
            share_of_data_sheet=None if sheet is None else rate / sheet,
            host_to_device_bytes_per_second=copied * times / wall,
            peak_bytes=torch.cuda.max_memory_reserved(self.card.device) if self.card.on_cuda else 0,
            first_seconds=first_seconds / len(sets),
        )


def mixed_lengths(count: int) -> list[int]:
    """Samples of windows as calls have them: long turns cut into equal windows of 2.5 to 5 s, short ones whole."""
    generator = random.Random(0)
    shortest = (generator.choice((0.6, 2.5, 2.5)) for _ in range(count))
    return [int(generator.uniform(seconds, 5) * SAMPLE_RATE) for seconds in shortest]


def to_line(found: Measurement) -> str:
    """A row of the table."""
    sheet = "" if found.share_of_data_sheet is None else f"{found.share_of_data_sheet:.0%}"
    return (
        f"{found.precision:<5}{found.way:<8}{found.windows or 'mixed':>7}{found.rtfx:>10,.1f}"
        f"{found.flop_per_second / 1e12:>9.2f}{found.share_of_matrix_rate:>9.0%}{sheet:>9}"
        f"{found.host_to_device_bytes_per_second / 1e6:>10,.1f}{found.peak_bytes / 2**30:>8.2f}"
        f"{found.first_seconds:>8.2f}"
    )


HEADER = "prec way     windows      RTFx  TFLOP/s of matmul of sheet   MB/s in     GiB first s"


def measure(card: Card, model: Model, *, seconds: float, sizes: Sequence[int]) -> dict[str, object]:
    """Measures, printing each row as it comes; returns what the JSON holds."""
    bench = Bench(card, model, seconds=seconds, sizes=sizes)
    flop = bench.architecture.flop_per_window(WINDOW_SAMPLES) / 5
    lengths = mixed_lengths(MIXED_WINDOWS)
    packed = list(Packer(budget_samples=64 * WINDOW_SAMPLES, fixed_shapes=True).pack(lengths))
    print(
        f"{card.name}, torch {torch.__version__}, model {model.found.name}:"
        f" {flop / 1e9:.1f} GFLOP a second of audio"
    )
    print(f"mixed: windows of 0.6 to 5 s, of whose batches {padding_share(packed, lengths):.0%} is padding")
    print(HEADER)
    rows = []
    for found in bench.run():
        print(to_line(found), flush=True)
        rows.append(found)
    rates = ", ".join(f"{name} {rate / 1e12:.1f}" for name, rate in bench.matrix_rates.items())
    print(f"a large matrix product reached, in TFLOP/s: {rates}")
    best = max(rows, key=lambda found: found.rtfx)
    print(
        f"best: {best.rtfx:,.0f} audio hours an hour"
        f" ({best.precision}, {best.way}, {best.windows or 'mixed'} windows);"
        f" the aim is {AIM_RTFX:,} with the large model on an H100"
    )
    return {
        "device": card.name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if card.on_cuda else None,
        "model": model.found.name,
        "model_hash": model.hash(),
        "flop_per_audio_second": flop,
        "matrix_flop_per_second": bench.matrix_rates,
        "aim": {"rtfx": AIM_RTFX, "device": "H100", "model": "large"},
        "rows": [dataclasses.asdict(found) for found in rows],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code: 0 too where there is no GPU, after a line that says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model", default="", help="a name or a FunASR model directory; random weights unless given"
    )
    parser.add_argument("--config", default="", help="shape of the random model: large, base or tiny")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to try this command")
    parser.add_argument("--windows", default="", help="sizes of a batch, e.g. 1,64")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was measured: run this where there is a GPU.")
        return 0
    card = Card(options.device)
    sizes = tuple(int(part) for part in options.windows.split(",") if part) or BATCH_WINDOWS
    with tempfile.TemporaryDirectory(prefix="warmline-gpu-") as scratch:
        name = options.model
        if not name:
            config = options.config or ("large" if card.on_cuda else "tiny")
            name = str(write_random_model(Path(scratch) / f"random-{config}", config))
        model = open_model(name, Path(scratch) / "models")
        results = measure(card, model, seconds=options.seconds, sizes=sizes)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
