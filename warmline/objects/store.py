"""The object store: where calls are read and reports are written. Buckets themselves are in `buckets`.

Every method raises the error tree of `warmline.jobs.errors` and nothing of botocore's: StoreUnavailable for what
may pass, ObjectNotFound, ObjectForbidden, InvalidRequest and StoreMisconfigured for what will not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warmline.jobs.errors import (
    BucketNotAllowed,
    ObjectChanged,
    ObjectNotFound,
    ObjectTooLarge,
    StoreUnavailable,
)
from warmline.jobs.faults import SENTENCES
from warmline.jobs.records import ReportLocation, Source
from warmline.objects.buckets import MARKER_KEY, Buckets
from warmline.objects.failures import store_errors

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class ObjectFacts:
    """An object as the store describes it."""

    etag: str  # without its quotes
    version_id: str | None  # None in a bucket without versions
    size_bytes: int
    last_modified: datetime


@dataclass(frozen=True, kw_only=True)
class DescribedObject(ObjectFacts):
    """An object with what its uploader said of it."""

    metadata: Mapping[str, str]  # names as after x-amz-meta-, in lower case


@dataclass(frozen=True, kw_only=True)
class ListedCall:
    """A call as a listing has it."""

    source: Source
    etag: str  # without its quotes
    size_bytes: int
    last_modified: datetime


class ObjectStore(Buckets):
    """Calls and reports in one S3 store."""

    def check_allowed(self, bucket: str) -> None:
        """Raises BucketNotAllowed unless jobs may read this bucket."""
        if bucket not in self._settings.source_buckets:
            raise BucketNotAllowed(
                f"The bucket {bucket!r} is not on the allow-list WARMLINE_S3_SOURCE_BUCKETS; add it there."
            )

    def head(self, source: Source) -> ObjectFacts:
        """What the store knows of a call, without its content. Raises BucketNotAllowed, ObjectTooLarge."""
        self.check_allowed(source.bucket)
        with store_errors(source.uri):
            answer = self._client().head_object(Bucket=source.bucket, Key=source.key, **_version(source))
        facts = _facts(answer, source)
        if facts.size_bytes > self._settings.max_object_bytes:
            raise self._too_large(source, facts.size_bytes)
        return facts

    def describe(self, source: Source) -> DescribedObject:
        """As `head`, with the object's own metadata, and whatever its size. Raises BucketNotAllowed."""
        self.check_allowed(source.bucket)
        with store_errors(source.uri):
            answer = self._client().head_object(Bucket=source.bucket, Key=source.key, **_version(source))
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        return DescribedObject(**asdict(_facts(answer, source)), metadata=metadata)

    def tags(self, source: Source) -> dict[str, str]:
        """The object's tags. Raises BucketNotAllowed."""
        self.check_allowed(source.bucket)
        with store_errors(source.uri):
            answer = self._client().get_object_tagging(Bucket=source.bucket, Key=source.key, **_version(source))
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def fetch(
        self,
        source: Source,
        to: Path,
        *,
        expected: ObjectFacts | None = None,
        on_chunk: Callable[[int], None] | None = None,
    ) -> ObjectFacts:
        """Writes a call's bytes to the file `to` and says what they are. Memory does not grow with the size.

        `expected` is what `head` gave earlier; without it the object is asked for now. `on_chunk` is called with
        the bytes so far after each piece that arrives, which may be often; what it raises ends the fetch.

        Raises ObjectChanged when the object is no longer that one, ObjectTooLarge, BucketNotAllowed, and
        StoreUnavailable when the body ends early or comes slower than WARMLINE_S3_MIN_BYTES_PER_SECOND. No file is
        left behind by a failure.
        """
        facts = expected or self.head(source)
        self.check_allowed(source.bucket)
        # If-Match and not the version that HEAD named: reading a version by name takes a permission of its own.
        with store_errors(source.uri):
            answer = self._client().get_object(
                Bucket=source.bucket, Key=source.key, IfMatch=f'"{facts.etag}"', **_version(source)
            )
            if answer["ETag"].strip('"') != facts.etag:
                # A store that takes If-Match and does not heed it.
                raise ObjectChanged(f"{source.uri}: the object was replaced while the job ran; submit it again.")
            try:
                with answer["Body"] as body:
                    self._write(self._chunks(body, answer["ContentLength"], source.uri), to, source, on_chunk)
            except BaseException:
                to.unlink(missing_ok=True)
                raise
        return _facts(answer, source)

    def put_report(self, key: str, body: bytes) -> bool:
        """Writes a report, once: False when a report with this key is already there, which is left as it is."""
        bucket = self._settings.results_bucket
        try:
            with store_errors(f"s3://{bucket}/{key}"):
                self._client().put_object(
                    Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*"
                )
        except ObjectChanged:  # 412: there is one
            return False
        return True

    def replace_report(self, key: str, body: bytes, etag: str) -> str:
        """Writes a report in place of the one with this ETag, and returns the new one's.

        Raises ObjectChanged when another one is there by now, or none.
        """
        bucket = self._settings.results_bucket
        with store_errors(f"s3://{bucket}/{key}"):
            answer = self._client().put_object(
                Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfMatch=f'"{etag}"'
            )
        return answer["ETag"].strip('"')

    def put_note(self, name: str, body: bytes) -> None:
        """Writes what Warmline wants to remember beside its reports, in place of what is there."""
        bucket, key = self._settings.results_bucket, f"{self._settings.results_prefix}{name}"
        with store_errors(f"s3://{bucket}/{key}"):
            self._client().put_object(Bucket=bucket, Key=key, Body=body)

    def get_note(self, name: str) -> bytes | None:
        """What was written so; None where nothing was."""
        location = ReportLocation(
            bucket=self._settings.results_bucket, key=f"{self._settings.results_prefix}{name}"
        )
        try:
            return self.get_report(location)
        except ObjectNotFound:
            return None

    def put_embeddings(self, key: str, path: Path) -> None:
        """Uploads a file beside the reports, in parts when it is large; one that is there is replaced.

        Memory: one part of 8 MiB. Raises OSError for the file.
        """
        from boto3.s3.transfer import TransferConfig

        bucket = self._settings.results_bucket
        one_by_one = TransferConfig(use_threads=False)
        with path.open("rb") as body, store_errors(f"s3://{bucket}/{key}"):
            self._client().upload_fileobj(
                body, bucket, key, ExtraArgs={"ContentType": "application/octet-stream"}, Config=one_by_one
            )

    def get_report(self, location: ReportLocation) -> bytes:
        """A report's JSON. Raises ObjectNotFound when it is gone, or was never put into S3."""
        if location.bucket is None or location.key is None:
            raise ObjectNotFound("This report was not written to S3.")
        uri = f"s3://{location.bucket}/{location.key}"
        with store_errors(uri):
            answer = self._client().get_object(Bucket=location.bucket, Key=location.key)
            with answer["Body"] as body:
                return b"".join(self._chunks(body, answer["ContentLength"], uri))

    def report_version(self, location: ReportLocation) -> str:
        """A report's ETag, without its quotes. Raises ObjectNotFound when it is gone, or was never put into S3."""
        if location.bucket is None or location.key is None:
            raise ObjectNotFound("This report was not written to S3.")
        with store_errors(f"s3://{location.bucket}/{location.key}"):
            answer = self._client().head_object(Bucket=location.bucket, Key=location.key)
        return str(answer.get("ETag", "")).strip('"')

    def list_keys(self, bucket: str, prefix: str = "", *, page_size: int = 1000) -> Iterator[Source]:
        """The calls below a prefix, in the store's order, page by page.

        Folder markers are skipped, and so are our own reports where they share the bucket.
        Raises BucketNotAllowed.
        """
        return (call.source for call in self.list_calls(bucket, prefix, page_size=page_size))

    def list_calls(self, bucket: str, prefix: str = "", *, page_size: int = 1000) -> Iterator[ListedCall]:
        """As `list_keys`, with what a listing says of each call's content."""
        self.check_allowed(bucket)
        reports = self._settings.results_prefix if bucket == self._settings.results_bucket else None
        for entry in self._list(bucket, prefix, page_size):
            key = entry["Key"]
            is_folder = key.endswith("/") and entry["Size"] == 0
            if not is_folder and not (reports is not None and key.startswith(reports)):
                yield ListedCall(
                    source=Source(bucket=bucket, key=key),
                    etag=entry.get("ETag", "").strip('"'),
                    size_bytes=entry["Size"],
                    last_modified=entry["LastModified"],
                )

    def list_report_keys(self, prefix: str) -> Iterator[str]:
        """The keys in the results bucket that begin so, in the store's order, page by page."""
        return (key for key, _ in self.list_reports(prefix))

    def list_reports(self, prefix: str) -> Iterator[tuple[str, str]]:
        """As `list_report_keys`, each key with its ETag (without quotes)."""
        for entry in self._list(self._settings.results_bucket, prefix, 1000):
            yield entry["Key"], entry.get("ETag", "").strip('"')

    def _list(self, bucket: str, prefix: str, page_size: int) -> Iterator[Any]:
        pages = (
            self._client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": page_size})
        )
        with store_errors(f"s3://{bucket}/{prefix}"):
            for page in pages:
                yield from page.get("Contents", ())

    def check_writable(self, *, anew: bool = False) -> str:
        """Writes a small marker among the reports and returns its key: proof that reports can be put.

        One that is there is taken for proof enough unless it is to be written anew.
        """
        key = f"{self._settings.results_prefix}{MARKER_KEY}"
        if anew:
            bucket = self._settings.results_bucket
            with store_errors(f"s3://{bucket}/{key}"):
                self._client().put_object(Bucket=bucket, Key=key, Body=b"{}", ContentType="application/json")
        else:
            self.put_report(key, b"{}")
        return key

    def put_call(self, bucket: str, key: str, path: Path) -> Source:
        """Uploads a recording, in parts when it is large, and says where it is. Raises OSError for the file."""
        source = Source(bucket=bucket, key=key)
        with path.open("rb") as body, store_errors(source.uri):
            self._client().upload_fileobj(body, bucket, key)
        return source

    def _write(
        self, chunks: Iterator[bytes], to: Path, source: Source, on_chunk: Callable[[int], None] | None
    ) -> None:
        size_bytes = 0
        with to.open("wb") as file:
            for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > self._settings.max_object_bytes:
                    raise self._too_large(source, size_bytes)
                file.write(chunk)
                if on_chunk is not None:
                    on_chunk(size_bytes)

    def _chunks(self, body: Any, length_bytes: int, what: str) -> Iterator[bytes]:
        """A body, piece by piece as they arrive. Raises StoreUnavailable when it ends early or only trickles.

        A read's own time limit starts anew with every byte, so a line that brings one now and then would hold a
        worker for ever. What the taker of the pieces does with them is not counted as waiting.
        """
        least_bytes, size_bytes = self._settings.min_bytes_per_second, 0
        waited_seconds, waited_bytes = 0.0, 0
        while True:
            asked = time.monotonic()
            chunk = body.read1(CHUNK_BYTES)  # what is there, where read() would wait until all of it is
            if not chunk:
                break
            size_bytes += len(chunk)
            waited_bytes += len(chunk)
            waited_seconds += time.monotonic() - asked
            if waited_seconds >= self._settings.timeout_seconds:
                if waited_bytes < least_bytes * waited_seconds and size_bytes < length_bytes:
                    raise StoreUnavailable(
                        f"{what}: the store sent {waited_bytes:,} bytes in {waited_seconds:.0f} s, less than "
                        "WARMLINE_S3_MIN_BYTES_PER_SECOND asks for; check the network."
                    )
                waited_seconds, waited_bytes = 0.0, 0
            yield chunk
        if size_bytes != length_bytes:
            raise StoreUnavailable(f"{what}: the body ended after {size_bytes:,} of {length_bytes:,} bytes.")

    def _too_large(self, source: Source, size_bytes: int) -> ObjectTooLarge:
        return ObjectTooLarge(
            f"{source.uri} has {size_bytes:,} bytes or more; WARMLINE_S3_MAX_OBJECT_BYTES allows "
            f"{self._settings.max_object_bytes:,}."
        )


def _version(source: Source) -> dict[str, Any]:
    return {} if source.version_id is None else {"VersionId": source.version_id}


def _facts(answer: Any, source: Source) -> ObjectFacts:
    if "ETag" not in answer:
        raise StoreUnavailable("The object store's answer has no ETag; is a proxy in between?")
    if source.version_id not in {None, "null", answer.get("VersionId")}:
        # A bucket without versions gives what it has, whatever version was asked for.
        raise ObjectNotFound(f"{source.uri}: {SENTENCES['NoSuchVersion']}.")
    return ObjectFacts(
        etag=answer["ETag"].strip('"'),
        version_id=answer.get("VersionId"),
        size_bytes=answer["ContentLength"],
        last_modified=answer.get("LastModified", datetime.now(UTC)),
    )
