"""The client of SQS against moto's server, and against one that does what moto never does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from config.settings import SqsSettings
from tests.moto_server import AwsServer
from tests.ports import choose_port
from warmline.jobs.errors import QueueMisconfigured, QueueUnavailable
from warmline.objects.sqs import EventQueue, Message, _build_client

URL = "http://127.0.0.1/123456789012/uploads"


def opened(settings: SqsSettings, **changes: Any) -> closing[EventQueue]:
    return closing(EventQueue(settings.model_copy(update=changes), default_region="us-east-1"))


def test_it_takes_ten_at_a_time_and_says_how_often_each_was_taken(aws: AwsServer) -> None:
    queue = aws.new_queue(max_receives=7)
    aws.send(queue, [f"é {number}" for number in range(12)])
    with opened(aws.sqs_settings(queue)) as client:
        facts = client.describe()
        assert (facts.waiting, facts.hidden, facts.max_receives) == (12, 0, 7)
        assert facts.dead_letter_queue == f"{queue.arn}-dead"
        first, second = client.receive(), client.receive()
        assert (len(first), len(second)) == (10, 2)
        assert sorted(message.body for message in first + second) == sorted(f"é {n}" for n in range(12))
        assert client.describe().hidden == 12
        # Released, it comes again; hidden for longer, it does not; deleted, it is gone
        assert client.hide({first[0]: 0, first[1]: 60}) == ()
        assert client.delete(first[2:]) == ()
        again = client.receive()
        assert [(message.id, message.receives) for message in again] == [(first[0].id, 2)]
        assert aws.left(queue) == 4


def test_it_waits_for_a_message_and_for_no_other_answer(aws: AwsServer) -> None:
    queue = aws.new_queue(max_receives=None)
    with opened(aws.sqs_settings(queue, wait_seconds=2)) as client:
        assert client.describe().dead_letter_queue is None
        started = time.monotonic()
        assert client.receive() == ()
        assert time.monotonic() - started >= 1.9
    # An answer that comes after the wait is still heard, however long that is
    config = _build_client(aws.sqs_settings(queue, wait_seconds=20), "us-east-1").meta.config
    assert config.read_timeout >= 25  # type: ignore[attr-defined]


def test_what_sqs_would_not_do_for_some_is_said_of_those(aws: AwsServer) -> None:
    queue = aws.new_queue()
    aws.send(queue, ["a"])
    with opened(aws.sqs_settings(queue)) as client:
        (real,) = client.receive()
        other = Message(id="other", receipt="nobody's", body="", receives=1)
        assert client.hide({other: 9, real: 9}) == (other,)
        assert client.delete([other, real]) == (other,)
        assert client.delete([]) == ()
        assert aws.left(queue) == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"queue_url": f"{URL}-that-is-not-there"}, "there is no such queue; check WARMLINE_SQS_QUEUE_URL"),
        ({"endpoint_url": "no address"}, "WARMLINE_SQS_ENDPOINT_URL is not a usable address"),
        ({"access_key": None}, "Set both WARMLINE_SQS_ACCESS_KEY and WARMLINE_SQS_SECRET_KEY"),
        ({"region": "not a region"}, "WARMLINE_SQS_"),
    ],
)
def test_what_is_configured_wrongly_is_permanent(changes: dict[str, Any], says: str, aws: AwsServer) -> None:
    settings = aws.sqs_settings(aws.new_queue())
    if "access_key" in changes:
        changes = {"access_key": type(settings.access_key)("")}
    with opened(settings, **changes) as client, pytest.raises(QueueMisconfigured) as caught:
        client.describe()
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("url", "region", "fits"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/uploads", "us-east-1", False),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/uploads", "us-east-1", False),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/uploads", "eu-west-1", True),
        ("https://sqs.example.com/123456789012/uploads", "us-east-1", True),
    ],
)
def test_a_queue_in_another_region_is_told_from_one_that_is_not_there(url: str, region: str, fits: bool) -> None:
    settings = SqsSettings(queue_url=url, region=region, access_key="a", secret_key="b")  # type: ignore[arg-type]
    with opened(settings) as client:
        if fits:
            client._check_region()
        else:
            with pytest.raises(QueueMisconfigured, match="set WARMLINE_SQS_REGION="):
                client.describe()


def test_nobody_at_the_address_is_a_fault_that_may_pass(aws: AwsServer) -> None:
    settings = aws.sqs_settings(aws.new_queue())
    nowhere = f"http://127.0.0.1:{choose_port()}"
    with opened(settings, endpoint_url=nowhere) as client, pytest.raises(QueueUnavailable):
        client.receive()


# What moto never says


@contextmanager
def scripted(*answers: tuple[int, dict[str, Any]]) -> Iterator[tuple[SqsSettings, list[dict[str, Any]]]]:
    """An SQS that gives these answers in turn, the last one again and again; and what it was asked."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, answer = left.pop(0) if len(left) > 1 else left[0]
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield SqsSettings.model_validate(
                {"queue_url": URL, "endpoint_url": f"http://127.0.0.1:{server.server_port}", "region": "us-east-1",
                 "access_key": "a", "secret_key": "b", "wait_seconds": 0}
            ), asked  # fmt: skip
        finally:
            server.shutdown()


def message(number: int) -> Message:
    return Message(id=f"m{number}", receipt=f"r{number}", body="", receives=1)


def failed(number: int, *, ours: bool) -> dict[str, Any]:
    return {"Id": str(number), "SenderFault": ours, "Code": "InternalError", "Message": ""}


def test_what_sqs_was_too_busy_for_is_asked_once_more() -> None:
    first = {
        "Successful": [{"Id": "0"}],
        "Failed": [failed(1, ours=False), failed(2, ours=True), failed(3, ours=False)],
    }
    second = {"Successful": [{"Id": "3"}], "Failed": [failed(1, ours=False)]}
    with scripted((200, first), (200, second)) as (settings, asked), opened(settings) as client:
        assert client.delete([message(n) for n in range(4)]) == (message(2), message(1))
    assert [[entry["ReceiptHandle"] for entry in request["Entries"]] for request in asked] == [
        ["r0", "r1", "r2", "r3"],
        ["r1", "r3"],
    ]


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [
        (400, "RequestThrottled", QueueUnavailable),
        (403, "OverLimit", QueueUnavailable),
        (503, "ServiceUnavailable", QueueUnavailable),
        (403, "AccessDeniedException", QueueMisconfigured),
        (403, "InvalidClientTokenId", QueueMisconfigured),
    ],
)
def test_what_sqs_answers_instead(status: int, name: str, expected: type[Exception]) -> None:
    answer = {"__type": f"com.amazonaws.sqs#{name}", "message": "m"}
    with scripted((status, answer)) as (settings, asked), opened(settings) as client, pytest.raises(expected):
        client.receive()
    assert len(asked) == (1 if expected is QueueMisconfigured or name == "OverLimit" else 3)


def test_what_is_no_sqs_is_told() -> None:
    answers = [{}, {"Attributes": {}}, {"hello": "world"}]
    with scripted(*((200, answer) for answer in answers)) as (settings, _), opened(settings) as client:
        for _ in answers:
            with pytest.raises(QueueMisconfigured, match="no SQS"):
                client.describe()


def test_it_asks_for_what_the_settings_say() -> None:
    answer = {"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": "b"}]}
    with scripted((200, answer)) as (settings, asked), opened(settings, visibility_seconds=77) as client:
        # A service that does not count receives counts as one that says "the first"
        assert client.receive() == (Message(id="m", receipt="r", body="b", receives=1),)
    assert {name: asked[0][name] for name in ("MaxNumberOfMessages", "VisibilityTimeout", "WaitTimeSeconds")} == {
        "MaxNumberOfMessages": 10,
        "VisibilityTimeout": 77,
        "WaitTimeSeconds": 0,
    }
