"""What the object store's client can raise, and what each means for a job: one table.

botocore reports a fault in one of two forms. A `ClientError` carries the store's answer: an S3 error code, or only
the HTTP status where the answer has no body (HEAD). A `BotoCoreError` says that there was no usable answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import botocore.exceptions as boto
from urllib3.exceptions import HTTPError as ConnectionFault

from warmline.jobs.errors import (
    InvalidRequest,
    ObjectChanged,
    ObjectForbidden,
    ObjectNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    WarmlineError,
)

Failure = type[WarmlineError]

# The store's answer -> our error. Names are S3's error codes, numbers are HTTP statuses without a body.
BY_CODE: dict[str, Failure] = {
    **dict.fromkeys(
        # A delete marker answers 405, and InvalidVersionId is how some stores say NoSuchVersion.
        (
            "NoSuchKey",
            "NoSuchBucket",
            "NoSuchVersion",
            "InvalidVersionId",
            "MethodNotAllowed",
            "404",
            "405",
            "410",
        ),
        ObjectNotFound,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccountProblem",
            "AllAccessDisabled",
            "InvalidAccessKeyId",
            "InvalidObjectState",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "401",
            "403",
        ),
        ObjectForbidden,
    ),
    **dict.fromkeys(("PreconditionFailed", "InvalidRange", "412", "416"), ObjectChanged),
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "ConditionalRequestConflict",
            "ExpiredToken",  # temporary credentials are renewed while we wait
            "InternalError",
            "OperationAborted",
            "RequestLimitExceeded",
            "RequestTimeout",
            "ServiceUnavailable",
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "408",
            "409",
            "425",
            "429",
        ),
        StoreUnavailable,
    ),
    **dict.fromkeys(
        (
            "AuthorizationHeaderMalformed",  # another region's bucket
            "IllegalLocationConstraintException",
            "InvalidBucketName",
            "NotImplemented",
            "PermanentRedirect",
            "TemporaryRedirect",
            "301",
            "307",
            "501",
        ),
        StoreMisconfigured,
    ),
}

# No usable answer -> our error; the first row that fits wins, so a narrow class stands above a wide one.
BY_CLASS: tuple[tuple[type[Exception], Failure], ...] = (
    (boto.HTTPClientError, StoreUnavailable),  # connection closed, reset, read timed out, body broken off
    (boto.ConnectionError, StoreUnavailable),  # refused, unknown host, timed out, TLS, proxy
    (boto.IncompleteReadError, StoreUnavailable),
    (boto.ChecksumError, StoreUnavailable),
    (boto.FlexibleChecksumError, StoreUnavailable),
    (boto.CapacityNotAvailableError, StoreUnavailable),
    (boto.MetadataRetrievalError, StoreUnavailable),
    (boto.CredentialRetrievalError, StoreUnavailable),
    (boto.TokenRetrievalError, StoreUnavailable),
    (boto.NoCredentialsError, ObjectForbidden),
    (boto.PartialCredentialsError, ObjectForbidden),
    (boto.UnknownCredentialError, ObjectForbidden),
    (boto.NoAuthTokenError, ObjectForbidden),
    (boto.RefreshWithMFAUnsupportedError, ObjectForbidden),
    (boto.SSOError, ObjectForbidden),
    (boto.LoginError, ObjectForbidden),
    (boto.InvalidRegionError, StoreMisconfigured),
    (boto.ParamValidationError, InvalidRequest),
    (boto.ValidationError, InvalidRequest),
    (boto.UndefinedModelAttributeError, StoreMisconfigured),
    (boto.BotoCoreError, StoreMisconfigured),  # the rest is configuration: region, profile, endpoint, retry mode
    (ConnectionFault, StoreUnavailable),  # urllib3's own, from the middle of a body
)

# Where the error's own sentence would not help the reader.
SENTENCES: dict[str, str] = {
    "NoSuchBucket": "there is no such bucket; check its name and WARMLINE_S3_ENDPOINT_URL",
    "NoSuchVersion": "there is no such version of the object; leave version_id out to take the current one",
    "InvalidVersionId": "there is no such version of the object; leave version_id out to take the current one",
    "InvalidObjectState": "the object is archived; restore it to a readable storage class first",
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than the store allows; set it",
    "NotImplemented": "the store cannot do this; Warmline needs If-Match and If-None-Match",
}


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turns what botocore raises within into our error tree. `what` is the object or bucket, for the message."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, boto.UndefinedModelAttributeError, ConnectionFault) as error:
        raise translate(error, what) from error


def translate(error: Exception, what: str) -> WarmlineError:
    """The error of ours that `error`, raised by botocore or urllib3, stands for."""
    if isinstance(error, boto.ClientError):
        code = s3_code(error)
        return _describe(_failure_of_answer(code, http_status(error)), what, code)
    failure = next((ours for theirs, ours in BY_CLASS if isinstance(error, theirs)), StoreUnavailable)
    return _describe(failure, what, type(error).__name__)


def s3_code(error: boto.ClientError) -> str:
    """The store's error code; after a HEAD only the HTTP status in digits."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: boto.ClientError) -> int:
    """The answer's HTTP status; 0 where there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _failure_of_answer(code: str, status: int) -> Failure:
    """By code, then by status, then by the status's hundred: stores invent codes of their own."""
    known = BY_CODE.get(code) or BY_CODE.get(str(status))
    if known is not None:
        return known
    if status >= 500 or (code.isdigit() and int(code) >= 500):
        return StoreUnavailable
    return InvalidRequest if status >= 400 else StoreUnavailable


def _describe(failure: Failure, what: str, code: str) -> WarmlineError:
    sentence = SENTENCES.get(code)
    if sentence is None:
        default = failure().message.rstrip(".")
        sentence = default[0].lower() + default[1:]
    return failure(f"{what}: {sentence} ({code}).")
