"""Uploads by those who have no keys of the store: a browser, a telephone system."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog
from fastapi import APIRouter, Security
from pydantic import ValidationError

from api.auth import bearer_in_openapi
from api.bodies import SentBody
from api.dependencies import Provided, Services
from api.openapi import takes, with_body
from api.problems import RequestRefused
from api.upload_schemas import UploadPlace, UploadRequest
from config.settings import Settings
from warmline.jobs.errors import (
    BucketNotAllowed,
    InvalidRequest,
    ObjectForbidden,
    ObjectTooLarge,
    StoreMisconfigured,
)
from warmline.jobs.records import Source
from warmline.objects.presign import SignedUpload
from warmline.objects.upload_keys import check_upload_key, new_upload_key

log = structlog.get_logger()

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], dependencies=[Security(bearer_in_openapi)])


@router.post(
    "",
    status_code=201,
    summary="Sign an upload",
    responses=with_body(BucketNotAllowed, ObjectTooLarge, ObjectForbidden, StoreMisconfigured),
    openapi_extra=takes(UploadRequest),
)
def sign(body: SentBody, services: Provided) -> UploadPlace:
    """A request that uploads one recording to the store, for somebody who has no key of it.

    The store is not asked: nothing is there until it is uploaded, and then its event makes the job.
    """
    request = body.parse(UploadRequest)
    settings = services.settings
    source = _place(request, services)
    max_bytes = _max_bytes(request, settings)
    seconds = _seconds(request, settings)
    now = datetime.now(UTC)
    signed = _sign(request, source, services, max_bytes=max_bytes, seconds=seconds)
    match = services.rules.match(source)
    rule = match.rule.name if match else None
    # Without the URL: it is as good as a key.
    log.info("upload_signed", uri=source.uri, method=signed.method, expires_seconds=seconds, rule=rule)
    return UploadPlace(
        method=signed.method,
        url=signed.url,
        headers=dict(signed.headers),
        fields=dict(signed.fields),
        bucket=source.bucket,
        key=source.key,
        expires_at=now + timedelta(seconds=seconds),
        max_bytes=max_bytes,
        rule=rule,
    )


def _place(request: UploadRequest, services: Services) -> Source:
    """Where the upload goes. Raises BucketNotAllowed, InvalidRequest."""
    settings = services.settings
    bucket = request.bucket or next(iter(settings.s3.source_buckets), "")
    services.store.check_allowed(bucket)
    key = request.key or new_upload_key(settings.uploads.prefix, request.name or "", datetime.now(UTC))
    try:
        source = Source(bucket=bucket, key=key)
    except ValidationError as error:
        raise RequestRefused.by(error, "body") from None
    check_upload_key(source, settings)
    return source


def _max_bytes(request: UploadRequest, settings: Settings) -> int:
    limit = min(settings.uploads.max_bytes, settings.s3.max_object_bytes)
    if request.size_bytes is not None and request.size_bytes > limit:
        raise ObjectTooLarge(
            f"size_bytes is {request.size_bytes:,}; WARMLINE_UPLOADS_MAX_BYTES and WARMLINE_S3_MAX_OBJECT_BYTES "
            f"allow {limit:,}."
        )
    return request.size_bytes or limit


def _seconds(request: UploadRequest, settings: Settings) -> int:
    longest = settings.uploads.expires_seconds
    if request.expires_seconds is not None and request.expires_seconds > longest:
        raise InvalidRequest(
            f"expires_seconds is {request.expires_seconds:,}; WARMLINE_UPLOADS_EXPIRES_SECONDS allows {longest:,}."
        )
    return request.expires_seconds or longest


def _sign(
    request: UploadRequest, source: Source, services: Services, *, max_bytes: int, seconds: int
) -> SignedUpload:
    content_type, metadata = request.content_type, request.metadata
    if request.method == "put":
        return services.presigner.put(
            source,
            size_bytes=max_bytes,
            content_type=content_type,
            metadata=metadata,
            expires_seconds=seconds,
        )
    return services.presigner.post(
        source,
        max_bytes=max_bytes,
        content_type=content_type,
        metadata=metadata,
        expires_seconds=seconds,
    )
