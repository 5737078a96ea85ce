"""Uploads by those who have no keys: requests signed beforehand, each good for one object, one form and a while.

A signature is made of text alone: nobody is asked, so that a bad key is only found out by the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from config.settings import S3Settings, SettingsError
from warmline.jobs.records import Source
from warmline.objects.failures import store_errors
from warmline.objects.s3_client import HasS3Client, build_client

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

METADATA_HEADER = "x-amz-meta-"


@dataclass(frozen=True, kw_only=True)
class SignedUpload:
    """A request that uploads one object, until it expires. Whoever has it may send it: keep it from the log."""

    method: Literal["PUT", "POST"]
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)  # of a PUT: it is refused without these
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)  # of a POST: the form, before its file


class Presigner(HasS3Client):
    """The store as those who upload reach it, signing for them with our keys. Threads may share it."""

    def __init__(self, settings: S3Settings) -> None:
        """Raises SettingsError for a public address that is none."""
        _check_address(settings.public_url)
        super().__init__(
            settings.model_copy(update={"endpoint_url": settings.public_url or settings.endpoint_url})
        )

    def put(
        self,
        source: Source,
        *,
        size_bytes: int,
        content_type: str | None,
        metadata: Mapping[str, str],
        expires_seconds: int,
    ) -> SignedUpload:
        """A PUT of exactly so many bytes, and only where there is no such object yet.

        Raises ObjectForbidden without credentials, StoreMisconfigured.
        """
        given: dict[str, Any] = {"Metadata": dict(metadata)} if metadata else {}
        given |= {"ContentType": content_type} if content_type else {}
        with store_errors(source.uri):
            url = self._client().generate_presigned_url(
                "put_object",
                Params={
                    "Bucket": source.bucket,
                    "Key": source.key,
                    "ContentLength": size_bytes,
                    "IfNoneMatch": "*",
                    **given,
                },
                ExpiresIn=expires_seconds,
            )
        headers = {"Content-Length": str(size_bytes), "If-None-Match": "*"}
        headers |= {"Content-Type": content_type} if content_type else {}
        headers |= {f"{METADATA_HEADER}{name}": value for name, value in metadata.items()}
        return SignedUpload(method="PUT", url=url, headers=headers)

    def post(
        self,
        source: Source,
        *,
        max_bytes: int,
        content_type: str | None,
        metadata: Mapping[str, str],
        expires_seconds: int,
    ) -> SignedUpload:
        """A form of up to so many bytes, as web pages send it. It replaces an object that is there.

        Raises ObjectForbidden without credentials, StoreMisconfigured.
        """
        fields = {f"{METADATA_HEADER}{name}": value for name, value in metadata.items()}
        fields |= {"Content-Type": content_type} if content_type else {}
        same = [{name: value} for name, value in fields.items()]
        with store_errors(source.uri):
            # Says so where there are no credentials, which the next call takes for granted.
            self._client().generate_presigned_url("head_bucket", Params={"Bucket": source.bucket})
            signed = self._client().generate_presigned_post(
                source.bucket,
                source.key,
                Fields=fields,
                Conditions=[["content-length-range", 1, max_bytes], *same],
                ExpiresIn=expires_seconds,
            )
        return SignedUpload(method="POST", url=signed["url"], fields=signed["fields"])

    def _build(self) -> S3Client:
        client = super()._build()
        if self._settings.endpoint_url:
            return client
        # Of AWS, boto3 signs for the address of no region, which sends uploaders on to the region's own: there the
        # signature, made for another host, is refused.
        client.close()
        return build_client(self._settings.model_copy(update={"endpoint_url": client.meta.endpoint_url}))


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        whole = not (parts.username or parts.query or parts.fragment)
    except ValueError:  # of a port, or of an IPv6 address
        usable = whole = False
    if url and not (usable and whole):
        raise SettingsError("WARMLINE_S3_PUBLIC_URL is no address of a store; it looks like https://host[:port]")
