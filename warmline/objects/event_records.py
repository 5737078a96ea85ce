"""What an event says of an object, read with care: all of it was written by somebody else.

A reader of one dialect takes one record and returns an Upload, or raises Skipped for what is none, or BadRecord. A
bad record never costs its neighbours their jobs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from pydantic import ValidationError

from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import Source

MAX_RECORDS = 10_000  # in one body; a message of SQS or SNS has room for some 300, a webhook sends one

_SHOWN = 60  # characters of foreign text that a sentence repeats
_METADATA = "x-amz-meta-"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SEQUENCER = re.compile(r"[0-9A-Fa-f]{1,64}")
_NAME = re.compile(r"[\w :.*-]{1,100}", re.ASCII)


class NotAnEvent(InvalidRequest):
    """This is no event of an object store that Warmline knows."""

    code = "not_an_event"
    title = "Not an event"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An object that is there now, as an event says."""

    source: Source  # its key is decoded; a version only where the bucket has versions
    dialect: str  # aws, eventbridge, minio, rustfs, ceph, seaweedfs, r2: for the log
    name: str  # what the store calls it, e.g. ObjectCreated:Put
    etag: str | None = None  # without its quotes
    size_bytes: int | None = None
    sequencer: str | None = None  # hex digits; a later event for the same key has a higher one
    happened_at: datetime | None = None
    metadata: Mapping[str, str] | None = None  # the object's own, names as after x-amz-meta-; None: not said


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What one body held."""

    uploads: tuple[Upload, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)  # why -> how many: test_event, deleted, ...
    malformed: tuple[str, ...] = ()  # a sentence for each record that is none


class BadRecord(ValueError):
    """A record that is none. The message says what is wrong with it, in the words after "Record 3: "."""


class Skipped(Exception):
    """A record that announces no upload. Its one argument is the word it is counted under."""


class Findings:
    """What was found in one body so far."""

    def __init__(self) -> None:
        self._uploads: list[Upload] = []
        self._skipped: Counter[str] = Counter()
        self._malformed: list[str] = []

    def take(self, where: str, read: Callable[[], Upload]) -> None:
        """Reads one record; `where` is its place in the body. Raises NotAnEvent after MAX_RECORDS."""
        if len(self._uploads) + self._skipped.total() + len(self._malformed) >= MAX_RECORDS:
            raise NotAnEvent(f"There are more than {MAX_RECORDS:,} records in one body.")
        try:
            self._uploads.append(read())
        except Skipped as skipped:
            self._skipped[str(skipped)] += 1
        except BadRecord as bad:
            self._malformed.append(f"{where}: {bad}.")

    def decoded(self) -> Decoded:
        """All of it."""
        return Decoded(uploads=tuple(self._uploads), skipped=dict(self._skipped), malformed=tuple(self._malformed))


def shown(value: object) -> str:
    """A piece of foreign text for a sentence, or what kind of value stands in its place."""
    if isinstance(value, str):
        text = repr(value[:_SHOWN])
        return text if len(value) <= _SHOWN and len(text) <= _SHOWN + 20 else f"{text[:_SHOWN]}..."
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def member(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under a name. Raises BadRecord."""
    value = record.get(name)
    if not isinstance(value, Mapping):
        raise BadRecord(f"{name} is {shown(value)}, not an object")
    return value


def event_name(value: object) -> str:
    """What a store calls its event. Raises BadRecord."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BadRecord(f"its event's name is {shown(value)}")
    return value


def form_decoded(key: object) -> str:
    """A key as it was before it was encoded like a form's field: + is a space. Raises BadRecord."""
    if not isinstance(key, str):
        raise BadRecord(f"its key is {shown(key)}, not text")
    if _BAD_ESCAPE.search(key):
        raise BadRecord(f"its key {shown(key)} has a % that no two hex digits follow")
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise BadRecord(f"its key {shown(key)} is not UTF-8 once decoded") from None


def object_source(*, bucket: object, key: object, version: object = None) -> Source:
    """The object that a record names; its key is decoded. Raises BadRecord, and Skipped for a folder's marker."""
    if not isinstance(key, str):
        raise BadRecord(f"its key is {shown(key)}, not text")
    if ".." in key.split("/"):
        raise BadRecord(f"its key {shown(key)} leads out of the bucket")
    if not isinstance(bucket, str):
        raise BadRecord(f"its bucket is {shown(bucket)}, not text")
    try:
        source = Source(bucket=bucket, key=key, version_id=_version_id(version))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)[0]
        raise BadRecord(f"its {wrong['loc'][0]} {shown(wrong['input'])} is not allowed ({wrong['msg']})") from None
    if key.endswith("/"):
        raise Skipped("folder")
    return source


def etag_of(value: object) -> str | None:
    """An ETag without its quotes; None where none is said. Raises BadRecord."""
    if value is None:
        return None
    if not (isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= 256):
        raise BadRecord(f"its ETag is {shown(value)}")
    return value.strip().removeprefix("W/").strip('"') or None


def number_of(value: object, *, as_text: bool = False) -> int | None:
    """A number of 63 bits, not negative; None for anything else. `as_text`: digits in a text are one, too."""
    if as_text and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def size_of(value: object, *, as_text: bool = False) -> int | None:
    """A size in bytes; None where none is said. Raises BadRecord."""
    size = number_of(value, as_text=as_text)
    if size is None and value is not None:
        raise BadRecord(f"its size is {shown(value)}, not a number of bytes")
    return size


def sequencer_of(value: object) -> str | None:
    """A sequencer; None for what is not hex digits: then the store is asked which content is the latest."""
    return value if isinstance(value, str) and _SEQUENCER.fullmatch(value) else None


def moment_of(value: object) -> datetime | None:
    """A time in ISO 8601, or in seconds since 1970; UTC where it names no zone. None for what is no time."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def metadata_of(pairs: Iterable[tuple[object, object]]) -> dict[str, str] | None:
    """The object's own metadata among these names and values; None if one cannot be read: ask the store."""
    found = {}
    for name, value in pairs:
        if not (isinstance(name, str) and isinstance(value, str) and _is_unicode(name + value)):
            return None
        if (lowered := name.lower()).startswith(_METADATA):
            found[lowered.removeprefix(_METADATA)] = value
    return found


def _version_id(value: object) -> str | None:
    """A version; None for what means that there are none. Raises BadRecord."""
    if value in (None, "", "null"):
        return None
    if not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise BadRecord(f"its version is {shown(value)}")
    return value


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
