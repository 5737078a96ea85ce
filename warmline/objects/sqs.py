"""The queue in which S3's events arrive: Amazon SQS, or what speaks its language.

Every method raises QueueUnavailable for what may pass and QueueMisconfigured for what will not, and nothing of
botocore's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from config.settings import SqsSettings
from warmline.jobs.errors import QueueMisconfigured
from warmline.objects.lazy_client import LazyClient
from warmline.objects.queue_failures import queue_errors
from warmline.objects.s3_client import ATTEMPTS, CONNECT_SECONDS, on_this_machine

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

LOT = 10  # messages, the most that one request of SQS takes or gives
ANSWER_SECONDS = 10.0  # longest wait for an answer, beside the wait for messages


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message as it was taken this time."""

    id: str  # the same each time
    receipt: str  # this time's: what deletes it or hides it
    body: str
    receives: int  # how often it was taken, this time included


@dataclass(frozen=True, kw_only=True)
class QueueFacts:
    """A queue as SQS describes it. Its counts are approximate, as SQS says itself."""

    waiting: int  # messages that can be taken
    hidden: int  # messages that somebody has taken, or that are delayed
    dead_letter_queue: str | None  # the ARN of the queue that takes what was taken too often; None: nothing does
    max_receives: int | None  # how often that is


class EventQueue(LazyClient["SQSClient"]):
    """A client of one queue. Threads may share it; it connects at first use."""

    def __init__(self, settings: SqsSettings, *, default_region: str) -> None:
        """`default_region` is for settings without one."""
        super().__init__()
        self._settings = settings
        self._region = settings.region or default_region

    def __repr__(self) -> str:
        return f"EventQueue({self.name!r})"

    @property
    def name(self) -> str:
        """The last part of its URL, for people."""
        return self._settings.queue_url.rstrip("/").rpartition("/")[2]

    def describe(self) -> QueueFacts:
        """What SQS says of the queue; also the way to find out whether it can be used."""
        self._check_region()
        with queue_errors(self.name):
            answer = self._client().get_queue_attributes(QueueUrl=self._settings.queue_url, AttributeNames=["All"])
        facts = {str(name): value for name, value in answer.get("Attributes", {}).items()}
        if "ApproximateNumberOfMessages" not in facts:
            raise QueueMisconfigured(
                f"{self.name}: what answers there is no SQS; check WARMLINE_SQS_QUEUE_URL and "
                "WARMLINE_SQS_ENDPOINT_URL."
            )
        redrive = json.loads(facts.get("RedrivePolicy") or "{}")
        return QueueFacts(
            waiting=int(facts["ApproximateNumberOfMessages"]),
            hidden=int(facts.get("ApproximateNumberOfMessagesNotVisible", 0))
            + int(facts.get("ApproximateNumberOfMessagesDelayed", 0)),
            dead_letter_queue=redrive.get("deadLetterTargetArn"),
            max_receives=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
        )

    def receive(self) -> tuple[Message, ...]:
        """Up to ten messages, hidden from others for WARMLINE_SQS_VISIBILITY_SECONDS; waits for the first one."""
        with queue_errors(self.name):
            answer = self._client().receive_message(
                QueueUrl=self._settings.queue_url,
                MaxNumberOfMessages=LOT,
                WaitTimeSeconds=self._settings.wait_seconds,
                VisibilityTimeout=self._settings.visibility_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return tuple(
            Message(
                id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=message["Body"],
                receives=int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for message in answer.get("Messages", ())
        )

    def delete(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Deletes up to ten messages. Returns those that SQS would not delete."""
        return self._ask_for_each(
            {message: {} for message in messages},
            lambda entries: self._client().delete_message_batch(**entries),
        )

    def hide(self, seconds: Mapping[Message, int]) -> tuple[Message, ...]:
        """Hides up to ten messages for so long from now; with 0 others can take them at once.

        Returns those for which SQS would not: they were deleted, or somebody else has them now.
        """
        return self._ask_for_each(
            {message: {"VisibilityTimeout": count} for message, count in seconds.items()},
            lambda entries: self._client().change_message_visibility_batch(**entries),
        )

    def _ask_for_each(
        self, wanted: Mapping[Message, Mapping[str, int]], ask: Callable[[Any], Any]
    ) -> tuple[Message, ...]:
        """One request for all. It can fail for some of them; where that was SQS's fault, it is made once more."""
        left = {str(number): message for number, message in enumerate(wanted)}
        refused: list[Message] = []
        for _ in range(2):
            if not left:
                break
            entries = [
                {"Id": number, "ReceiptHandle": message.receipt, **wanted[message]}
                for number, message in left.items()
            ]
            with queue_errors(self.name):
                answer = ask({"QueueUrl": self._settings.queue_url, "Entries": entries})
            failed = {failure["Id"]: failure["SenderFault"] for failure in answer.get("Failed", ())}
            refused += [left[number] for number, is_ours in failed.items() if is_ours]
            left = {number: left[number] for number, is_ours in failed.items() if not is_ours}
        return (*refused, *left.values())

    def _check_region(self) -> None:
        """AWS answers "no such queue" in every region but one."""
        named = re.match(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/", self._settings.queue_url)
        if named and not self._settings.endpoint_url and named[1] != self._region:
            raise QueueMisconfigured(
                f"{self.name}: WARMLINE_SQS_QUEUE_URL is in the region {named[1]}, but {self._region} is asked; "
                f"set WARMLINE_SQS_REGION={named[1]}."
            )

    def _build(self) -> SQSClient:
        return _build_client(self._settings, self._region)


def _build_client(settings: SqsSettings, region: str) -> SQSClient:
    import boto3  # takes a third of a second
    import botocore.session
    from botocore.config import Config

    access, secret = settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()
    if bool(access) != bool(secret):
        raise QueueMisconfigured("Set both WARMLINE_SQS_ACCESS_KEY and WARMLINE_SQS_SECRET_KEY, or neither.")
    here: dict[str, Any] = {"proxies": {}} if on_this_machine(settings.endpoint_url) else {}
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=settings.wait_seconds + ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=settings.receivers + 2,  # a receiver each, who renews, and who ends
        user_agent_extra="warmline",
        **here,
    )
    try:
        with queue_errors(settings.endpoint_url or "AWS SQS"):
            # A session of our own: boto3's default session is shared, and not safe to build from threads.
            session = boto3.session.Session(botocore_session=botocore.session.Session())
            return session.client(
                "sqs",
                endpoint_url=settings.endpoint_url or None,
                region_name=region,
                aws_access_key_id=access or None,
                aws_secret_access_key=secret or None,
                config=config,
            )
    except ValueError as error:
        raise QueueMisconfigured(
            f"WARMLINE_SQS_ENDPOINT_URL is not a usable address: {settings.endpoint_url!r}."
        ) from error
