"""Secrets that lie in files, as Docker and Kubernetes hand them out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FILE_SUFFIX: Final = "_FILE"  # of a variable that names the file in which a secret lies
MOST_SECRET_BYTES: Final = 64 * 1024


class SettingsError(Exception):
    """A variable is unknown or its value is not usable; the message names the variable."""


def read_secret_file(name: str, path: Path) -> str:
    """The secret in the file that the variable of this name gives. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_SECRET_BYTES + 1).decode().rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{name} names {path}, which cannot be read: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"{name} names {path}, which is not text in UTF-8") from None
    if not text:
        raise SettingsError(f"{name} names {path}, which is empty")
    if len(text) > MOST_SECRET_BYTES:
        raise SettingsError(f"{name} names {path}, which is longer than {MOST_SECRET_BYTES} bytes")
    if not text.isprintable():
        raise SettingsError(f"{name} names {path}, which has more than one line, or characters that none can type")
    return text
