"""What the machine has, and how children share it: device, precision, threads.

The counting functions are for a worker's parent too, which must neither touch CUDA nor run a torch operation
before it forks: they read files and torch's build flags only. The choosing functions are for the process
that loads the model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
import torch

from config.settings import EmotionSettings
from warmline.jobs.errors import DeviceUnavailable

# Instruction sets that multiply bf16 in hardware, as Linux names them: AMX (Sapphire Rapids and later) and
# AVX-512's (Cooper Lake, Zen 4 and later). Without one of them bf16 is slower than fp32.
BF16_CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})

Precision = Literal["fp32", "bf16"]

log = structlog.get_logger()


def count_cores() -> int:
    """Cores that this process may use: its CPU affinity, and below that its container's quota."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_cores()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cgroup_cores(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The CPU quota of this container, in cores; None without one. A host's nested groups are not looked at."""
    try:
        quota, period = (root / "cpu.max").read_text().split()  # version 2: "200000 100000"
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()  # version 1
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:  # "max" or -1: there is none
        return None
    return int(quota) / int(period)


def count_gpus() -> int:
    """NVIDIA GPUs that this container may open, without touching CUDA; 0 where torch is built without it.

    CUDA_VISIBLE_DEVICES is not looked at (only the settings are read from the environment): where it hides
    GPUs, set WARMLINE_WORKER_CHILDREN.
    """
    if torch.version.cuda is None:
        return 0
    return sum(device.name.removeprefix("nvidia").isdigit() for device in Path("/dev").glob("nvidia*"))


def plan_children(configured: int, *, device: str = "auto") -> int:
    """How many warm children one worker has: as configured, else one per GPU, else one per two cores.

    `device` is WARMLINE_DEVICE: with cpu GPUs do not count, with cuda:N there is one.
    """
    if configured:
        return configured
    gpus = 0 if device == "cpu" else count_gpus()
    if gpus:
        return 1 if ":" in device else gpus
    return max(1, count_cores() // 2)


def threads_per_child(cores: int, children: int, configured: int = 0) -> int:
    """Torch's threads in each child: as configured, else an equal share. More than that makes all slower."""
    return configured or max(1, cores // max(1, children))


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a model runs, in which arithmetic, with how many threads."""

    device: str  # cpu, cuda:0
    precision: Precision
    threads: int


def choose_placement(settings: EmotionSettings, *, threads: int, child_index: int = 0) -> Placement:
    """Decides and says in the log why. Raises DeviceUnavailable where CUDA is asked for and absent.

    On a machine with several GPUs child i takes GPU i, unless the settings name one.
    """
    device = _choose_device(settings.device, child_index)
    precision, reason = _choose_precision(settings.precision, device)
    log.info("device_chosen", device=device, precision=precision, threads=threads, reason=reason)
    return Placement(device=device, precision=precision, threads=threads)


def _choose_device(wanted: str, child_index: int) -> str:
    if wanted == "cpu":
        return "cpu"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0:
        if wanted == "auto":
            return "cpu"
        build = "" if torch.version.cuda else f" (torch {torch.__version__} is built without it)"
        raise DeviceUnavailable(
            f"WARMLINE_DEVICE is {wanted}, but there is no CUDA device{build}. Set it to cpu or auto."
        )
    index = int(wanted.removeprefix("cuda:")) if ":" in wanted else child_index % gpus
    if index >= gpus:
        raise DeviceUnavailable(f"WARMLINE_DEVICE is {wanted}, but the last CUDA device is cuda:{gpus - 1}.")
    return f"cuda:{index}"


def _choose_precision(wanted: str, device: str) -> tuple[Precision, str]:
    hardware = _gpu_has_bf16(device) if device != "cpu" else bool(BF16_CPU_FLAGS & cpu_flags())
    if wanted == "fp32":
        return "fp32", "asked for"
    if wanted == "bf16":
        return "bf16", "asked for" if hardware else "asked for, though this hardware is slower with it"
    return ("bf16", "the hardware multiplies bf16") if hardware else ("fp32", "no bf16 in this hardware")


def _gpu_has_bf16(device: str) -> bool:
    major, _ = torch.cuda.get_device_capability(device)
    return major >= 8  # Ampere and later


def cpu_flags() -> frozenset[str]:
    """What the first core can do, in Linux's words; empty where that cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())
