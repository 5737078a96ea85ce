"""Checks of the machine: Python, cores, memory, disk, accelerators, the way to the network."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from config.settings import Settings
from warmline.local.checks.findings import Finding, fail, ok, warn
from warmline.local.ports import LOOPBACK

_GIB = 1024**3
# The weights in fp32, by model; other models are taken for large ones.
_WEIGHTS_BYTES = {"mini": 0.01 * _GIB, "base": 0.4 * _GIB, "large": 1.2 * _GIB}
_DATA_BYTES = 2 * _GIB


def python(_: Settings) -> Iterator[Finding]:
    """The interpreter."""
    # pip refuses to install Warmline for one that is too old; which one it is helps whoever is asked for help.
    yield ok(
        "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    )


def device(settings: Settings) -> Iterator[Finding]:
    """Cores, threads, accelerators, and what the worker makes of them."""
    if importlib.util.find_spec("torch") is None:
        cores = os.cpu_count() or 1
        yield warn(
            "device", f"{cores} cores; no torch here, so no scoring", "Install `warmline[worker]` to score here."
        )
        return
    from warmline.emotion.device import BF16_CPU_FLAGS
    from warmline.emotion.placement import choose_placement
    from warmline.emotion.plan import look_at_machine, plan_worker
    from warmline.jobs.errors import WarmlineError

    machine = look_at_machine()
    plan = plan_worker(settings.emotion, settings.worker, machine)
    engines = plan.hosts or plan.children
    shared = f"{machine.cores} cores: {plan.children} children, {engines} engines of {plan.threads} threads"
    if engines * plan.threads > machine.cores:
        mend = "Leave WARMLINE_THREADS and WARMLINE_WORKER_CHILDREN at 0, or let their product be the cores."
        yield warn("threads", f"{shared}, which slows all of them down", mend)
    else:
        yield ok("threads", shared)
    try:
        placement = choose_placement(settings.emotion, threads=plan.threads)
    except WarmlineError as error:
        yield fail(
            "device", error.message, "Set WARMLINE_DEVICE to auto or cpu, or install a CUDA build of torch."
        )
        return
    found = sorted(machine.cpu_flags & BF16_CPU_FLAGS)
    hardware = f"bf16 in the CPU: {', '.join(found)}" if found else "no bf16 in the CPU (AMX, AVX-512), fp32 it is"
    yield ok("device", f"{placement.engine} on {placement.device} in {placement.precision}; {hardware}")


def memory(settings: Settings) -> Iterator[Finding]:
    """Memory against what the warm children need."""
    if importlib.util.find_spec("torch") is None:
        return  # said by `device`
    from warmline.emotion.plan import look_at_machine, memory_needed, plan_worker

    machine = look_at_machine()
    have = machine.memory_bytes
    model = settings.emotion.model
    plan = plan_worker(settings.emotion, settings.worker, machine)
    need = memory_needed(plan, weights_bytes=_WEIGHTS_BYTES.get(model, _WEIGHTS_BYTES["large"]))
    children = f"{plan.children} children" + (f" and {plan.live_children} for live" if plan.live_children else "")
    sizes = f"{have / _GIB:.1f} GiB; {children} of model {model} need {need / _GIB:.1f} in all"
    if have < need:
        yield fail("memory", sizes, "Set WARMLINE_WORKER_CHILDREN lower, or give this machine more memory.")
    elif have < 1.5 * need:
        yield warn("memory", sizes, "Set WARMLINE_WORKER_CHILDREN lower if the system kills workers.")
    else:
        yield ok("memory", sizes)


def disk(settings: Settings) -> Iterator[Finding]:
    """Room for the data of the stack and for the calls in work, and permission to write there."""
    data = settings.stack.data_dir.expanduser().absolute()
    yield _room("data directory", data, _DATA_BYTES, "WARMLINE_STACK_DATA_DIR")
    scratch = settings.worker.scratch_dir.expanduser().absolute()
    yield _room("scratch directory", scratch, settings.s3.max_object_bytes, "WARMLINE_WORKER_SCRATCH_DIR")


def proxies(settings: Settings) -> Iterator[Finding]:
    """An HTTP proxy that would come between Warmline and its object store."""
    if not urllib.request.getproxies().keys() & {"http", "https", "all"}:
        yield ok("proxy", "no HTTP proxy is set")
        return
    host = urlsplit(settings.s3.endpoint_url).hostname
    # What is on this machine is reached without the proxy, and AWS mostly through it.
    if host is None or host in {LOOPBACK, "localhost"} or urllib.request.proxy_bypass(host):
        yield ok("proxy", "an HTTP proxy is set; this machine's own servers are reached without it")
    else:
        mend = f"If {host} is to be reached directly, add it to NO_PROXY (and no_proxy)."
        yield warn("proxy", f"requests to the object store at {host} go through a proxy", mend)


def _room(check: str, path: Path, need_bytes: int, variable: str) -> Finding:
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"0")
    except OSError as error:
        return fail(check, f"{there} cannot be written to: {error.strerror}", f"Set {variable} to one of yours.")
    free = shutil.disk_usage(there).free
    sizes = f"{path}: {free / _GIB:.1f} GiB free"
    if free < need_bytes:
        mend = f"Make room for {need_bytes / _GIB:.0f} GiB, or set {variable} to another disk."
        return warn(check, sizes, mend)
    return ok(check, sizes)
