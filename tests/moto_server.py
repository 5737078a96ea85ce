"""moto's server as a process: S3, SQS, SNS and EventBridge that send each other events. Any credentials do."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from pydantic import SecretStr

from config.settings import S3Settings, SqsSettings
from tests.ports import choose_port
from tests.servers import running, skip_or_fail

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

ACCOUNT = "123456789012"  # everybody's, there
REGION = "us-east-1"
SECRET = SecretStr("anything")


@dataclass(frozen=True)
class Queue:
    """A queue and its dead letter queue."""

    url: str
    arn: str
    dead_letter_url: str | None


class AwsServer:
    """A running server, with a client of each of its services."""

    def __init__(self, url: str, clients: ExitStack) -> None:
        self.url = url

        def client(service: str) -> Any:
            made = boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=url,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key=SECRET.get_secret_value(),
                config=Config(proxies={}, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
            )
            return clients.enter_context(closing(made))

        self.s3: S3Client = client("s3")
        self.sqs: SQSClient = client("sqs")
        self.sns: Any = client("sns")
        self.events: Any = client("events")

    def s3_settings(self, bucket: str, **others: Any) -> S3Settings:
        """Settings of a Warmline that reads this bucket."""
        return S3Settings(
            endpoint_url=self.url, region=REGION, access_key=SecretStr("test"), secret_key=SECRET,
            source_buckets=(bucket,), **others,
        )  # fmt: skip

    def sqs_settings(self, queue: Queue, **others: Any) -> SqsSettings:
        """Settings of a poller of this queue; it does not wait long for messages."""
        return SqsSettings.model_validate(
            {"queue_url": queue.url, "endpoint_url": self.url, "region": REGION, "access_key": "test",
             "secret_key": SECRET, "wait_seconds": 1, "visibility_seconds": 30} | others
        )  # fmt: skip

    def new_bucket(self) -> str:
        """A bucket that is nobody else's."""
        name = f"calls-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=name)
        return name

    def new_queue(self, *, max_receives: int | None = 3) -> Queue:
        """A queue that is nobody else's, with a dead letter queue unless `max_receives` is None."""
        name, attributes, dead_letter_url = f"uploads-{uuid.uuid4().hex[:12]}", {}, None
        if max_receives is not None:
            dead_letter_url = self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
            attributes["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-dead",
                 "maxReceiveCount": str(max_receives)}
            )  # fmt: skip
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
        return Queue(url=url, arn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}", dead_letter_url=dead_letter_url)

    def notify_queue(self, bucket: str, queue: Queue) -> None:
        """The bucket tells the queue of uploads and of deletions; first comes a test event."""
        self._notify(bucket, {"QueueConfigurations": [{"QueueArn": queue.arn, "Events": self._events()}]})

    def notify_topic(self, bucket: str, queue: Queue, *, raw: bool) -> None:
        """The bucket tells a topic, which tells the queue: as it is (`raw`), or in SNS's envelope."""
        topic = self.sns.create_topic(Name=f"uploads-{uuid.uuid4().hex[:12]}")["TopicArn"]
        self.sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=queue.arn,
            Attributes={"RawMessageDelivery": "true"} if raw else {},
        )  # fmt: skip
        self._notify(bucket, {"TopicConfigurations": [{"TopicArn": topic, "Events": self._events()}]})

    def notify_eventbridge(self, bucket: str, queue: Queue) -> None:
        """The bucket tells EventBridge, where a rule tells the queue of uploads."""
        name = f"uploads-{uuid.uuid4().hex[:12]}"
        pattern = {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": [bucket]}},
        }
        self.events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        self.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue.arn}])
        self._notify(bucket, {"EventBridgeConfiguration": {}})

    def upload(self, bucket: str, key: str, body: bytes = b"RIFF") -> None:
        """Puts an object."""
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def send(self, queue: Queue, bodies: Sequence[str]) -> None:
        """Puts messages into the queue."""
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            self.sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)  # type: ignore[arg-type]

    def left(self, queue: Queue) -> int:
        """How many messages the queue has, hidden ones included."""
        return sum(self._counts(queue.url))

    def dead(self, queue: Queue) -> int:
        """How many messages its dead letter queue has."""
        assert queue.dead_letter_url is not None
        return sum(self._counts(queue.dead_letter_url))

    def waiting(self, queue: Queue) -> int:
        """How many of the queue's messages can be taken."""
        return self._counts(queue.url)[0]

    def hidden(self, queue: Queue) -> int:
        """How many of the queue's messages somebody has in hand."""
        return self._counts(queue.url)[1]

    def _counts(self, url: str) -> tuple[int, int]:
        """Messages to be had, and hidden ones. In one request: a message may change from one to the other."""
        found = self.sqs.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])

    def _events(self) -> list[str]:
        return ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]

    def _notify(self, bucket: str, configuration: Any) -> None:
        self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)


@contextmanager
def running_aws(directory: Path) -> Iterator[AwsServer]:
    """moto's server while the block lasts."""
    for module in ("moto", "flask", "flask_cors"):
        if importlib.util.find_spec(module) is None:
            skip_or_fail(f"{module} is not installed: pip install 'warmline[dev]'")
    port = choose_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with running(command, directory / "moto.log", answers, directory=directory), ExitStack() as clients:
        yield AwsServer(f"http://127.0.0.1:{port}", clients)
