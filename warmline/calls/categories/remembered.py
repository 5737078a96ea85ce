"""Which stored reports carry the matches of certain rules already: a note beside the reports in S3.

With it a second run needs a listing and not a single report. A report is known by a hash of its key and its ETag,
so one that was replaced is read again. The note is a help and no truth: without it everything is read.

    warmline-categories 1 DIGEST BYTES      a line; then for each report 8 bytes of hash, and BYTES of a bit for
                                            each category
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from warmline.calls.categories.rules import CategoryRules
from warmline.calls.stored_reports import ReportRef

NOTE_NAME = ".warmline-categories"  # below WARMLINE_S3_RESULTS_PREFIX; no report has such a name

_HASH_BYTES = 8


class Remembered:
    """Reports, and which categories apply to each."""

    def __init__(self, rules: CategoryRules, note: bytes | None = None) -> None:
        """`note` is one that was written before; that of other rules, or a damaged one, is as good as none."""
        self._names = tuple(category.name for category in rules.categories)
        self._places = {name: place for place, name in enumerate(self._names)}
        self._mask_bytes = (len(self._names) + 7) // 8
        self._head = f"warmline-categories 1 {rules.digest} {self._mask_bytes}\n".encode()
        self._known = self._parse(note or b"")
        self._seen: dict[bytes, bytes] = {}

    def find(self, ref: ReportRef) -> tuple[str, ...] | None:
        """The categories that apply to a report, if it is known as it is now."""
        mask = self._known.get(_hash(ref.place, ref.version))
        if mask is None:
            return None
        bits = int.from_bytes(mask, "big")
        return tuple(name for place, name in enumerate(self._names) if bits >> place & 1)

    def add(self, place: str, version: str, categories: Sequence[str]) -> None:
        """A report carries these matches."""
        bits = sum(1 << self._places[name] for name in categories)
        self._seen[_hash(place, version)] = bits.to_bytes(self._mask_bytes, "big")

    def note(self, *, complete: bool) -> bytes:
        """To be written. `complete` forgets what was not added this time: of reports that are gone or replaced."""
        known = self._seen if complete else self._known | self._seen
        return self._head + b"".join(key + mask for key, mask in known.items())

    def _parse(self, note: bytes) -> dict[bytes, bytes]:
        records, size = note.removeprefix(self._head), _HASH_BYTES + self._mask_bytes
        if len(records) == len(note) or len(records) % size:
            return {}
        return {
            records[at : at + _HASH_BYTES]: records[at + _HASH_BYTES : at + size]
            for at in range(0, len(records), size)
        }


def _hash(place: str, version: str) -> bytes:
    return hashlib.blake2b(f"{place}\x00{version}".encode(), digest_size=_HASH_BYTES).digest()
