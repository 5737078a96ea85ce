"""FunASR's tokens.txt: what each row of the model's head means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmline.jobs.errors import ModelUnusable

TOKENS_FILE = "tokens.txt"
MAX_TOKENS_BYTES = 64 * 1024

# Of the models that Warmline knows by name. The report's schema has the same list.
STANDARD_LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels that are scored, and the rows of the head that they are."""

    names: tuple[str, ...]  # in the order of the scores
    rows: tuple[int, ...]  # as many; the head's other rows are masked before the softmax
    tokens: tuple[str, ...]  # the file's lines, one for each row of the head


def read_labels(directory: Path) -> Labels:
    """Reads tokens.txt of a FunASR model directory. Raises ModelUnusable."""
    path = directory / TOKENS_FILE
    try:
        if path.stat().st_size > MAX_TOKENS_BYTES:
            raise ModelUnusable(f"{path} is larger than 64 KiB, which no list of emotions is.")
        tokens = path.read_text(encoding="utf-8").rstrip().split("\n")
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ModelUnusable(f"{path} is not text in UTF-8.") from None
    return _parse(tuple(token.rstrip() for token in tokens), path)


def _parse(tokens: tuple[str, ...], path: Path) -> Labels:
    rows = tuple(row for row, token in enumerate(tokens) if not token.startswith("unuse"))
    names = tuple(_name(tokens[row]) for row in rows)
    if not names:
        raise ModelUnusable(f"{path} names no label that is in use.")
    for row, name in zip(rows, names, strict=True):
        if not name:
            raise ModelUnusable(f"{path} has no label on line {row + 1}.")
        if names.count(name) > 1:
            raise ModelUnusable(f"{path} names the label {name} more than once.")
    return Labels(names=names, rows=rows, tokens=tokens)


def _name(token: str) -> str:
    """`生气/angry` is angry; `<unk>` is unknown."""
    return "unknown" if token == "<unk>" else token.rpartition("/")[2].strip()  # noqa: S105 (a label)
