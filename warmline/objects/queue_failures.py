"""The errors of SQS become ours at this edge. What may pass and what will not is said by `warmline.jobs.faults`;
SQS's own words are here.

SQS names each error twice: by the name it had in its old protocol (`AWS.SimpleQueueService.NonExistentQueue`) and
by that of its new one (`QueueDoesNotExist`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import botocore.exceptions as boto
from urllib3.exceptions import HTTPError as ConnectionFault

from warmline.jobs.errors import ObjectForbidden, QueueMisconfigured, QueueUnavailable, TransientError
from warmline.jobs.faults import MAX_CODE, classify

_PASSES: Final = frozenset({"OverLimit", "RequestThrottled", "KmsThrottled", "KMS.ThrottlingException"})

_NO_QUEUE: Final = (
    "there is no such queue; check WARMLINE_SQS_QUEUE_URL, and that WARMLINE_SQS_REGION is the queue's region"
)
_NO_RIGHT: Final = (
    "SQS refuses access; WARMLINE_SQS_ACCESS_KEY, or boto3's own credentials, must be allowed sqs:ReceiveMessage, "
    "sqs:DeleteMessage, sqs:ChangeMessageVisibility and sqs:GetQueueAttributes"
)
_NO_CREDENTIALS: Final = (
    "SQS does not know these credentials; check WARMLINE_SQS_ACCESS_KEY and WARMLINE_SQS_SECRET_KEY, or those "
    "that boto3 finds"
)
_NO_KMS_KEY: Final = (
    "the queue's KMS key cannot be used; WARMLINE_SQS_ACCESS_KEY, or boto3's own credentials, must be allowed "
    "kms:Decrypt with it, and it must be enabled"
)
_SENTENCES: Final[dict[str, str]] = {
    **dict.fromkeys(("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"), _NO_QUEUE),
    **dict.fromkeys(("InvalidAddress", "ResourceNotFoundException"), _NO_QUEUE),
    **dict.fromkeys(("InvalidClientTokenId", "UnrecognizedClientException", "InvalidSecurity"), _NO_CREDENTIALS),
    **dict.fromkeys(("SignatureDoesNotMatch", "IncompleteSignature", "NoCredentialsError"), _NO_CREDENTIALS),
}


@contextmanager
def queue_errors(what: str) -> Iterator[None]:
    """Raises QueueUnavailable or QueueMisconfigured for what botocore raises within. `what` names the queue."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, ConnectionFault) as error:
        raise classify_queue_error(error, what) from error


def classify_queue_error(error: Exception, what: str) -> QueueUnavailable | QueueMisconfigured:
    """The error of ours that `error` stands for. Its sentence holds nothing of the other's text."""
    names = _names(error)
    ours = classify(error)
    if isinstance(ours, TransientError) or _PASSES.intersection(names):
        return QueueUnavailable(
            f"{what}: SQS does not answer or has too much to do; check the network and "
            f"WARMLINE_SQS_ENDPOINT_URL ({names[0]})."
        )
    sentence = next((_SENTENCES[name] for name in names if name in _SENTENCES), None)
    if sentence is None and names[0].lower().startswith("kms"):
        sentence = _NO_KMS_KEY
    if sentence is None and isinstance(ours, ObjectForbidden):
        sentence = _NO_RIGHT
    return QueueMisconfigured(
        f"{what}: {sentence or 'the queue cannot be used; check the WARMLINE_SQS_ settings'} ({names[0]})."
    )


def _names(error: Exception) -> tuple[str, ...]:
    """What SQS calls an error, in both its protocols; the class's name for what never reached it."""
    # HTTP errors have a `response` too, which is None.
    answer: Mapping[str, Any] = error.response.get("Error", {}) if isinstance(error, boto.ClientError) else {}
    names = [str(answer[name])[:MAX_CODE] for name in ("Code", "QueryErrorCode") if answer.get(name)]
    return tuple(names) or (type(error).__name__,)
