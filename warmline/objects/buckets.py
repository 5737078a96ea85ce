"""The buckets themselves: whether they are there, made where they are not, open to which web pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import botocore.exceptions as boto

from warmline.jobs.errors import ObjectNotFound
from warmline.objects.failures import http_status, s3_code, store_errors
from warmline.objects.s3_client import HasS3Client

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef

MARKER_KEY = ".warmline"  # one object, at most, is left by any number of checks


class Buckets(HasS3Client):
    """The part of the store that knows buckets."""

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

    def ping(self) -> None:
        """Returns when the store answers and accepts the credentials; the results bucket need not be there yet."""
        bucket = self._settings.results_bucket
        try:
            with store_errors(f"s3://{bucket}"):
                self._client().head_bucket(Bucket=bucket)
        except ObjectNotFound:
            return
