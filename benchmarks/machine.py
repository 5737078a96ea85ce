"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from warmline.emotion.device import count_cores, cpu_flags, memory_limit_bytes

# Instruction sets that decide how fast matrices are multiplied.
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
PACKAGES = ("warmline", "torch", "openvino", "nncf", "funasr", "onnxruntime", "numpy", "celery")


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """The machine, its software, and how busy it was."""

    cpu: str
    cores: int
    flags: tuple[str, ...]  # those of FLAGS that it has
    memory_gib: float
    python: str
    versions: dict[str, str]
    started_at: str  # ISO 8601, UTC
    load_average: float  # of the minute before the start

    def to_json(self) -> dict[str, Any]:
        """For the results' file."""
        return asdict(self)

    @property
    def slug(self) -> str:
        """DATE-CPU, for a file's name."""
        return f"{self.started_at[:10]}-{re.sub(r'[^A-Za-z0-9]+', '-', self.cpu).strip('-')}-{self.cores}-cores"


def look_at_facts(packages: Sequence[str] = PACKAGES) -> MachineFacts:
    """This machine, now, and the releases of these packages."""
    flags = cpu_flags()
    return MachineFacts(
        cpu=_cpu_name(),
        cores=count_cores(),
        flags=tuple(flag for flag in FLAGS if flag in flags),
        memory_gib=round(min(psutil.virtual_memory().total, memory_limit_bytes() or 2**62) / 2**30, 1),
        python=platform.python_version(),
        versions={name: version for name in packages if (version := _version(name))},
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        load_average=round(os.getloadavg()[0], 2),
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
