"""Messages of Amazon SNS over HTTPS: which are believed, and what is done with them.

Anybody can post to a public address, and an SNS message carries no key of ours: its signature is all that speaks
for it. So nothing in it is believed before its topic is one of the settings', its certificate's address is one of
that topic's own, and the signature is right; and no other address that it names is ever visited. A confirmation
goes to an address made here of the topic and the token, never to the one that the message gives.
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlencode, urlsplit

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.settings import SettingsError, TriggersSettings
from warmline.jobs.errors import InvalidRequest, PermanentError
from warmline.triggers.sns_certificates import Certificates, SnsNotVerified, fetch, is_loopback

log = structlog.get_logger()

# SNS gives up after an hour of retries over HTTPS, its hard limit; a clock further off than this fails S3, too.
MAX_AGE: Final = timedelta(hours=2)

MessageType = Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]

_TOPIC = re.compile(r"arn:([a-z\-]+):sns:([a-z0-9\-]+):\d{12}:[A-Za-z0-9_\-]{1,256}(?:\.fifo)?")
_DOMAINS: Final = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
_CERTIFICATE_PATH = re.compile(r"/(?:[A-Za-z0-9_\-]+/){0,4}SimpleNotificationService-[A-Za-z0-9]{1,64}\.pem")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Final[dict[MessageType, Sequence[str]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}


class NotAnSnsMessage(InvalidRequest):
    """This is no message of Amazon SNS; is raw message delivery switched off?"""

    code = "not_an_sns_message"
    title = "Not an SNS message"


class SnsTopicNotAllowed(PermanentError):
    """The message's topic is not on the allow-list WARMLINE_TRIGGERS_SNS_TOPICS; add its ARN there."""

    code = "sns_topic_not_allowed"
    title = "SNS topic not allowed"


class Message(BaseModel):
    """A message as SNS sends it. What `Sns.verify` returned is believed; anything else is not."""

    model_config = ConfigDict(frozen=True)

    type: MessageType = Field(alias="Type")
    message_id: str = Field(alias="MessageId")
    topic_arn: str = Field(alias="TopicArn")
    message: str = Field(alias="Message")
    timestamp: str = Field(alias="Timestamp")
    signature_version: Literal["1", "2"] = Field(alias="SignatureVersion")
    signature: str = Field(alias="Signature")
    signing_cert_url: str = Field(alias="SigningCertURL")
    subject: str | None = Field(None, alias="Subject")
    token: str = Field("", alias="Token", max_length=2048)  # of confirmations, as the next one
    subscribe_url: str = Field("", alias="SubscribeURL")

    @property
    def signed_text(self) -> bytes:
        """What SNS signs: names and values, line by line, of the fields that are there."""
        fields = self.model_dump(by_alias=True)
        present = ((name, fields[name]) for name in _SIGNED[self.type] if fields[name] is not None)
        return "".join(f"{name}\n{value}\n" for name, value in present).encode()

    @property
    def sent_at(self) -> datetime:
        """When SNS published it. Raises NotAnSnsMessage."""
        try:
            sent = datetime.fromisoformat(self.timestamp)
        except ValueError:
            raise NotAnSnsMessage("The SNS message's Timestamp is no time.") from None
        return sent if sent.tzinfo else sent.replace(tzinfo=UTC)


class Sns:
    """Decides which messages are believed. Threads may share it."""

    def __init__(self, settings: TriggersSettings) -> None:
        """Raises SettingsError for a topic that is no ARN and for a host that is no https:// address."""
        hosts = tuple(_checked_host(host) for host in settings.sns_hosts)
        self._origins = {topic: hosts or (_aws_host(topic),) for topic in settings.sns_topics}
        self._certificates = Certificates()

    def verify(self, content: bytes, type_in_header: str | None = None) -> Message:
        """The message that a body holds, once it is sure who sent it.

        Raises NotAnSnsMessage, SnsTopicNotAllowed, SnsNotVerified, and SnsUnavailable where its certificate cannot
        be had now. `type_in_header` is what the request's header x-amz-sns-message-type says, where it has one.
        """
        message = _parse(content)
        if type_in_header is not None and type_in_header != message.type:
            raise NotAnSnsMessage("The SNS message's Type is not that of the header x-amz-sns-message-type.")
        if message.topic_arn not in self._origins:
            raise SnsTopicNotAllowed
        origins = self._origins[message.topic_arn]
        if not any(_is_certificate_of(origin, message.signing_cert_url) for origin in origins):
            raise SnsNotVerified("The SNS message's SigningCertURL is not an address of its topic's SNS.")
        if message.type != "Notification":
            self._confirmed_at(message)
        if abs(datetime.now(UTC) - message.sent_at) > MAX_AGE:
            raise SnsNotVerified("The SNS message's Timestamp is more than two hours off; is this clock right?")
        self._check_signature(message)
        return message

    def confirm(self, message: Message) -> None:
        """Confirms the subscription that a verified message offers.

        Raises SnsUnavailable, and SnsNotVerified where SNS does not know the token any more.
        """
        query = {"Action": "ConfirmSubscription", "TopicArn": message.topic_arn, "Token": message.token}
        answer = fetch(f"{self._confirmed_at(message)}/?{urlencode(query)}")
        if answer.status != 200:
            raise SnsNotVerified(f"SNS refused the confirmation ({answer.status}); subscribe once more.")
        log.info("sns_subscription_confirmed", topic=message.topic_arn)

    def _confirmed_at(self, message: Message) -> str:
        """The host that confirms the subscription, that of its SubscribeURL. Raises SnsNotVerified."""
        for origin in self._origins[message.topic_arn]:
            if message.token and message.subscribe_url.startswith(f"{origin}/"):
                return origin
        raise SnsNotVerified(
            "The SNS message's Token is missing, or its SubscribeURL is not one of its topic's SNS."
        )

    def _check_signature(self, message: Message) -> None:
        try:
            signature = base64.b64decode(message.signature, validate=True)
        except ValueError:
            raise SnsNotVerified("The SNS message's Signature is not base64.") from None
        key = self._certificates.key_at(message.signing_cert_url)
        digest = SHA256() if message.signature_version == "2" else SHA1()  # noqa: S303 - version 1 is that
        try:
            key.verify(signature, message.signed_text, PKCS1v15(), digest)
        except InvalidSignature:
            raise SnsNotVerified("The SNS message's Signature is not that of its content.") from None


def is_sns_message(content: bytes) -> bool:
    """True for a body that has SNS's form, signed or not, whoever brings it."""
    try:
        found = json.loads(content.decode("utf-8-sig"))  # as the decoder of events does
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and ("TopicArn" in found or found.get("Type") in list(_SIGNED))


def _parse(content: bytes) -> Message:
    try:
        return Message.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the body"
        raise NotAnSnsMessage(
            f"This is no message of Amazon SNS ({where}: {fault['msg']}); is raw message delivery switched off?"
        ) from None


def _is_certificate_of(origin: str, url: str) -> bool:
    """Compared as text: nothing that another parser of URLs could read in another way gets through."""
    return url.startswith(origin) and _CERTIFICATE_PATH.fullmatch(url[len(origin) :]) is not None


def _aws_host(topic: str) -> str:
    """Where the SNS of a topic's region is. Raises SettingsError."""
    found = _TOPIC.fullmatch(topic)
    if found is None or found[1] not in _DOMAINS:
        raise SettingsError(
            f"WARMLINE_TRIGGERS_SNS_TOPICS has {topic!r}, which is no arn:aws:sns:REGION:ACCOUNT:NAME "
            f"(partitions: {', '.join(_DOMAINS)}; for another SNS set WARMLINE_TRIGGERS_SNS_HOSTS)"
        )
    return f"https://sns.{found[2]}.{_DOMAINS[found[1]]}"


def _checked_host(host: str) -> str:
    """An entry of the settings, https://host[:port], or http:// on this machine. Raises SettingsError."""
    fits = re.fullmatch(r"https?://([A-Za-z0-9.\-]+|\[[0-9a-f:]+\])(:\d{1,5})?", host)
    parts = urlsplit(host if fits else "")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return host
    raise SettingsError(
        f"WARMLINE_TRIGGERS_SNS_HOSTS has {host!r}, which is no https://host or https://host:port "
        "(http:// goes for this machine alone)"
    )
