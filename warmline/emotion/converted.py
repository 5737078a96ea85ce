"""Weights converted once to safetensors, which every worker child maps instead of copying.

    MODELS_DIR/converted/
        HASH-KEY/            HASH: of model.pt's bytes; KEY: of what decides the conversion besides them
            fp32.safetensors
            bf16.safetensors     only when asked for; fp16 likewise
            model.json           for people: where it came from, which architecture
            lock                 held while converting, so that several children convert once
        hashes/              model.pt's hash by path, size and time, so that no start reads 1.2 GB to know it

Children that map one file share its pages: the second child costs no memory for weights. Where MODELS_DIR
cannot be written, the weights are taken straight from model.pt (and in bf16 each child then has its own
copy); a warning says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from warmline.emotion.checkpoint import WEIGHTS_FILE, check_finite, hash_file, read_checkpoint
from warmline.emotion.configuration import Configuration
from warmline.emotion.device import Precision
from warmline.jobs.errors import ModelUnusable

FORMAT = 1  # raised when the files' content changes, so that old ones are not taken for new

# Tiny, and they decide: ALiBi's scale multiplies distances of hundreds of frames, the head makes the scores.
ALWAYS_FP32 = ("alibi_scale", "head.weight", "head.bias")

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model's tensors by their names in `Emotion2Vec`."""

    state: Mapping[str, Tensor]
    model_hash: str  # sha256 of model.pt's bytes, hex
    file: Path | None  # the mapped safetensors file; None: nothing could be written


def load_weights(
    directory: Path, configuration: Configuration, *, models_dir: Path, precision: Precision
) -> Weights:
    """Maps a FunASR model directory's weights, converting them first where nobody has.

    Raises ModelUnusable where model.pt is broken or does not fit its configuration.
    """
    source = directory / WEIGHTS_FILE
    model_hash = model_hash_of(directory, models_dir)
    file = converted_folder(directory, configuration, models_dir) / f"{precision}.safetensors"
    try:
        if not file.is_file():
            _convert(source, configuration, model_hash, precision, file)
        return Weights(state=_map(file), model_hash=model_hash, file=file)
    except OSError as error:
        log.warning("model_not_converted", directory=str(models_dir), reason=error.strerror or str(error))
        state = _cast(read_checkpoint(source, configuration), precision)
        check_finite(state, source)
        return Weights(state=state, model_hash=model_hash, file=None)


def model_hash_of(directory: Path, models_dir: Path) -> str:
    """sha256 of a model directory's model.pt, hex."""
    return remembered_hash(directory / WEIGHTS_FILE, models_dir / "converted" / "hashes")


def converted_folder(directory: Path, configuration: Configuration, models_dir: Path) -> Path:
    """Where all that is made of a model directory's weights is kept; not there before the first conversion."""
    model_hash = model_hash_of(directory, models_dir)
    return models_dir / "converted" / f"{model_hash[:16]}-{_key(configuration)}"


def _map(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        # Written whole or not at all by us, so the disk or somebody else broke it.
        file.unlink(missing_ok=True)
        raise ModelUnusable(f"{file} was broken ({error}) and is removed. Start again to convert anew.") from None


def _convert(
    source: Path, configuration: Configuration, model_hash: str, precision: Precision, file: Path
) -> None:
    """Writes the file unless another process does so first. Raises OSError where that is not possible."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.parent / "lock"):
        if file.is_file():
            return
        remove_abandoned(file.parent)
        log.info("model_converting", source=str(source), precision=precision)
        state = _cast(read_checkpoint(source, configuration), precision)
        check_finite(state, source)
        with written_whole(file) as partial:
            try:
                save_file(state, partial, metadata={"model_hash": model_hash})
            except SafetensorError as error:
                raise OSError(f"{file} cannot be written: {error}") from None
        with written_whole(file.parent / "model.json") as partial:
            partial.write_text(json.dumps(_description(source, configuration, model_hash), indent=2) + "\n")


def _cast(state: Mapping[str, Tensor], precision: Precision) -> dict[str, Tensor]:
    """Each tensor in the type that it will be used in; one that has it already is not copied."""
    small = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    return {
        name: tensor.to(torch.float32 if name in ALWAYS_FP32 else small).contiguous()
        for name, tensor in state.items()
    }


def _key(configuration: Configuration) -> str:
    return hashlib.sha256(f"{FORMAT} {configuration!r}".encode()).hexdigest()[:8]


def _description(source: Path, configuration: Configuration, model_hash: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model_hash": model_hash,
        "source": str(source.resolve()),
        "architecture": dataclasses.asdict(configuration.architecture),
    }


def remembered_hash(path: Path, memory: Path) -> str:
    """sha256 of a file, read anew only when its size or time of change is not the remembered one."""
    try:
        path = path.resolve(strict=True)
        stat = path.stat()
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}.") from None
    known = {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = memory / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads(note.read_text())
        if isinstance(noted, dict) and noted.items() >= known.items() and isinstance(noted.get("sha256"), str):
            return str(noted["sha256"])
    digest = hash_file(path)
    # Only a saving of time is lost where this cannot be written.
    with contextlib.suppress(OSError):
        memory.mkdir(parents=True, exist_ok=True)
        with written_whole(note) as partial:
            partial.write_text(json.dumps({**known, "sha256": digest}))
    return digest


def remove_abandoned(folder: Path) -> None:
    """Removes what a process that died here had begun to write. For the holder of the lock alone."""
    for abandoned in folder.glob("*.partial"):
        if abandoned.is_dir():
            shutil.rmtree(abandoned)
        else:
            abandoned.unlink()


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place at the end: a reader sees all of it or nothing."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.chmod(0o644)  # mkstemp's own is for its owner alone, and children may run as another user
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill beside `folder`, which takes its place at the end. For the holder of the lock alone."""
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.", suffix=".partial"))
    try:
        yield partial
        for path in partial.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
            path.chmod(0o644)
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; the kernel lets go of it when the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
