"""What object stores say of an upload, in every dialect we know, as one record. Pure: reads only the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from warmline.jobs.errors import InvalidRequest
from warmline.jobs.records import Source


class NotAnEvent(InvalidRequest):
    """This is no event of an object store that Warmline knows."""

    code = "not_an_event"
    title = "Not an event"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An object that is there now, as an event says."""

    source: Source  # its key is decoded; a version only where the bucket has versions
    dialect: str  # aws, eventbridge, minio, ceph, seaweedfs, r2, ...: for the log
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


def decode(body: bytes | str) -> Decoded:
    """The uploads that a body announces. Raises NotAnEvent where the body as a whole is no known dialect."""
    raise NotImplementedError
