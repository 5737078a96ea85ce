"""SNS over HTTPS: a message is believed when its topic, its certificate's address and its signature are right."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api_process import ApiProcess
from tests.contract.api.conftest import KEYS, TOKENS
from tests.contract.api.stored_events import Stored, of_aws, record, records
from tests.contract.api.test_api_problems import refused
from tests.sns_server import TOPIC, Listener, Signer, SnsServer, body_of, listening
from warmline.jobs.ledger import Ledger

EVENTS = "/v1/events/s3"
SPEAKS_OF = "x-amz-sns-message-type"


@pytest.fixture
def stored() -> Stored:
    """An object of its own; that its event has a sequencer spares the API the look at it."""
    return Stored(key=f"{uuid.uuid4()}/call 1.wav", content=uuid.uuid4().bytes)


@pytest.fixture
def job_ids(ledger: Ledger) -> Callable[[], list[str]]:
    """The last of the jobs that were entered since."""
    before = [state.job.id for state in ledger.list(limit=1)]
    return lambda: [state.job.id for state in ledger.list(limit=1) if state.job.id not in before]


@pytest.fixture
def elsewhere() -> Iterator[Listener]:
    """An address that messages name, and that nobody is to visit."""
    with listening() as listener:
        yield listener
        assert listener.heard == []


@pytest.fixture
def nothing_happens(job_ids: Callable[[], list[str]], sns: SnsServer, elsewhere: Listener) -> Iterator[None]:
    """No job, no subscription confirmed, and nobody but SNS asked for a certificate."""
    confirmed = len(sns.confirmations)
    yield
    assert (job_ids(), len(sns.confirmations), elsewhere.heard) == ([], confirmed, [])


def post(client: httpx.Client, message: dict[str, Any], kind: str | None = None) -> httpx.Response:
    """As SNS posts: as text, with its type in a header."""
    headers = {
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
    }
    headers[SPEAKS_OF] = str(message.get("Type")) if kind is None else kind
    return client.post(EVENTS, content=body_of(message), headers=headers)


# Messages that are believed


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["Amazon S3 Notification", None, "ünïcödé\n"])
def test_a_signed_notification_leads_to_a_job(
    stranger: httpx.Client, ledger: Ledger, sns: SnsServer, stored: Stored, version: str, subject: str | None
) -> None:
    message = sns.message(of_aws(stored).decode(), SignatureVersion=version, Subject=subject)
    answer = post(stranger, message)
    assert (answer.status_code, answer.json()["entered"]) == (202, 1)
    assert ledger.get(answer.json()["jobs"][0]["id"]).job.source.key == stored.key
    again = post(stranger, message)
    assert (again.status_code, again.json()["known"]) == (202, 1)


def test_a_notification_and_the_store_s_own_webhook_are_one_job(
    stranger: httpx.Client, client: httpx.Client, sns: SnsServer, stored: Stored
) -> None:
    assert post(stranger, sns.message(of_aws(stored).decode())).json()["entered"] == 1
    assert client.post(EVENTS, content=of_aws(stored)).json()["known"] == 1


def test_a_test_event_is_counted(stranger: httpx.Client, sns: SnsServer, nothing_happens: None) -> None:
    answer = post(stranger, sns.message(json.dumps({"Event": "s3:TestEvent", "Service": "Amazon S3"})))
    assert (answer.status_code, answer.json()["skipped"]) == (202, {"test_event": 1})


def test_a_subscription_is_confirmed_at_an_address_made_here(
    stranger: httpx.Client, api: ApiProcess, sns: SnsServer, job_ids: Callable[[], list[str]]
) -> None:
    # Given an offer whose SubscribeURL asks for something else at the right host
    token, trap = uuid.uuid4().hex, f"{sns.url}/?Action=DeleteTopic&TopicArn=x"
    answer = post(stranger, sns.subscription(Token=token, SubscribeURL=trap))
    # Then it is confirmed by its token, and nothing else is asked
    assert (answer.status_code, answer.json()) == (202, {"confirmed": True})
    assert sns.confirmations[-1] == {"Action": "ConfirmSubscription", "TopicArn": TOPIC, "Token": token}
    assert not any("DeleteTopic" in path for path in sns.requests)
    assert job_ids() == []
    assert "sns_subscription_confirmed" in api.log.read_text()
    assert token not in api.log.read_text()


def test_a_token_cannot_add_to_the_confirmation(stranger: httpx.Client, sns: SnsServer) -> None:
    token = "a&Action=DeleteTopic#/../é"
    assert post(stranger, sns.subscription(Token=token)).status_code == 202
    assert sns.confirmations[-1] == {"Action": "ConfirmSubscription", "TopicArn": TOPIC, "Token": token}


def test_the_end_of_a_subscription_is_noted_and_not_undone(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None
) -> None:
    answer = post(stranger, sns.subscription(Type="UnsubscribeConfirmation"))
    assert (answer.status_code, answer.json()["skipped"]) == (202, {"unsubscribed": 1})


@pytest.mark.parametrize(("status", "code"), [(503, (503, "sns_unavailable")), (403, (403, "sns_not_verified"))])
def test_a_confirmation_that_sns_does_not_take(
    stranger: httpx.Client, sns: SnsServer, status: int, code: tuple[int, str]
) -> None:
    post(stranger, sns.message("{}"))  # the certificate is there already
    sns.status = status
    try:
        answer = post(stranger, sns.subscription())
    finally:
        sns.status = 200
    assert refused(answer) == code
    assert ("retry-after" in answer.headers) == (status == 503)


# Messages that are not


@pytest.mark.parametrize("field", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"])
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_notification_that_was_changed_on_its_way(
    stranger: httpx.Client, sns: SnsServer, stored: Stored, nothing_happens: None, field: str, version: str
) -> None:
    message = sns.message(of_aws(stored).decode(), SignatureVersion=version)
    changed = {
        "Message": of_aws(Stored(key="other.wav", content=b"x")).decode(),
        "MessageId": "1",
        "Subject": "x",
        "Timestamp": datetime.now(UTC).isoformat(),
        "TopicArn": f"{TOPIC}-too",
        "Type": "SubscriptionConfirmation",
    }
    extra = {"Token": "1", "SubscribeURL": f"{sns.url}/?"} if field == "Type" else {}
    assert refused(post(stranger, message | {field: changed[field]} | extra)) == (403, "sns_not_verified")


@pytest.mark.parametrize(("field", "value"), [("Token", "1"), ("SubscribeURL", "{}/?x"), ("Message", "x")])
def test_a_subscription_that_was_changed_on_its_way(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, field: str, value: str
) -> None:
    message = sns.subscription() | {field: value.format(sns.url)}
    assert refused(post(stranger, message)) == (403, "sns_not_verified")


def test_a_subject_that_was_taken_away_or_added(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None
) -> None:
    with_one, without = sns.message("{}"), sns.message("{}", Subject=None)
    del with_one["Subject"]
    for message in (with_one, without | {"Subject": ""}):
        assert refused(post(stranger, message)) == (403, "sns_not_verified")


@pytest.mark.parametrize(
    "signature", ["", "AAAA", "not base64!", "é", base64.b64encode(b"\0" * 256).decode(), "A" * 100_000]
)
@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation"])
def test_a_wrong_signature(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, signature: str, kind: str
) -> None:
    made = sns.message("{}") if kind == "Notification" else sns.subscription()
    assert refused(post(stranger, made | {"Signature": signature})) == (403, "sns_not_verified")


def test_a_signature_of_another_key_or_version(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None
) -> None:
    message = sns.message("{}")
    others = Signer.new().signature(message)
    for changed in ({"Signature": others}, {"SignatureVersion": "2"}):
        assert refused(post(stranger, message | changed)) == (403, "sns_not_verified")


@pytest.mark.parametrize(
    "name",
    ["Type", "MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL"],
)
@pytest.mark.parametrize("value", ["missing", None, 1, ["x"], {"a": 1}])
def test_a_message_without_a_field_or_with_something_else_in_it(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, name: str, value: Any
) -> None:
    message = sns.message("{}")
    if value == "missing":
        del message[name]
    else:
        message[name] = value
    assert refused(post(stranger, message, "Notification")) == (422, "not_an_sns_message")


@pytest.mark.parametrize(
    "changed",
    [
        {"SignatureVersion": "3"},
        {"SignatureVersion": "0"},
        {"Type": "Publish"},
        {"Timestamp": "yesterday"},
        {"Token": "x" * 5000},
    ],
)
def test_a_message_of_another_form(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, changed: dict[str, str]
) -> None:
    assert refused(post(stranger, sns.message("{}") | changed)) == (422, "not_an_sns_message")


@pytest.mark.parametrize("kind", ["", "SubscriptionConfirmation", "notification"])
def test_a_header_that_says_another_type(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, kind: str
) -> None:
    assert refused(post(stranger, sns.message("{}"), kind)) == (422, "not_an_sns_message")


@pytest.mark.parametrize("hours", [-3, 3, -24 * 365])
def test_a_message_of_another_time(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, hours: int
) -> None:
    sent = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    answer = post(stranger, sns.message("{}", Timestamp=sent))
    assert refused(answer) == (403, "sns_not_verified")
    assert "clock" in answer.json()["detail"]


def test_a_message_that_sns_repeats_for_an_hour_is_taken(
    stranger: httpx.Client, sns: SnsServer, stored: Stored
) -> None:
    sent = (datetime.now(UTC) - timedelta(minutes=61)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert post(stranger, sns.message(of_aws(stored).decode(), Timestamp=sent)).status_code == 202


@pytest.mark.parametrize(
    "topic",
    [
        "arn:aws:sns:us-east-1:123456789012:others",
        "arn:aws:sns:us-west-2:123456789012:uploads",
        "arn:aws:sns:us-east-1:999999999999:uploads",
        "arn:aws-cn:sns:us-east-1:123456789012:uploads",
        f"{TOPIC}\n",
        TOPIC.upper(),
        "uploads",
        "",
    ],
)
def test_a_topic_that_is_not_allowed(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, topic: str
) -> None:
    for message in (sns.message("{}", TopicArn=topic), sns.subscription(TopicArn=topic)):
        answer = post(stranger, message)
        assert refused(answer) == (403, "sns_topic_not_allowed")
        assert "WARMLINE_TRIGGERS_SNS_TOPICS" in answer.json()["detail"]


@pytest.mark.parametrize(
    "url",
    [
        "{elsewhere}/SimpleNotificationService-0.pem",
        "{elsewhere}/?{sns}/SimpleNotificationService-0.pem",
        "{sns}@127.0.0.1:{port}/SimpleNotificationService-0.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem",  # the settings name another SNS
        "{sns}/../SimpleNotificationService-0.pem",
        "{sns}",
    ],
)
def test_a_certificate_elsewhere(
    stranger: httpx.Client, sns: SnsServer, elsewhere: Listener, nothing_happens: None, url: str
) -> None:
    named = url.format(elsewhere=elsewhere.url, sns=sns.url, port=elsewhere.port)
    asked = len(sns.requests)
    for message in (sns.message("{}", SigningCertURL=named), sns.subscription(SigningCertURL=named)):
        answer = post(stranger, message)
        assert refused(answer) == (403, "sns_not_verified")
        assert "SigningCertURL" in answer.json()["detail"]
    assert len(sns.requests) == asked


@pytest.mark.parametrize(
    "url", ["{elsewhere}/?Action=ConfirmSubscription", "{sns}@127.0.0.1:{port}/", "{sns}.x/", ""]
)
def test_a_subscription_elsewhere(
    stranger: httpx.Client, sns: SnsServer, elsewhere: Listener, nothing_happens: None, url: str
) -> None:
    named = url.format(elsewhere=elsewhere.url, sns=sns.url, port=elsewhere.port)
    answer = post(stranger, sns.subscription(SubscribeURL=named))
    assert refused(answer) == (403, "sns_not_verified")
    assert "SubscribeURL" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["Token", "SubscribeURL"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_subscription_without_its_token_or_address(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, name: str, value: str | None
) -> None:
    answer = post(stranger, sns.subscription(**{name: value}))
    assert refused(answer) == (403, "sns_not_verified")
    assert "Token is missing" in answer.json()["detail"]


def test_addresses_that_a_believed_message_names_are_not_visited(
    stranger: httpx.Client, sns: SnsServer, elsewhere: Listener, stored: Stored
) -> None:
    message = sns.message(of_aws(stored).decode(), UnsubscribeURL=f"{elsewhere.url}/?Action=Unsubscribe")
    assert post(stranger, message | {"SubscribeURL": elsewhere.url}).status_code == 202


def test_an_expired_certificate(stranger: httpx.Client, sns: SnsServer, nothing_happens: None) -> None:
    expired, path = Signer.new(days=(-30, -1)), "/SimpleNotificationService-expired.pem"
    sns.certificates[path] = expired.pem
    message = sns.message("{}", SigningCertURL=f"{sns.url}{path}")
    answer = post(stranger, message | {"Signature": expired.signature(message)})
    assert refused(answer) == (403, "sns_not_verified")
    assert "not valid today" in answer.json()["detail"]


def test_a_certificate_that_cannot_be_had_now(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None
) -> None:
    sns.status = 500
    try:
        answer = post(stranger, sns.message("{}", SigningCertURL=f"{sns.url}/SimpleNotificationService-0.pem"))
        sns.certificates["/SimpleNotificationService-0.pem"] = b""
        later = post(stranger, sns.message("{}", SigningCertURL=f"{sns.url}/SimpleNotificationService-0.pem"))
    finally:
        sns.status = 200
    assert refused(answer) == (403, "sns_not_verified")  # there is none
    assert refused(later) == (503, "sns_unavailable")
    assert int(later.headers["retry-after"]) >= 1


# Who is a stranger


def test_what_comes_raw_has_no_signature_and_needs_a_token(stranger: httpx.Client, stored: Stored) -> None:
    headers = {SPEAKS_OF: "Notification", "x-amz-sns-rawdelivery": "true"}
    answer = stranger.post(EVENTS, content=of_aws(stored), headers=headers)
    assert refused(answer) == (401, "unauthorized")
    headers["authorization"] = "Basic " + base64.b64encode(f"sns:{TOKENS[0]}".encode()).decode()
    assert stranger.post(EVENTS, content=of_aws(stored), headers=headers).json()["entered"] == 1


def test_an_event_that_only_says_it_is_of_sns(
    stranger: httpx.Client, stored: Stored, nothing_happens: None
) -> None:
    answer = stranger.post(EVENTS, content=of_aws(stored), headers={SPEAKS_OF: "Notification"})
    assert refused(answer) == (422, "not_an_sns_message")


@pytest.mark.parametrize("given", [TOKENS[0], KEYS[0]])
@pytest.mark.parametrize("headers", [{}, {SPEAKS_OF: "Notification"}])
def test_a_key_does_not_make_a_signature_right(
    stranger: httpx.Client,
    sns: SnsServer,
    stored: Stored,
    nothing_happens: None,
    given: str,
    headers: dict[str, str],
) -> None:
    message = sns.message(of_aws(stored).decode()) | {"MessageId": "1"}
    headers = headers | {"authorization": f"Bearer {given}"}
    assert refused(stranger.post(EVENTS, content=body_of(message), headers=headers)) == (403, "sns_not_verified")
    del message["Signature"]
    assert refused(stranger.post(EVENTS, content=body_of(message), headers=headers)) == (422, "not_an_sns_message")


def test_a_stranger_s_body_is_small(stranger: httpx.Client, nothing_happens: None) -> None:
    headers = {SPEAKS_OF: "Notification"}
    answer = stranger.post(EVENTS, content=b"x" * (512 * 1024 + 1), headers=headers)
    assert refused(answer) == (413, "body_too_large")
    answer = stranger.post(EVENTS, content=b"x" * 512 * 1024, headers=headers)
    assert refused(answer) == (422, "not_an_sns_message")


@pytest.mark.parametrize(
    ("inner", "status", "code"),
    [
        ("hello", 422, "not_an_event"),
        ("[" * 100_000, 422, "not_an_event"),
        (records(record(Stored(key="a", content=b"", bucket="payroll"))).decode(), 403, "bucket_not_allowed"),
        (records(record(Stored(key="../a", content=b""))).decode(), 422, "invalid_request"),
    ],
    ids=["text", "deep", "bucket of others", "out of the bucket"],
)
def test_a_believed_message_with_a_bad_event(
    stranger: httpx.Client, sns: SnsServer, nothing_happens: None, inner: str, status: int, code: str
) -> None:
    assert refused(post(stranger, sns.message(inner))) == (status, code)


def test_refusals_are_in_the_log(stranger: httpx.Client, api: ApiProcess, sns: SnsServer) -> None:
    post(stranger, sns.message("{}") | {"Signature": "AAAA"})
    lines = [json.loads(line) for line in Path(api.log).read_text().splitlines() if "sns_message_refused" in line]
    assert lines[-1]["code"] == "sns_not_verified"
