"""Every error that SQS's own description names is decided, and says which setting to look at."""

from __future__ import annotations

import botocore.exceptions as boto
import botocore.session
import pytest

from warmline.jobs.errors import QueueMisconfigured, QueueUnavailable
from warmline.objects.queue_failures import classify_queue_error, queue_errors

PASSES = {"OverLimit", "RequestThrottled", "KmsThrottled"}


def answer(code: str, status: int, shape: str = "") -> boto.ClientError:
    error = {"Code": code, "Message": "hunter2"} | ({"QueryErrorCode": shape} if shape else {})
    return boto.ClientError(
        {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "ReceiveMessage",
    )


def test_what_sqs_can_answer_is_known() -> None:
    # A new version of botocore may know more errors: then somebody is to decide what they mean.
    model = botocore.session.Session().get_service_model("sqs")
    shapes = {shape.name for shape in model.error_shapes}
    assert len(shapes) == 28
    for shape in shapes:
        for error in (answer(shape, 400), answer(f"AWS.SimpleQueueService.{shape}", 400, shape)):
            expected = QueueUnavailable if shape in PASSES else QueueMisconfigured
            assert type(classify_queue_error(error, "calls")) is expected, shape


@pytest.mark.parametrize(
    "error",
    [
        answer("InternalFailure", 500),
        answer("ServiceUnavailable", 503),
        answer("SomethingNew", 599),
        answer("Throttling", 400),
        answer("ThrottlingException", 400),
        answer("KMS.ThrottlingException", 400, "KmsThrottled"),
        answer("ExpiredToken", 403),  # temporary credentials are renewed while we wait
        boto.EndpointConnectionError(endpoint_url="http://hunter2"),
        boto.ConnectTimeoutError(endpoint_url="http://hunter2"),
        boto.ReadTimeoutError(endpoint_url="http://hunter2"),
        boto.ConnectionClosedError(endpoint_url="http://hunter2"),
        boto.CredentialRetrievalError(provider="iam-role", error_msg="hunter2"),
    ],
    ids=str,
)
def test_what_may_pass(error: Exception) -> None:
    with pytest.raises(QueueUnavailable) as caught, queue_errors("calls"):
        raise error
    assert caught.value.message.startswith("calls: SQS does not answer or has too much to do; ")
    assert "WARMLINE_SQS_" in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (answer("AWS.SimpleQueueService.NonExistentQueue", 400, "QueueDoesNotExist"), "WARMLINE_SQS_QUEUE_URL"),
        (answer("QueueDoesNotExist", 400), "WARMLINE_SQS_REGION"),
        (answer("InvalidAddress", 404), "WARMLINE_SQS_QUEUE_URL"),
        (answer("AccessDenied", 403), "sqs:ChangeMessageVisibility"),
        (answer("AccessDeniedException", 403), "WARMLINE_SQS_ACCESS_KEY"),
        (answer("InvalidClientTokenId", 403), "WARMLINE_SQS_SECRET_KEY"),
        (answer("UnrecognizedClientException", 400), "WARMLINE_SQS_SECRET_KEY"),
        (answer("SignatureDoesNotMatch", 403), "WARMLINE_SQS_SECRET_KEY"),
        (boto.NoCredentialsError(), "WARMLINE_SQS_ACCESS_KEY"),
        (answer("KMS.AccessDeniedException", 400, "KmsAccessDenied"), "kms:Decrypt"),
        (answer("InvalidParameterValue", 400), "WARMLINE_SQS_ settings"),
        (boto.InvalidRegionError(region_name="x y"), "WARMLINE_SQS_ settings"),
        (boto.NoRegionError(), "WARMLINE_SQS_ settings"),
        (boto.ParamValidationError(report="hunter2"), "WARMLINE_SQS_ settings"),
    ],
    ids=str,
)
def test_what_will_not_pass_says_what_to_do(error: Exception, says: str) -> None:
    with pytest.raises(QueueMisconfigured) as caught, queue_errors("calls"):
        raise error
    assert caught.value.message.startswith("calls: ")
    assert says in caught.value.message
    assert "hunter2" not in caught.value.message
