"""Everything botocore can raise has a meaning for a job."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import botocore.exceptions as boto
import pytest
from urllib3.exceptions import ProtocolError

from warmline.jobs.errors import (
    InvalidRequest,
    ObjectChanged,
    ObjectForbidden,
    ObjectNotFound,
    PermanentError,
    StoreMisconfigured,
    StoreUnavailable,
    TransientError,
    WarmlineError,
)
from warmline.objects.failures import BY_CLASS, store_errors, translate

URI = "s3://calls/a.wav"

# The rest of botocore: about its configuration, its stubs, or its own models; none of it passes with time.
# that a newer botocore adds is not here and not in BY_CLASS: decide then.
CONFIGURATION = {
    "AliasConflictParameterError", "ApiVersionNotFoundError", "AwsChunkedWrapperError",
    "BaseEndpointResolverError",
    "BotoCoreError", "ConfigNotFound", "ConfigParseError", "DataNotFoundError", "EndpointProviderError",
    "EndpointResolutionError", "EndpointVariantError", "InfiniteLoopConfigError", "InvalidChecksumConfigError",
    "InvalidConfigError", "InvalidDNSNameError", "InvalidDefaultsMode", "InvalidEndpointConfigurationError",
    "InvalidEndpointDiscoveryConfigurationError", "InvalidExpressionError", "InvalidHostLabelError",
    "InvalidIMDSEndpointError", "InvalidIMDSEndpointModeError", "InvalidMaxRetryAttemptsError",
    "InvalidProxiesConfigError", "InvalidRetryConfigurationError", "InvalidRetryModeError",
    "InvalidS3AddressingStyleError", "InvalidS3UsEast1RegionalEndpointConfigError",
    "InvalidSTSRegionalEndpointsConfigError", "MD5UnavailableError", "MissingDependencyException",
    "MissingParametersError", "NoRegionError", "OperationNotPageableError", "PaginationError", "ProfileNotFound",
    "ServiceNotInRegionError", "StubAssertionError", "StubResponseError", "UnStubbedResponseError",
    "UnknownClientMethodError", "UnknownEndpointError", "UnknownEndpointResolutionBuiltInName",
    "UnknownFIPSEndpointError", "UnknownRegionError", "UnknownServiceError", "UnknownServiceStyle",
    "UnknownSignatureVersionError", "UnknownTokenProviderError", "UnseekableStreamError",
    "UnsupportedOutpostResourceError", "UnsupportedS3AccesspointConfigurationError", "UnsupportedS3ArnError",
    "UnsupportedS3ConfigurationError", "UnsupportedS3ControlArnError", "UnsupportedS3ControlConfigurationError",
    "UnsupportedServiceProtocolsError", "UnsupportedSignatureVersionError", "WaiterConfigError", "WaiterError",
}  # fmt: skip


def answer(code: str, status: int) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetObject",
    )


def errors_of_botocore() -> Iterator[type[Exception]]:
    for _, found in inspect.getmembers(boto, inspect.isclass):
        if issubclass(found, Exception) and not issubclass(found, Warning) and found.__module__ == boto.__name__:
            yield found


def test_every_error_of_botocore_is_decided() -> None:
    decided = (boto.ClientError, *(theirs for theirs, _ in BY_CLASS if theirs is not boto.BotoCoreError))
    others = {error.__name__ for error in errors_of_botocore() if not issubclass(error, decided)}
    undecided = others - CONFIGURATION
    assert undecided == set()


def test_a_narrow_row_stands_above_the_wide_one_that_would_hide_it() -> None:
    rows = [theirs for theirs, _ in BY_CLASS]
    hidden = [
        (wide.__name__, narrow.__name__)
        for place, wide in enumerate(rows)
        for narrow in rows[place + 1 :]
        if issubclass(narrow, wide)
    ]
    assert hidden == []


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchKey", 404, ObjectNotFound),
        ("NoSuchBucket", 404, ObjectNotFound),
        ("NoSuchVersion", 404, ObjectNotFound),
        ("404", 404, ObjectNotFound),
        ("405", 405, ObjectNotFound),  # a delete marker
        ("AccessDenied", 403, ObjectForbidden),
        ("403", 403, ObjectForbidden),
        ("SomeStoresOwnWord", 403, ObjectForbidden),
        ("InvalidAccessKeyId", 403, ObjectForbidden),
        ("PreconditionFailed", 412, ObjectChanged),
        ("InvalidRange", 416, ObjectChanged),
        ("SlowDown", 503, StoreUnavailable),
        ("503", 503, StoreUnavailable),
        ("TooManyRequests", 429, StoreUnavailable),
        ("500", 500, StoreUnavailable),
        ("SomeStoresOwnWord", 507, StoreUnavailable),
        ("InternalError", 200, StoreUnavailable),  # S3 may say so after its header is out
        ("RequestTimeout", 400, StoreUnavailable),
        ("ExpiredToken", 400, StoreUnavailable),
        ("AuthorizationHeaderMalformed", 400, StoreMisconfigured),
        ("PermanentRedirect", 301, StoreMisconfigured),
        ("InvalidArgument", 400, InvalidRequest),
        ("", 0, StoreUnavailable),
    ],
)
def test_an_answer_of_the_store(code: str, status: int, expected: type[WarmlineError]) -> None:
    assert type(translate(answer(code, status), URI)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (boto.EndpointConnectionError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ReadTimeoutError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ConnectionClosedError(endpoint_url="http://x"), StoreUnavailable),
        (boto.ResponseStreamingError(error="cut"), StoreUnavailable),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailable),
        (boto.SSLError(endpoint_url="https://x", error="e"), StoreUnavailable),
        (ProtocolError("cut"), StoreUnavailable),
        (boto.NoCredentialsError(), ObjectForbidden),
        (boto.PartialCredentialsError(provider="p", cred_var="v"), ObjectForbidden),
        (boto.ParamValidationError(report="r"), InvalidRequest),
        (boto.InvalidRegionError(region_name="x y"), StoreMisconfigured),
        (boto.NoRegionError(), StoreMisconfigured),
        (boto.ProfileNotFound(profile="p"), StoreMisconfigured),
    ],
)
def test_no_answer_of_the_store(error: Exception, expected: type[WarmlineError]) -> None:
    assert type(translate(error, URI)) is expected


def test_what_passes_is_transient_and_what_does_not_is_permanent() -> None:
    assert isinstance(translate(answer("SlowDown", 503), URI), TransientError)
    assert isinstance(translate(answer("NoSuchKey", 404), URI), PermanentError)


def test_the_sentence_names_the_object_and_the_store_s_own_word() -> None:
    assert translate(answer("NoSuchBucket", 404), URI).message == (
        "s3://calls/a.wav: there is no such bucket; check its name and WARMLINE_S3_ENDPOINT_URL (NoSuchBucket)."
    )


def test_only_the_store_s_errors_are_translated_and_the_cause_is_kept() -> None:
    with pytest.raises(ObjectNotFound) as caught, store_errors(URI):
        raise answer("NoSuchKey", 404)
    assert isinstance(caught.value.__cause__, boto.ClientError)

    with pytest.raises(ZeroDivisionError), store_errors(URI):
        raise ZeroDivisionError
