"""What runs where: asked for and absent is an error, and no plan takes more threads than there are cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from config.settings import EmotionSettings
from tests.model.conftest import LoadEngine
from warmline.emotion.device import (
    BF16_CPU_FLAGS,
    cgroup_cores,
    count_gpus,
    cpu_flags,
)
from warmline.emotion.loading import load_engine
from warmline.emotion.placement import choose_placement
from warmline.jobs.errors import DeviceUnavailable, ModelUnusable

HAS_CUDA = torch.cuda.is_available()


def test_a_pinned_process_counts_the_cores_it_has() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "from warmline.emotion.device import count_cores; print(count_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "what\n"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 unlimited", "v1", "v1 unlimited", "nonsense", "none"],
)
def test_a_containers_quota_is_read(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert cgroup_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        (None, 3), ((), 0), (("",), 0), (("-1",), 0), (("0",), 1), (("2", "0"), 2), (("0", "-1", "1"), 1),
        (("0", "7", "1"), 1), (("GPU-8932f937",), 1), (("0", "0"), 1), (("0", "1", "2"), 3),
    ],
    ids=str,
)  # fmt: skip
def test_hidden_gpus_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: tuple[str, ...] | None, gpus: int
) -> None:
    # Given a machine with three GPUs and a torch that is built for them
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert count_gpus(visible, root=tmp_path) == gpus


def test_a_torch_without_cuda_has_no_gpus(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    assert count_gpus(root=tmp_path) == (0 if torch.version.cuda is None else 1)


@pytest.mark.skipif(HAS_CUDA, reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
@pytest.mark.parametrize("engine", ["torch", "funasr"])
def test_cuda_that_is_asked_for_and_absent_is_an_error(
    load: LoadEngine, tiny: Path, device: str, engine: str
) -> None:
    with pytest.raises(DeviceUnavailable, match=f"WARMLINE_DEVICE is {device}, but there is no CUDA device"):
        load(tiny, device=device, engine=engine)


@pytest.mark.skipif(not HAS_CUDA, reason="this machine has no GPU")
def test_a_gpu_that_is_not_there_is_an_error(load: LoadEngine, tiny: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="the last CUDA device is"):
        load(tiny, device="cuda:99")


def test_auto_takes_what_is_there_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    placement = choose_placement(EmotionSettings(), threads=2)
    assert placement.device == ("cuda:0" if HAS_CUDA else "cpu")
    said = capsys.readouterr().out
    assert said.count("engine_chosen") == 1
    assert "reason=" in said


def test_on_a_cpu_auto_is_bf16_where_the_hardware_multiplies_it() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    expected = "bf16" if "amx_bf16" in flags or "avx512_bf16" in flags else "fp32"
    assert choose_placement(EmotionSettings(device="cpu"), threads=1).precision == expected
    assert bool(BF16_CPU_FLAGS & cpu_flags()) == (expected == "bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_precision_that_is_asked_for_is_taken(load: LoadEngine, tiny: Path, precision: str) -> None:
    assert load(tiny, precision=precision).info.precision == precision


def test_the_reference_engine_has_one_precision(load: LoadEngine, tiny: Path) -> None:
    with pytest.raises(ModelUnusable, match="fp32 only"):
        load(tiny, engine="funasr", precision="bf16")


def test_an_engine_takes_the_threads_that_it_is_given(load: LoadEngine, tiny: Path) -> None:
    for threads in (2, 1):
        assert load(tiny, threads=threads).info.threads == threads
        assert torch.get_num_threads() == threads


FORKED = """
import os, sys
from pathlib import Path
from config.settings import EmotionSettings
from tests.model.random_checkpoints import windows
from warmline.emotion.engine import score, warm
from warmline.emotion.loading import load_engine
from warmline.emotion.plan import look_at_machine, make_plan
import torch
import warmline.emotion.torch_engine

settings = EmotionSettings(model=sys.argv[1], models_dir=Path(sys.argv[2]), device="cpu", engine="torch")
plan = make_plan(settings, look_at_machine(), children=2)
children, threads = plan.children, 2 * plan.threads
threads_before = len(os.listdir("/proc/self/task"))
assert not torch.cuda.is_initialized()
pids = []
for index in range(children):
    pid = os.fork()
    if pid == 0:
        engine = load_engine(settings, threads=threads, child_index=index)
        warm(engine)
        os._exit(0 if score(engine, windows([16_000])).shape == (1, 9) else 1)
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids], threads_before)
"""


def test_a_parent_that_imports_and_plans_can_fork_children_that_load_and_score(
    tiny: Path, models_dir: Path
) -> None:
    # Given a parent that has imported everything and run nothing, when its children load after the fork
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tiny), str(models_dir)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    # Then none of them hangs or dies
    assert done.returncode == 0, done.stderr
    assert "[0, 0]" in done.stdout


def test_settings_alone_are_enough_to_load_the_bundled_model(models_dir: Path) -> None:
    engine = load_engine(EmotionSettings(models_dir=models_dir, device="cpu"), threads=1)
    assert engine.info.mini
    assert engine.info.model == "mini"
