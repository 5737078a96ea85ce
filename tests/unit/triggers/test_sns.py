"""Which addresses SNS's messages may name, what of them is visited, and how often."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from config.settings import SettingsError, TriggersSettings
from tests.servers import wait_until
from tests.sns_server import TOPIC, Listener, Signer, SnsServer, body_of, listening, running_sns
from warmline.triggers.sns import NotAnSnsMessage, Sns, SnsTopicNotAllowed, is_sns_message
from warmline.triggers.sns_certificates import KEPT, WAITING, Certificates, SnsNotVerified, SnsUnavailable

CHINA = "arn:aws-cn:sns:cn-north-1:123456789012:uploads"
NAME = "SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem"


@pytest.fixture(scope="module")
def server() -> Iterator[SnsServer]:
    with running_sns() as running:
        yield running


@pytest.fixture(autouse=True)
def as_it_was(server: SnsServer) -> None:
    server.requests.clear()
    server.status, server.location = 200, ""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """What leaves this machine goes by way of this, which hears the host's name and refuses."""
    with listening() as listener:
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, listener.url)
        yield listener


@pytest.fixture
def sns(server: SnsServer) -> Sns:
    """One whose host is the test's server."""
    return Sns(TriggersSettings(sns_topics=(TOPIC,), sns_hosts=(server.url,)))


@pytest.fixture
def aws() -> Sns:
    """One whose hosts are Amazon's."""
    return Sns(TriggersSettings(sns_topics=(TOPIC, CHINA)))


# Addresses of Amazon's


@pytest.mark.parametrize(
    ("topic", "host"),
    [(TOPIC, "sns.us-east-1.amazonaws.com"), (CHINA, "sns.cn-north-1.amazonaws.com.cn")],
)
def test_the_certificate_is_asked_of_the_topic_s_own_region(
    server: SnsServer, aws: Sns, proxy: Listener, topic: str, host: str
) -> None:
    message = server.message("{}", TopicArn=topic, SigningCertURL=f"https://{host}/{NAME}")
    with pytest.raises(SnsUnavailable):
        aws.verify(body_of(message))
    assert proxy.heard == [f"CONNECT {host}:443 HTTP/1.1"]


FOREIGN = [
    "http://sns.us-east-1.amazonaws.com/{}",
    "HTTPS://sns.us-east-1.amazonaws.com/{}",
    "https://sns.us-east-1.amazonaws.com.evil.example/{}",
    "https://sns.us-east-1.amazonaws.com@evil.example/{}",
    "https://sns.us-east-1.amazonaws.com:443/{}",
    "https://sns.us-east-1.amazonaws.com:8443/{}",
    "https://user:password@sns.us-east-1.amazonaws.com/{}",
    "https://evil.example/sns.us-east-1.amazonaws.com/{}",
    "https://evil.example/https://sns.us-east-1.amazonaws.com/{}",
    "https://sns.us-west-2.amazonaws.com/{}",
    "https://sns.us-east-1.amazonaws.com.cn/{}",
    "https://sns-us-east-1.amazonaws.com/{}",
    "https://snsxus-east-1.amazonaws.com/{}",
    "https://s3.us-east-1.amazonaws.com/bucket/{}",
    "https://sns.us-east-1.amazonaws.com\\@evil.example/{}",
    "https://sns.us-east-1.amazonaws.com/{}?x=1",
    "https://sns.us-east-1.amazonaws.com/{}#x",
    "https://sns.us-east-1.amazonaws.com/{}\n",
    "https://sns.us-east-1.amazonaws.com/../{}",
    "https://sns.us-east-1.amazonaws.com//evil.example/{}",
    "https://sns.us-east-1.amazonaws.com/%2e%2e/{}",
    "https://sns.us-east-1.amazonaws.com/?Action=Publish&x=/{}",
    "https://sns.us-east-1.amazonaws.com/cert.pem",
    "https://sns.us-east-1.amazonaws.com/",
    "https://sns.us-east-1.amazonaws.com",
    "file:///etc/passwd",
    "//sns.us-east-1.amazonaws.com/{}",
    "http://169.254.169.254/{}",
    "",
]


@pytest.mark.parametrize("url", FOREIGN)
def test_another_certificate_s_address_is_refused_before_anything_is_fetched(
    server: SnsServer, aws: Sns, proxy: Listener, url: str
) -> None:
    with pytest.raises(SnsNotVerified, match="SigningCertURL"):
        aws.verify(body_of(server.message("{}", SigningCertURL=url.format(NAME))))
    assert (proxy.heard, server.requests) == ([], [])


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com.evil.example/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com@evil.example/?Action=ConfirmSubscription",
        "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription",
        "http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_a_subscription_elsewhere_is_refused_before_anything_is_fetched(
    server: SnsServer, aws: Sns, proxy: Listener, url: str, kind: str
) -> None:
    certificate = f"https://sns.us-east-1.amazonaws.com/{NAME}"
    message = server.subscription(Type=kind, SigningCertURL=certificate, SubscribeURL=url)
    with pytest.raises(SnsNotVerified, match="SubscribeURL"):
        aws.verify(body_of(message))
    assert (proxy.heard, server.requests) == ([], [])


def test_a_loopback_address_is_not_reached_through_the_proxy(server: SnsServer, sns: Sns, proxy: Listener) -> None:
    assert sns.verify(body_of(server.message("{}"))).message == "{}"
    assert (proxy.heard, len(server.requests)) == ([], 1)


# Settings


@pytest.mark.parametrize(
    "topic",
    [
        "uploads",
        "arn:aws:sqs:us-east-1:123456789012:uploads",
        "arn:aws:sns:us-east-1:123:uploads",
        "arn:aws:sns:evil.example/:123456789012:uploads",
        "arn:evil:sns:us-east-1:123456789012:uploads",
        "arn:aws:sns:us-east-1:123456789012:*",
    ],
)
def test_a_topic_that_is_none_ends_the_start(topic: str) -> None:
    with pytest.raises(SettingsError, match="WARMLINE_TRIGGERS_SNS_TOPICS"):
        Sns(TriggersSettings(sns_topics=(topic,)))


@pytest.mark.parametrize(
    "host",
    [
        "sns.example",
        "http://sns.example",
        "http://10.0.0.1:80",
        "https://sns.example/",
        "https://sns.example/path",
        "https://user@sns.example",
        "https://sns.example?x",
        "ftp://127.0.0.1",
    ],
)
def test_a_host_that_is_none_ends_the_start(host: str) -> None:
    with pytest.raises(SettingsError, match="WARMLINE_TRIGGERS_SNS_HOSTS"):
        Sns(TriggersSettings(sns_hosts=(host,)))


@pytest.mark.parametrize("host", ["https://sns.example", "https://sns.example:8443", "http://[::1]:4566"])
def test_hosts_of_another_sns(host: str) -> None:
    Sns(TriggersSettings(sns_topics=(TOPIC,), sns_hosts=(host,)))


def test_without_topics_every_message_is_refused(server: SnsServer) -> None:
    with pytest.raises(SnsTopicNotAllowed, match="WARMLINE_TRIGGERS_SNS_TOPICS"):
        Sns(TriggersSettings(sns_hosts=(server.url,))).verify(body_of(server.message("{}")))
    assert server.requests == []


# Certificates


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Signer.new(days=(-30, -1)), "not valid today"),
        (lambda: Signer.new(days=(1, 30)), "not valid today"),
        (lambda: Signer.new(key=rsa.generate_private_key(65537, 1024)), "no RSA key of 2048 bits"),  # noqa: S505
        (lambda: Signer.new(key=ec.generate_private_key(ec.SECP256R1())), "no RSA key of 2048 bits"),
    ],
    ids=["expired", "not yet", "short", "elliptic"],
)
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_certificate_that_is_not_good_enough(
    server: SnsServer, sns: Sns, make: Any, why: str, version: str
) -> None:
    signer, path = make(), "/SimpleNotificationService-bad.pem"
    server.certificates[path] = signer.pem
    message = server.message("{}", SigningCertURL=f"{server.url}{path}", SignatureVersion=version)
    message["Signature"] = signer.signature(message)
    with pytest.raises(SnsNotVerified, match=why):
        sns.verify(body_of(message))


@pytest.mark.parametrize("pem", [b"", b"no certificate", b"x" * 17_000, b"-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_what_is_no_certificate(server: SnsServer, pem: bytes) -> None:
    path = "/SimpleNotificationService-none.pem"
    server.certificates[path] = pem
    with pytest.raises(SnsNotVerified):
        Certificates().key_at(f"{server.url}{path}")


def test_a_certificate_that_is_too_long_is_not_read_to_its_end(server: SnsServer) -> None:
    path = "/SimpleNotificationService-long.pem"
    server.certificates[path] = server.signer.pem + b"\n" * 20_000
    with pytest.raises(SnsNotVerified, match="more than a certificate has"):
        Certificates().key_at(f"{server.url}{path}")


def test_no_redirect_is_followed(server: SnsServer) -> None:
    with listening() as elsewhere:
        server.status, server.location = 302, f"{elsewhere.url}/{NAME}"
        with pytest.raises(SnsNotVerified, match="302"):
            Certificates().key_at(server.certificate_url)
        assert elsewhere.heard == []


@pytest.mark.parametrize(
    ("status", "error"), [(500, SnsUnavailable), (429, SnsUnavailable), (403, SnsNotVerified)]
)
def test_what_may_pass_is_told_from_what_will_not(server: SnsServer, status: int, error: type[Exception]) -> None:
    server.status = status
    with pytest.raises(error):
        Certificates().key_at(server.certificate_url)


def test_an_sns_that_is_not_there_may_come_back() -> None:
    with listening() as listener:
        gone = listener.url
    with pytest.raises(SnsUnavailable):
        Certificates().key_at(f"{gone}/{NAME}")


def test_a_certificate_is_fetched_once_and_again_when_it_is_old(server: SnsServer) -> None:
    for kept_seconds, fetches in ((60.0, 1), (0.0, 3)):
        server.requests.clear()
        certificates = Certificates(kept_seconds=kept_seconds)
        for _ in range(3):
            certificates.key_at(server.certificate_url)
        assert len(server.requests) == fetches


def test_threads_that_need_the_same_certificate_fetch_it_once(server: SnsServer) -> None:
    certificates = Certificates()
    threads = [threading.Thread(target=certificates.key_at, args=(server.certificate_url,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1


def test_a_certificate_that_is_kept_is_not_believed_after_its_time(server: SnsServer) -> None:
    path = "/SimpleNotificationService-short.pem"
    certificates = Certificates()

    def is_refused() -> bool:
        try:
            certificates.key_at(f"{server.url}{path}")
        except SnsNotVerified:
            return True
        return False

    for seconds in (1, 5, 30):  # on a busy machine it may be over before it was asked for
        server.certificates[path] = Signer.new(days=(-1, seconds / 86_400)).pem
        server.requests.clear()
        if not is_refused():
            break
    wait_until(is_refused, "the certificate is over")
    assert len(server.requests) == 1


def test_few_threads_wait_for_an_sns_that_hangs(server: SnsServer) -> None:
    # Given an SNS that does not answer, and one thread more than may wait for it
    certificates, refused = Certificates(), []

    def ask(number: int) -> None:
        try:
            certificates.key_at(f"{server.url}/SimpleNotificationService-{number}.pem")
        except SnsUnavailable:
            refused.append(number)
        except SnsNotVerified:
            pass  # there is none

    server.serves.clear()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1000, 1000 + WAITING + 1)]
    try:
        for thread in threads:
            thread.start()
        # Then that one is told at once to come again
        wait_until(lambda: len(refused) == 1, "one is refused")
    finally:
        server.serves.set()
        for thread in threads:
            thread.join()


def test_the_certificates_used_last_are_kept(server: SnsServer) -> None:
    urls = [f"{server.url}/SimpleNotificationService-{number}.pem" for number in range(KEPT + 1)]
    for url in urls:
        server.certificates[url.removeprefix(server.url)] = server.signer.pem
    certificates = Certificates()
    for url in [*urls[:KEPT], urls[0], urls[KEPT]]:  # the first one is used once more, so the second one goes
        certificates.key_at(url)
    server.requests.clear()
    for url in [urls[0], urls[1]]:
        certificates.key_at(url)
    assert server.requests == [urls[1].removeprefix(server.url)]


def test_a_certificate_that_is_not_good_is_not_kept(server: SnsServer) -> None:
    path = "/SimpleNotificationService-later.pem"
    server.certificates[path] = b"not yet"
    certificates = Certificates()
    with pytest.raises(SnsNotVerified):
        certificates.key_at(f"{server.url}{path}")
    server.certificates[path] = server.signer.pem
    certificates.key_at(f"{server.url}{path}")


# Forms


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b'{"Type":"Notification"}'],
    ids=["empty", "broken", "null", "list", "object", "deep list", "deep object", "not UTF-8", "only a type"],
)
def test_what_is_no_message(sns: Sns, content: bytes) -> None:
    with pytest.raises(NotAnSnsMessage):
        sns.verify(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"Type": "Notification"}', True),
        (b'{"Topic\\u0041rn": null}', True),
        (b'\xef\xbb\xbf{"TopicArn": "x"}', True),
        (b'{"Records": [{"TopicArn": "x"}]}', False),
        (b'{"Type": []}', False),
        (b"[" * 100_000, False),
        (b"{", False),
    ],
)
def test_what_has_sns_s_form_is_known_without_its_header(content: bytes, expected: bool) -> None:
    assert is_sns_message(content) is expected
