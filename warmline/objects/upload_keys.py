"""Where presigned uploads go: new keys that end with the file's name, and what a chosen key must obey."""

from __future__ import annotations

import re
import unicodedata
import uuid
from datetime import datetime

from config.settings import Settings
from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import Source

MAX_NAME_BYTES = 160  # of a file's name in a key

_SAFE_SIGNS = frozenset(" .,_-()+@=")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def new_upload_key(prefix: str, name: str, at: datetime) -> str:
    """`{prefix}{YYYY/MM/DD}/{32 hex digits}/{name}`, which nobody else gets.

    The file's name is last, so that rules see its suffix. Of a path only the last name is taken, and what is not
    safe in every store and shell becomes `_`.
    """
    base = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    # Letters, marks and digits of any script.
    safe = (sign if sign in _SAFE_SIGNS or unicodedata.category(sign)[0] in "LMN" else "_" for sign in base)
    return f"{prefix}{at:%Y/%m/%d}/{uuid.uuid4().hex}/{_cut(''.join(safe).strip(' .') or 'call')}"


def check_upload_key(source: Source, settings: Settings) -> None:
    """Raises InvalidRequest unless a key is one that presigned uploads may have."""
    prefix, key = settings.uploads.prefix, source.key
    s3 = settings.s3
    if not key.startswith(prefix) or key == prefix:
        raise InvalidRequest(f"The key has to begin with {prefix!r} (WARMLINE_UPLOADS_PREFIX) and go on.")
    if {"", ".", ".."} & set(key.removeprefix(prefix).split("/")):
        raise InvalidRequest("The key has `.`, `..` or nothing between two slashes, which tools resolve.")
    if _CONTROLS.search(key) or "${filename}" in key:
        raise InvalidRequest("The key holds control characters or ${filename}, which a store would replace.")
    if source.bucket == s3.results_bucket and key.startswith(s3.results_prefix):
        raise InvalidRequest(
            f"The key is where reports are written: s3://{s3.results_bucket}/{s3.results_prefix}."
        )


def _cut(name: str) -> str:
    """The name with at most MAX_NAME_BYTES in UTF-8 and its suffix, if that is short."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 16:
        stem, dot, suffix = name, "", ""
    room = MAX_NAME_BYTES - len(f"{dot}{suffix}".encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix
