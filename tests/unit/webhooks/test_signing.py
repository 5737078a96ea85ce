"""Signatures, judged by the library that receivers use and by the words of the specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from config.settings import WebhooksSettings
from tests.webhook_receiver import SECRET
from warmline.webhooks.signing import Signer, new_secret

BODY = '{"type":"job.succeeded","data":{"key":"Grüße.wav"}}'


def test_the_library_s_own_receiver_accepts_it_and_nothing_that_was_changed() -> None:
    headers = Signer([SecretStr(SECRET)]).headers("msg_1", datetime.now(UTC), BODY)
    assert Webhook(SECRET).verify(BODY, headers)["data"] == {"key": "Grüße.wav"}
    for changed in ({"webhook-id": "msg_2"}, {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(BODY, headers | changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + " ", headers)
    old = Signer([SecretStr(SECRET)]).headers("msg_1", datetime.now(UTC) - timedelta(minutes=6), BODY)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(BODY, old)


def test_it_is_what_the_specification_says() -> None:
    at = datetime(2026, 11, 23, 6, 0, 0, 999_000, tzinfo=UTC)
    headers = Signer([SecretStr(SECRET)]).headers("msg_1", at, BODY)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"msg_1.{int(at.timestamp())}.{BODY}".encode()
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_while_secrets_change_receivers_with_either_accept_it() -> None:
    new, stranger = new_secret(), new_secret()
    headers = Signer([SecretStr(new), SecretStr(SECRET)]).headers("msg_1", datetime.now(UTC), BODY)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (new, SECRET):
        Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(stranger).verify(BODY, headers)


def test_a_new_secret_is_one_that_the_settings_take() -> None:
    made = {new_secret() for _ in range(5)}
    assert len(made) == 5
    assert WebhooksSettings(secrets=tuple(map(SecretStr, made))).secrets
