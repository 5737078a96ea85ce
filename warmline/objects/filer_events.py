"""SeaweedFS's dialect: what its filer says of a file. An object is a file under /buckets.

The filer tells it in two forms: the webhook's, and the log's that `weed filer.meta.tail` prints. Both hold the
same entry; in the log 64-bit numbers are text, and a time to the nanosecond serves as a sequencer.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from warmline.jobs.records import Source
from warmline.objects.event_records import (
    BadRecord,
    Decoded,
    Findings,
    Skipped,
    Upload,
    etag_of,
    event_name,
    member,
    metadata_of,
    moment_of,
    number_of,
    object_source,
    shown,
    size_of,
)

_ETAG = "Seaweed-X-Amz-ETag"
_VERSION = "Seaweed-X-Amz-Version-Id"
_DELETE_MARKER = "Seaweed-X-Amz-Delete-Marker"
_NO_LONGER_LATEST = "Seaweed-X-Amz-Noncurrent-Since-Ns"

_BUCKETS = "/buckets/"
_UPLOADS = ".uploads"  # the parts of unfinished multipart uploads
_VERSIONED = re.compile(r"(?P<key>.+)\.versions/v_(?P<version>[^/]+)", re.DOTALL)


def decode_log_entry(entry: Mapping[str, Any]) -> Decoded:
    """The upload that one entry of the filer's log announces, and those of entries it bundles. Raises NotAnEvent
    where it bundles more than MAX_RECORDS."""
    findings = Findings()
    take_log_entry(entry, findings, "The entry")
    return findings.decoded()


def take_log_entry(entry: Mapping[str, Any], findings: Findings, where: str) -> None:
    """As decode_log_entry, into `findings`."""
    bundled = entry.get("events")
    more = bundled if isinstance(bundled, list) else []
    if entry.get("eventNotification") is not None or not more:
        findings.take(where, partial(_read_log_entry, entry))
    for number, item in enumerate(more, 1):
        findings.take(f"{where}, event {number}", partial(_read_log_entry, item))


def read_webhook(body: Mapping[str, Any]) -> Upload:
    """The body of the filer's webhook. Raises BadRecord, Skipped."""
    name = event_name(body.get("event_type"))
    message = member(body, "message")
    if message.get("new_entry") is None:
        raise Skipped("deleted")
    entry = member(message, "new_entry")
    parent = message.get("new_parent_path")
    path = f"{_text(parent, 'new_parent_path')}/{_text(entry.get('name'), 'name')}" if parent else body.get("key")
    attributes = _attributes(entry)
    return _upload(
        _text(path, "key"),
        entry,
        name=name,
        is_directory=entry.get("is_directory") is True,
        size=attributes.get("file_size"),  # left out where it is 0
        written_seconds=attributes.get("mtime"),
    )


def _read_log_entry(entry: object) -> Upload:
    if not isinstance(entry, Mapping):
        raise BadRecord(f"it is {shown(entry)}, not an object")
    notification = member(entry, "eventNotification")
    if notification.get("newEntry") is None:
        raise Skipped("deleted")
    new, old = member(notification, "newEntry"), notification.get("oldEntry")
    directory = _text(entry.get("directory"), "directory")
    path = f"{notification.get('newParentPath') or directory}/{_text(new.get('name'), 'name')}"
    was = f"{directory}/{old.get('name')}" if isinstance(old, Mapping) else None
    written_ns = number_of(entry.get("tsNs"), as_text=True)
    return _upload(
        path,
        new,
        name="create" if was is None else "update" if was == path else "rename",
        is_directory=new.get("isDirectory") is True,
        size=_attributes(new).get("fileSize"),
        written_seconds=written_ns / 1e9 if written_ns else None,
        sequencer=f"{written_ns:016X}" if written_ns else None,
    )


def _upload(
    path: str,
    entry: Mapping[str, Any],
    *,
    name: str,
    is_directory: bool,
    size: object,
    written_seconds: object,
    sequencer: str | None = None,
) -> Upload:
    extended = _extended(entry)
    source = _source(path, extended, is_directory=is_directory)
    if extended.get(_DELETE_MARKER) == "true":
        raise Skipped("deleted")
    if _NO_LONGER_LATEST in extended:
        raise Skipped("other_event")
    size_bytes = size_of(size, as_text=True) or 0
    return Upload(
        source=source,
        dialect="seaweedfs",
        name=name,
        etag=etag_of(extended.get(_ETAG)) or _md5(entry),
        size_bytes=None if size_bytes == 0 and entry.get("chunks") else size_bytes,
        sequencer=sequencer,
        happened_at=moment_of(written_seconds),
        metadata=metadata_of(extended.items()),
    )


def _source(path: str, extended: Mapping[str, str], *, is_directory: bool) -> Source:
    """The object at a path. Raises BadRecord; Skipped for what is none."""
    bucket, slash, key = path.removeprefix(_BUCKETS).partition("/")
    if not path.startswith(_BUCKETS) or bucket.startswith("."):
        raise Skipped("outside_buckets")
    if is_directory:
        raise Skipped("folder")
    if not slash:
        raise Skipped("outside_buckets")
    if key.startswith(f"{_UPLOADS}/"):
        raise Skipped("multipart_part")
    version = extended.get(_VERSION)
    stored = _VERSIONED.fullmatch(key)
    if stored is not None and stored["version"] == version:
        key = stored["key"]
    return object_source(bucket=bucket, key=key, version=version)


def _extended(entry: Mapping[str, Any]) -> dict[str, str]:
    """What S3 keeps beside a file; what is no text is left out."""
    found = {}
    for name, value in (member(entry, "extended") if entry.get("extended") else {}).items():
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, TypeError, ValueError):
            continue
    return found


def _md5(entry: Mapping[str, Any]) -> str | None:
    """The ETag of a file that S3 did not write: the MD5 of its content, in hex."""
    value = _attributes(entry).get("md5")
    try:
        digest = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None


def _attributes(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return member(entry, "attributes") if entry.get("attributes") else {}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"{name} is {shown(value)}, not text")
    return value
