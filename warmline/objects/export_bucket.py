"""Where exports go in S3: below a prefix of the results bucket, beside the reports and never among them.

A file is uploaded in parts and is not there until its upload is completed: so what an export wrote becomes visible
when it is committed, and what a dead one left never does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.exceptions as boto

from config.settings import S3Settings
from warmline.jobs.errors import InvalidRequest, ObjectChanged, ObjectNotFound
from warmline.objects.failures import s3_code, store_errors
from warmline.objects.s3_client import HasS3Client

PART_BYTES = 16 * 1024**2  # of at most 10,000: files up to 156 GiB
DELETED_AT_ONCE = 1000  # S3's limit


@dataclass(frozen=True, kw_only=True)
class PendingUpload:
    """A file of which all parts are in the store, and which is not there yet."""

    upload_id: str
    etags: tuple[str, ...]


def check_export_prefix(settings: S3Settings, bucket: str, prefix: str) -> str:
    """The prefix, with a slash at its end. Raises InvalidRequest where exports would be taken for something else.

    It is the results bucket, which the credentials may write to and no job reads from; and in it no prefix that
    holds reports, which lie at {results prefix}{bucket of the call}/.
    """
    uri = f"s3://{bucket}/{prefix}"
    if bucket != settings.results_bucket:
        raise InvalidRequest(
            f"{uri}: exports go into the bucket {settings.results_bucket} (WARMLINE_S3_RESULTS_BUCKET)"
        )
    prefix = f"{prefix.strip('/')}/"
    if prefix == "/" or any(part in {"", ".", ".."} for part in prefix[:-1].split("/")):
        raise InvalidRequest(f"{uri}: an export needs a prefix of its own, e.g. s3://{bucket}/exports/")
    for source in settings.source_buckets:
        reports = f"{settings.results_prefix}{source}/"
        if prefix.startswith(reports) or reports.startswith(prefix):
            raise InvalidRequest(f"{uri}: reports lie below s3://{bucket}/{reports}; choose a prefix beside it")
    if bucket in settings.source_buckets and not prefix.startswith(settings.results_prefix):
        raise InvalidRequest(
            f"{uri}: this bucket holds calls, for which the export's files would be taken; choose a prefix below "
            f"{settings.results_prefix} (WARMLINE_S3_RESULTS_PREFIX)"
        )
    return prefix


class ExportBucket(HasS3Client):
    """The files of one export. Names are below its prefix. Raises the error tree, as `ObjectStore` does."""

    def __init__(self, settings: S3Settings, prefix: str) -> None:
        super().__init__(settings)
        self._bucket = settings.results_bucket
        self._prefix = prefix

    def uri(self, name: str) -> str:
        """s3://bucket/key, for people."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def names(self, below: str) -> Iterator[str]:
        """The files that are there, in the store's order."""
        pages = self._client().get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{below}"
        )  # fmt: skip
        with store_errors(self.uri(below)):
            for page in pages:
                yield from (entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", ()))

    def upload(self, name: str, path: Path) -> PendingUpload:
        """Sends a file without completing it. Memory: one part. Raises OSError for the file."""
        key = f"{self._prefix}{name}"
        with store_errors(self.uri(name)), path.open("rb") as file:
            upload_id = self._client().create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
            etags: list[str] = []
            try:
                while (body := file.read(PART_BYTES)) or not etags:
                    answer = self._client().upload_part(
                        Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=len(etags) + 1, Body=body
                    )
                    etags.append(answer["ETag"])
            except BaseException:
                self._client().abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
                raise
        return PendingUpload(upload_id=upload_id, etags=tuple(etags))

    def complete(self, name: str, pending: PendingUpload) -> None:
        """Makes an uploaded file visible; again, it changes nothing. Raises ObjectNotFound when it is lost."""
        key = f"{self._prefix}{name}"
        parts = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(pending.etags, start=1)]
        with store_errors(self.uri(name)):
            try:
                self._client().complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=pending.upload_id,
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                )
            except boto.ClientError as error:
                if s3_code(error) != "NoSuchUpload":
                    raise
                # Completed before, or given up by somebody: names are used once, so the file's presence tells.
                self._client().head_object(Bucket=self._bucket, Key=key)

    def abort(self, name: str, pending: PendingUpload) -> None:
        """Gives an upload up; one that is not there any more is none."""
        with store_errors(self.uri(name)):
            try:
                self._client().abort_multipart_upload(
                    Bucket=self._bucket, Key=f"{self._prefix}{name}", UploadId=pending.upload_id
                )
            except boto.ClientError as error:
                if s3_code(error) != "NoSuchUpload":
                    raise

    def abort_older(self, age: timedelta) -> int:
        """Gives up uploads that began so long ago and were never completed; says how many."""
        before, given_up = datetime.now(UTC) - age, 0
        pages = self._client().get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )  # fmt: skip
        with store_errors(self.uri("")):
            for page in pages:
                for entry in page.get("Uploads", ()):
                    if entry["Initiated"] <= before:
                        name = entry["Key"].removeprefix(self._prefix)
                        self.abort(name, PendingUpload(upload_id=entry["UploadId"], etags=()))
                        given_up += 1
        return given_up

    def create(self, name: str, path: Path) -> bool:
        """Writes a small file, once: False when there is one of this name, which is left as it is."""
        try:
            with store_errors(self.uri(name)), path.open("rb") as body:
                self._client().put_object(
                    Bucket=self._bucket, Key=f"{self._prefix}{name}", Body=body, IfNoneMatch="*"
                )
        except ObjectChanged:  # 412: there is one
            return False
        return True

    def put(self, name: str, path: Path) -> None:
        """Writes a file in parts, over one that may be there."""
        self.complete(name, self.upload(name, path))

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            with store_errors(self.uri(name)):
                self._client().head_object(Bucket=self._bucket, Key=f"{self._prefix}{name}")
        except ObjectNotFound:
            return False
        return True

    def fetch(self, name: str, to: Path) -> None:
        """Writes a file's bytes to `to`, in pieces. Raises ObjectNotFound."""
        with store_errors(self.uri(name)), to.open("wb") as file:
            self._client().download_fileobj(self._bucket, f"{self._prefix}{name}", file)

    def remove(self, names: Sequence[str]) -> None:
        """Deletes files; what is not there is no error."""
        for first in range(0, len(names), DELETED_AT_ONCE):
            some = [{"Key": f"{self._prefix}{name}"} for name in names[first : first + DELETED_AT_ONCE]]
            with store_errors(self.uri("")):
                self._client().delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": some, "Quiet": True},  # type: ignore[typeddict-item]
                )
