"""What each object store sends when an object was uploaded: the bodies, as the stores write them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object that is in the store."""

    key: str
    content: bytes
    bucket: str = "calls"

    @property
    def etag(self) -> str:
        """The MD5 of its content, in hex: what S3 says of an object that came in one piece."""
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()


def record(
    stored: Stored, *, source: str = "aws:s3", name: str = "ObjectCreated:Put", **changed: Any
) -> dict[str, Any]:
    """One of the `Records`, in the form of `source`; `changed` are fields of its object."""
    key = stored.key if source == "ceph:s3" else quote_plus(stored.key)
    item = {"key": key, "size": len(stored.content), "eTag": stored.etag, "sequencer": "0055AED6DCD90281E5"}
    if source != "aws:s3":  # MinIO's has no zero byte in front, and Ceph's does not compare
        item["sequencer"] = "55AED6DCD90281E5" if source == "minio:s3" else ""
    return {
        "eventVersion": "2.1",
        "eventSource": source,
        "awsRegion": "us-east-1",
        "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": name,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": stored.bucket}, "object": item | changed},
    }


def records(*found: dict[str, Any]) -> bytes:
    """Records as a body."""
    return json.dumps({"Records": found}).encode()


def of_aws(stored: Stored) -> bytes:
    """Amazon S3's own, as SQS and SNS carry it."""
    return records(record(stored))


def of_minio(stored: Stored) -> bytes:
    """MinIO's webhook."""
    found = record(stored, source="minio:s3", name="s3:ObjectCreated:Put")
    envelope = {"EventName": found["eventName"], "Key": f"{stored.bucket}/{stored.key}", "Records": [found]}
    return json.dumps(envelope).encode()


def of_ceph(stored: Stored) -> bytes:
    """Ceph's push endpoint: keys as they are."""
    return records(record(stored, source="ceph:s3"))


def of_eventbridge(stored: Stored) -> bytes:
    """Amazon EventBridge, e.g. by an API destination."""
    detail = {
        "version": "0",
        "bucket": {"name": stored.bucket},
        "object": {
            "key": stored.key,
            "size": len(stored.content),
            "etag": stored.etag,
            "sequencer": "0055AED6DCD90281E5",
        },
        "reason": "PutObject",
    }
    event = {"version": "0", "detail-type": "Object Created", "source": "aws.s3", "detail": detail}
    return json.dumps(event | {"time": datetime.now(UTC).isoformat()}).encode()


def of_seaweedfs(stored: Stored) -> bytes:
    """The webhook of SeaweedFS's filer."""
    folder, _, name = f"/buckets/{stored.bucket}/{stored.key}".rpartition("/")
    entry = {
        "name": name,
        "attributes": {"file_size": len(stored.content), "mtime": int(datetime.now(UTC).timestamp())},
        "extended": {"Seaweed-X-Amz-ETag": base64.b64encode(stored.etag.encode()).decode()},
    }
    message = {"new_entry": entry, "new_parent_path": folder}
    return json.dumps({"event_type": "create", "key": f"{folder}/{name}", "message": message}).encode()


def of_r2(stored: Stored) -> bytes:
    """A message of Cloudflare R2's queue, posted by a Worker."""
    item = {"key": stored.key, "size": len(stored.content), "eTag": stored.etag}
    event = {"account": "3f4b7e3dcab231cbfdaa90a6a28bd548", "action": "PutObject", "bucket": stored.bucket}
    return json.dumps(event | {"object": item, "eventTime": datetime.now(UTC).isoformat()}).encode()


DIALECTS: dict[str, Callable[[Stored], bytes]] = {
    "aws": of_aws,
    "minio": of_minio,
    "ceph": of_ceph,
    "eventbridge": of_eventbridge,
    "seaweedfs": of_seaweedfs,
    "r2": of_r2,
}
