"""FunASR's model.pt: its tensors under our names, checked against the architecture before anything runs.

The file is a pickle. It is read with `weights_only`, which builds tensors and plain containers and refuses
everything else, and mapped rather than copied into memory.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from warmline.emotion.architecture import Emotion2Vec
from warmline.emotion.configuration import Configuration
from warmline.emotion.layout import funasr_names
from warmline.jobs.errors import ModelUnusable

WEIGHTS_FILE = "model.pt"

# Names that stand for the whole state dict in training checkpoints, in the order FunASR looks for them.
WRAPPERS = ("state_dict", "model_state_dict", "model")

# Tensors below these prefixes are what inference is made of: one that the configuration does not call for
# means that configuration and weights do not belong together. Others (decoder, running averages, losses)
# are left over from training.
INFERENCE_PREFIXES = (
    "blocks.",
    "norm.",
    "proj.",
    "modality_encoders.AUDIO.alibi_bias",
    "modality_encoders.AUDIO.alibi_scale",
    "modality_encoders.AUDIO.context_encoder.",
    "modality_encoders.AUDIO.extra_tokens",
    "modality_encoders.AUDIO.local_encoder.",
    "modality_encoders.AUDIO.project_features.",
    "modality_encoders.AUDIO.relative_positional_encoder.",
)

log = structlog.get_logger()


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, hex. Raises ModelUnusable where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}.") from None


def read_checkpoint(path: Path, configuration: Configuration) -> dict[str, Tensor]:
    """The tensors of a model.pt by their names in `Emotion2Vec`, as views of the mapped file.

    Raises ModelUnusable where the file is broken or holds code, or where a tensor is missing, is left over,
    or has another shape than the configuration says; the message names the tensors.
    """
    stored = _unwrap(_load(path), path)
    scopes = (*configuration.scopes, ("module.", ""))  # FunASR adds the last one by itself
    with torch.device("meta"):  # shapes without memory
        wanted = Emotion2Vec(configuration.architecture).state_dict()
    names = funasr_names(configuration.architecture)
    sources = {ours: _source(names[ours], stored, scopes) for ours in wanted}
    _refuse([names[ours] for ours, source in sources.items() if source is None], path, "lacks")
    found = {ours: source for ours, source in sources.items() if source is not None}
    _refuse(_left_over(set(stored) - set(found.values()), scopes, path), path, "has, against its configuration:")
    state = {ours: stored[source] for ours, source in found.items()}
    misfits = [ours for ours, tensor in state.items() if not _fits(tensor, wanted[ours])]
    _refuse(
        [f"{found[ours]} ({_shape(state[ours])}, should be {_shape(wanted[ours])})" for ours in misfits],
        path,
        "does not fit its configuration:",
    )
    return state


def _load(path: Path) -> Any:
    try:
        # Files of torch before 1.6 are no zip archives, and cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch's message goes on with advice to switch the protection off.
        reason = str(error).partition("Please file an issue")[0].partition("WeightsUnpickler error:")[2].strip()
        raise ModelUnusable(
            f"{path} holds more than tensors and is not opened, because that could run code"
            f" ({reason.partition(chr(10))[0] or 'not a checkpoint'}). Save its state dict alone."
        ) from None
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}.") from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        # What torch raises for a file that is cut short or is no checkpoint at all depends on where it breaks.
        reason = str(error).strip().partition("\n")[0]
        raise ModelUnusable(f"{path} is broken or cut short ({reason}). Fetch it again.") from None


def _unwrap(loaded: Any, path: Path) -> Mapping[str, Any]:
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and wrapper in loaded:
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise ModelUnusable(f"{path} holds no state dict.")
    return loaded


def _source(name: str, stored: Mapping[str, Any], scopes: tuple[tuple[str, str], ...]) -> str | None:
    """The name under which the checkpoint has a tensor; FunASR lets the last scope that fits win."""
    source = name if name in stored else None
    for theirs, ours in scopes:
        candidate = theirs + name.removeprefix(ours)
        if name.startswith(ours) and candidate in stored:
            source = candidate
    return source


def _left_over(unused: set[str], scopes: tuple[tuple[str, str], ...], path: Path) -> list[str]:
    """Tensors that belong to inference and are not asked for. Others are only mentioned in the log."""
    plain = {name: name for name in unused}  # without the scope that it is stored in
    for theirs, ours in scopes:
        plain |= {name: ours + name.removeprefix(theirs) for name in unused if theirs and name.startswith(theirs)}
    needless = sorted(name for name, without in plain.items() if without.startswith(INFERENCE_PREFIXES))
    if others := sorted(unused - set(needless)):
        log.info("checkpoint_tensors_ignored", path=str(path), count=len(others), first=others[:3])
    return needless


def _fits(tensor: Any, like: Tensor) -> bool:
    return (
        isinstance(tensor, Tensor)
        and tensor.layout is torch.strided
        and tensor.is_floating_point()
        and tensor.shape == like.shape
    )


def _refuse(problems: list[str], path: Path, verb: str) -> None:
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ModelUnusable(f"{path} {verb} {', '.join(problems[:5])}{more}.")


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "no tensor"
    return f"{'x'.join(str(size) for size in value.shape) or '1'} {str(value.dtype).removeprefix('torch.')}"


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raises ModelUnusable where a weight is not a number: every score would be NaN."""
    # A sum is NaN or infinite as soon as one weight is, and takes no memory for a mask.
    broken = [name for name, tensor in state.items() if not tensor.sum(dtype=torch.float64).isfinite()]
    _refuse(sorted(broken), path, "has weights that are not numbers in")
