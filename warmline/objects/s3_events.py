"""The dialects that grew out of Amazon's: its own records, MinIO's, RustFS's and Ceph's; EventBridge's, and R2's.

They differ in one thing above all, the key: here it comes encoded like a form's field (+ for a space), there as it
is. A key that was decoded once too often names another object.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from warmline.objects.event_records import (
    BadRecord,
    Skipped,
    Upload,
    etag_of,
    event_name,
    form_decoded,
    member,
    metadata_of,
    moment_of,
    object_source,
    sequencer_of,
    shown,
    size_of,
)

_DIALECTS = {"aws:s3": "aws", "minio:s3": "minio", "rustfs:s3": "rustfs", "ceph:s3": "ceph"}

# MinIO counts among what it creates the tags, the legal holds and the retention of what was there before.
_NO_CONTENT = ("PutTagging", "DeleteTagging", "PutRetention", "PutLegalHold")

# An object that comes back from an archive can be read now, and one that was synced to this zone is there now.
_OTHER_UPLOADS = ("ObjectRestore:Completed", "ObjectSynced:Create")

_DELETIONS = (
    "ObjectRemoved",
    "LifecycleExpiration",
    "LifecycleDelMarkerExpiration",
    "ObjectLifecycle:Expiration",
    "ObjectSynced:Delet",  # ...:Delete and ...:DeletionMarkerCreated
)

_R2_UPLOADS = ("PutObject", "CopyObject", "CompleteMultipartUpload")
_R2_DELETIONS = ("DeleteObject", "LifecycleDeletion")

_CEPH_CLOCK_SECONDS = 86_400.0


def read_s3_record(record: Mapping[str, Any]) -> Upload:
    """One of the `Records` of Amazon, MinIO, RustFS or Ceph. Raises BadRecord, Skipped."""
    source = record.get("eventSource")
    if not isinstance(source, str):
        raise BadRecord(f"its eventSource is {shown(source)}")
    dialect = _DIALECTS.get(source)
    if dialect is None:
        raise Skipped("unknown_source")
    version = record.get("eventVersion", "2.0")
    if not isinstance(version, str) or not version.startswith("2."):
        raise BadRecord(f"its eventVersion is {shown(version)}, and only 2.x is known")
    name = event_name(record.get("eventName")).removeprefix("s3:")
    _check_is_upload(name)
    s3 = member(record, "s3")
    item = member(s3, "object")
    key, happened_at = item.get("key"), moment_of(record.get("eventTime"))
    return Upload(
        source=object_source(
            bucket=member(s3, "bucket").get("name"),
            key=key if dialect == "ceph" else form_decoded(key),
            version=_version(item.get("versionId"), dialect),
        ),
        dialect=dialect,
        name=name,
        etag=etag_of(item.get("eTag", item.get("etag"))),
        size_bytes=size_of(item.get("size"), as_text=dialect == "ceph"),
        sequencer=_sequencer(item.get("sequencer"), dialect, happened_at),
        happened_at=happened_at,
        metadata=_metadata(item, dialect, name),
    )


def read_eventbridge(event: Mapping[str, Any]) -> Upload:
    """An event of Amazon EventBridge; its key is not encoded. Raises BadRecord, Skipped."""
    if event.get("source") != "aws.s3":
        raise Skipped("unknown_source")
    name = event_name(event.get("detail-type"))
    if name == "Object Deleted":
        raise Skipped("deleted")
    if name not in {"Object Created", "Object Restore Completed"}:
        raise Skipped("other_event")
    detail = member(event, "detail")
    item = member(detail, "object")
    reason, happened_at = detail.get("reason"), moment_of(event.get("time"))
    return Upload(
        source=object_source(
            bucket=member(detail, "bucket").get("name"), key=item.get("key"), version=item.get("version-id")
        ),
        dialect="eventbridge",
        name=name if reason is None else f"{name}:{event_name(reason)}",
        etag=etag_of(item.get("etag", item.get("eTag"))),
        size_bytes=size_of(item.get("size")),
        sequencer=_sequencer(item.get("sequencer"), "eventbridge", happened_at),
        happened_at=happened_at,
    )


def read_r2(message: Mapping[str, Any]) -> Upload:
    """A message that Cloudflare R2 puts in its queue; its key is not encoded. Raises BadRecord, Skipped."""
    name = event_name(message.get("action"))
    if name in _R2_DELETIONS:
        raise Skipped("deleted")
    if name not in _R2_UPLOADS:
        raise Skipped("other_event")
    item = member(message, "object")
    return Upload(
        source=object_source(bucket=message.get("bucket"), key=item.get("key")),
        dialect="r2",
        name=name,
        etag=etag_of(item.get("eTag")),
        size_bytes=size_of(item.get("size")),
        happened_at=moment_of(message.get("eventTime")),
    )


def _check_is_upload(name: str) -> None:
    """Raises Skipped where an event's name, without s3:, does not announce an object to read."""
    family, _, what = name.partition(":")
    if name in _OTHER_UPLOADS or (family == "ObjectCreated" and what not in _NO_CONTENT):
        return
    if name == "TestEvent":
        raise Skipped("test_event")
    raise Skipped("deleted" if name.startswith(_DELETIONS) else "other_event")


def _version(value: object, dialect: str) -> object:
    # MinIO said "1" for objects of buckets without versions until 2020; its versions are UUIDs.
    return None if dialect == "minio" and value == "1" else value


def _sequencer(value: object, dialect: str, happened_at: datetime | None) -> str | None:
    """The sequencer in a form that compares with that of the key's other events."""
    text = sequencer_of(value)
    if text is None:
        return None
    if dialect == "ceph":
        return _ceph_sequencer(text, happened_at)
    # Amazon's begins with a zero byte, which the examples of EventBridge's leave out.
    return text.removeprefix("00") or None if dialect in {"aws", "eventbridge"} else text


def _ceph_sequencer(text: str, happened_at: datetime | None) -> str | None:
    """The sequencer that Ceph should have sent: what it sends does not compare.

    It dumps the memory of its clock, 4 bytes of seconds and 4 of nanoseconds, little-endian on the usual machines.
    A clock that is not near the event's time was no such thing: then there is no sequencer.
    """
    if len(text) != 16 or happened_at is None:
        return None
    clock = bytes.fromhex(text)
    seconds, nanoseconds = int.from_bytes(clock[:4], "little"), int.from_bytes(clock[4:], "little")
    if abs(seconds - happened_at.timestamp()) > _CEPH_CLOCK_SECONDS:
        return None
    return f"{seconds:08X}{nanoseconds:08X}"


def _metadata(item: Mapping[str, Any], dialect: str, name: str) -> dict[str, str] | None:
    """What a record says of the object's own metadata; None where it does not, or not reliably."""
    if dialect in {"minio", "rustfs"}:
        said = item.get("userMetadata")
        return metadata_of(said.items()) if isinstance(said, Mapping) else None
    # Ceph names the metadata of a copy's source, and none where it could not read them.
    if dialect == "ceph" and name != "ObjectCreated:Copy":
        said = item.get("metadata")
        if isinstance(said, list) and all(isinstance(pair, Mapping) for pair in said):
            return metadata_of((pair.get("key"), pair.get("val")) for pair in said) or None
    return None
