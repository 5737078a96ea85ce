"""What the machine has: cores, memory, GPUs, instruction sets.

For a worker's parent too, which must neither touch CUDA nor run a torch operation before it forks: files and
torch's build flags are read, nothing else, and these only where there is a GPU: a worker with engine hosts needs
no torch. What is made of it is in `plan.py` and `placement.py`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

# Instruction sets that multiply bf16 in hardware, as Linux names them: AMX (Sapphire Rapids and later) and
# AVX-512's (Cooper Lake, Zen 4 and later). Without one of them bf16 is slower than fp32.
BF16_CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})

EngineName = Literal["torch", "openvino", "funasr"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]


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


def memory_limit_bytes(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The memory that this container may use, in bytes; None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # version 2, version 1
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def count_gpus(visible: Sequence[str] | None = None, *, root: Path = Path("/dev")) -> int:
    """NVIDIA GPUs that this container may open, without touching CUDA; 0 where torch is built without it.

    `visible` are the entries of CUDA_VISIBLE_DEVICES, None where it is not set. As CUDA does, the first one that
    names no GPU hides itself and all behind it; a UUID is taken for one that is there.
    """
    there = [name for device in root.glob("nvidia*") if (name := device.name.removeprefix("nvidia")).isdigit()]
    count = len(there)
    if visible is not None:
        named = itertools.takewhile(
            lambda entry: entry.startswith(("GPU-", "MIG-")) or (entry.isdigit() and int(entry) < len(there)),
            visible,
        )
        count = min(count, len(set(named)))
    if count == 0:
        return 0
    import torch

    return 0 if torch.version.cuda is None else count


def cpu_flags() -> frozenset[str]:
    """What the first core can do, in Linux's words; empty where that cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())
