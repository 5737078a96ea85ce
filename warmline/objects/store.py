"""The object store: where calls are read and reports are written. The only place that speaks S3.

Every method raises the error tree of `warmline.jobs.errors` and nothing of botocore's: StoreUnavailable for what
may pass, ObjectNotFound, ObjectForbidden, InvalidRequest and StoreMisconfigured for what will not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.exceptions as boto

from config.settings import S3Settings
from warmline.jobs.errors import (
    BucketNotAllowed,
    ObjectChanged,
    ObjectForbidden,
    ObjectNotFound,
    ObjectTooLarge,
    StoreMisconfigured,
    StoreUnavailable,
)
from warmline.jobs.faults import SENTENCES
from warmline.jobs.records import ReportLocation, Source
from warmline.objects.failures import http_status, s3_code, store_errors
from warmline.objects.timestamps import read_timestamps_quickly

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef

CHUNK_BYTES = 256 * 1024
CONNECT_SECONDS = 5.0  # a store that is there answers a SYN within this; the read may take its time
ATTEMPTS = 3
MARKER_KEY = ".warmline"  # one object, at most, is left by any number of checks


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


class ObjectStore:
    """A client of one S3 store. Threads may share it; it connects at first use, so a fork may lie between."""

    def __init__(self, settings: S3Settings, *, attempts: int = ATTEMPTS) -> None:
        """`attempts` are tries of each request; the waits between them are the client's own."""
        self._settings = settings
        self._attempts = attempts
        self._lock = threading.Lock()
        self._built: S3Client | None = None

    def __repr__(self) -> str:
        return f"ObjectStore(endpoint_url={self._settings.endpoint_url or 'AWS'!r})"

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        with self._lock:
            client, self._built = self._built, None
        if client is not None:
            client.close()

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

    def get_report(self, location: ReportLocation) -> bytes:
        """A report's JSON. Raises ObjectNotFound when it is gone, or was never put into S3."""
        if location.bucket is None or location.key is None:
            raise ObjectNotFound("This report was not written to S3.")
        uri = f"s3://{location.bucket}/{location.key}"
        with store_errors(uri):
            answer = self._client().get_object(Bucket=location.bucket, Key=location.key)
            with answer["Body"] as body:
                return b"".join(self._chunks(body, answer["ContentLength"], uri))

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
        return (entry["Key"] for entry in self._list(self._settings.results_bucket, prefix, 1000))

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

    def ensure_bucket(self, name: str) -> None:
        """Makes the bucket unless it is there."""
        region = self._settings.region
        constraint: dict[str, Any] = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        with store_errors(f"s3://{name}"):
            try:
                self._client().head_bucket(Bucket=name)
            except boto.ClientError as error:
                if http_status(error) != 404:
                    raise
                try:
                    self._client().create_bucket(Bucket=name, **constraint)
                except boto.ClientError as refusal:
                    # Another process made it in the meantime; a stranger's bucket is BucketAlreadyExists with AWS.
                    if s3_code(refusal) != "BucketAlreadyOwnedByYou":
                        raise

    def allow_origins(self, bucket: str, origins: Sequence[str]) -> None:
        """Web pages of these origins, and no others, may upload to the bucket with presigned requests."""
        with store_errors(f"s3://{bucket}"):
            if not origins:
                self._client().delete_bucket_cors(Bucket=bucket)
                return
            rule: CORSRuleTypeDef = {
                "AllowedOrigins": list(origins),
                "AllowedMethods": ["PUT", "POST"],
                "AllowedHeaders": ["*"],
                "ExposeHeaders": ["ETag"],
                "MaxAgeSeconds": 600,
            }
            self._client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})

    def mark(self, bucket: str) -> str:
        """Begins a multipart upload and gives it up: leaves nothing but its id, returned, in a store's own log."""
        with store_errors(f"s3://{bucket}"):
            begun = self._client().create_multipart_upload(Bucket=bucket, Key=MARKER_KEY)
            self._client().abort_multipart_upload(Bucket=bucket, Key=MARKER_KEY, UploadId=begun["UploadId"])
        return begun["UploadId"]

    def put_call(self, bucket: str, key: str, path: Path) -> Source:
        """Uploads a recording, in parts when it is large, and says where it is. Raises OSError for the file."""
        source = Source(bucket=bucket, key=key)
        with path.open("rb") as body, store_errors(source.uri):
            self._client().upload_fileobj(body, bucket, key)
        return source

    def ping(self) -> None:
        """Returns when the store answers and accepts the credentials; the results bucket need not be there yet."""
        bucket = self._settings.results_bucket
        try:
            with store_errors(f"s3://{bucket}"):
                self._client().head_bucket(Bucket=bucket)
        except ObjectNotFound:
            return

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

    def _client(self) -> S3Client:
        with self._lock:
            if self._built is None:
                self._built = _build_client(self._settings, self._attempts)
            return self._built


def _build_client(settings: S3Settings, attempts: int) -> S3Client:
    import boto3  # takes a third of a second, which only a process that reads objects should pay
    import botocore.session
    from botocore.config import Config

    access, secret = settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()
    if bool(access) != bool(secret):
        raise ObjectForbidden("Set both WARMLINE_S3_ACCESS_KEY and WARMLINE_S3_SECRET_KEY, or neither.")
    # Stores other than AWS: buckets have no host names there, and many know no checksum trailers.
    elsewhere: dict[str, Any] = (
        {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if settings.endpoint_url
        else {}
    )
    if on_this_machine(settings.endpoint_url):
        elsewhere["proxies"] = {}  # a company's proxy cannot reach this machine's own store
    config = Config(
        signature_version="s3v4",
        connect_timeout=min(CONNECT_SECONDS, settings.timeout_seconds),
        read_timeout=settings.timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra="warmline",
        **elsewhere,
    )
    try:
        with store_errors(settings.endpoint_url or "AWS S3"):
            # A session of our own: boto3's default session is shared, and not safe to build from threads.
            session = botocore.session.Session()
            read_timestamps_quickly(session)
            return boto3.session.Session(botocore_session=session).client(
                "s3",
                endpoint_url=settings.endpoint_url or None,
                region_name=settings.region,
                aws_access_key_id=access or None,
                aws_secret_access_key=secret or None,
                config=config,
            )
    except ValueError as error:
        raise StoreMisconfigured(
            f"WARMLINE_S3_ENDPOINT_URL is not a usable address: {settings.endpoint_url!r}."
        ) from error


def on_this_machine(endpoint_url: str) -> bool:
    """Whether an address is one of this machine's own."""
    try:
        return urlsplit(endpoint_url).hostname in {"localhost", "127.0.0.1", "::1"}
    except ValueError:
        return False  # no address at all, as the client will say


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
