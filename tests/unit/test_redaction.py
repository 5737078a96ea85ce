"""What a line may not show is not in it, in whatever form it came; and what is no secret is left alone."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from pydantic import SecretStr

from config.redaction import HIDDEN, Redactor, mask_call_names, mask_key, mask_uris
from config.settings import Settings, WebhooksSettings, section_classes

ODD = 'p@ss/w+rd=%41 "quoted" \\ é\'x'  # what needs escaping in JSON, in Python's repr and in an address


def every_secret() -> tuple[Settings, dict[str, str]]:
    """Settings in which each SecretStr has a value of its own; name of the field -> what must not be seen."""
    secrets, sections = {}, {}
    for name, cls in section_classes().items():
        given: dict[str, object] = {}
        for field, about in cls.model_fields.items():
            value = f"{name}-{field}-S3cr3t"
            kind = str(about.annotation)
            if (name, field) == ("redis", "url"):
                given[field] = SecretStr(f"redis://someone:{value}@redis.example:6379/1")
            elif (name, field) == ("webhooks", "secrets"):
                value = base64.b64encode(f"{value}-and-24-bytes".encode()).decode()
                given[field] = (SecretStr(f"whsec_{value}"),)
            elif (name, field) == ("tracing", "headers"):
                given[field] = SecretStr(f"authorization=Bearer {value},x-tenant=calls")
            elif "SecretStr" in kind:
                given[field] = (SecretStr(value), SecretStr(f"{value}-2")) if "tuple" in kind else SecretStr(value)
            else:
                continue
            secrets[f"{name}.{field}"] = value
        sections[name] = cls(**given)  # type: ignore[arg-type]
    return Settings.model_validate(sections), secrets


def test_every_secret_of_the_settings_is_hidden_wherever_it_stands() -> None:
    settings, secrets = every_secret()
    assert len(secrets) >= 12
    redactor = Redactor.of(settings)
    for field, secret in secrets.items():
        for line in (
            f"connected with {secret}",
            json.dumps({"error": f"https://x.example/{quote(secret, safe='')}?a={quote_plus(secret)}"}),
            repr({"headers": [secret.encode()]}),
        ):
            assert secret not in redactor.text(line), field
            assert quote(secret, safe="") not in redactor.text(line), field
            assert HIDDEN in redactor.text(line), field
    assert "redis.example" in redactor.text("redis.example does not answer")


@pytest.mark.parametrize(
    "write",
    [str, repr, json.dumps, lambda text: json.dumps(text, ensure_ascii=False), lambda text: json.dumps(repr(text)),
     quote, quote_plus, lambda text: quote(text, safe="")],
)  # fmt: skip
def test_a_secret_is_known_in_every_spelling(write: object) -> None:
    assert callable(write)
    said = Redactor([ODD]).text(f"before {write(ODD)} after")
    assert said.replace('"', "").replace("'", "").replace("\\", "") == f"before {HIDDEN} after"


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer s3cr3t-value",
        "{'Authorization': b'Basic czNjcjN0LXZhbHVl'}",
        '{"headers": {"authorization": "s3cr3t-value"}}',
        r'{"error": "{\"api_key\": \"s3cr3t-value\"}"}',
        "Authorization: AWS4-HMAC-SHA256 Credential=s3cr3t-value/20260504/us-east-1/s3, Signature=s3cr3t-value",
        "https://b.example/k?X-Amz-Signature=s3cr3t-value&X-Amz-Security-Token=s3cr3t-value",
        "https://b.example/k?x-amz-credential=s3cr3t-value%2F20260504%2Fs3&X-Amz-Date=1",
        "x-amz-security-token:s3cr3t-value",
        "GET /v1/events/s3?token=s3cr3t-value HTTP/1.1",
        "POST /?Action=X&access_token=s3cr3t-value&y=1",
        "cannot reach redis://user:s3cr3t-value@10.0.0.1:6379/0",
        "cannot reach redis://:s3cr3t-value@10.0.0.1:6379/0",
        "signed with whsec_czNjcjN0LXZhbHVlczNjcjN0LXZhbHVl",
        "password=s3cr3t-value",
    ],
)
def test_what_stands_before_a_secret_tells_it(line: str) -> None:
    said = Redactor().text(line)
    assert "s3cr3t-value" not in said
    assert "czNjcjN0LXZhbHVl" not in said
    assert HIDDEN in said


@pytest.mark.parametrize(
    "line",
    [
        '{"action": "job_finished", "tokens": 3, "key": "2026/05/call.wav", "uri": "s3://calls/a@b.wav"}',
        "send the header Authorization: Bearer KEY",
        'Bearer realm="warmline"',
        "http://127.0.0.1:8000/v1/jobs?limit=3&before=1f0c",
        "This path needs a token of WARMLINE_TRIGGERS_TOKENS or an API key",
    ],
)
def test_what_is_no_secret_is_left_alone(line: str) -> None:
    assert Redactor(["an-other-secret"]).text(line) == line


def test_a_short_secret_is_hidden_where_it_stands_alone_and_a_shorter_one_never() -> None:
    redactor = Redactor(["redis", "abc"])
    assert redactor.text("password redis, redis-py, abc") == f"password {HIDDEN}, redis-py, abc"


def test_a_line_stays_json() -> None:
    line = json.dumps({"error": f"GET https://u:p@h/?token=x%22y says {ODD}", "headers": str({"token": "abc"})})
    assert json.loads(Redactor([ODD]).text(line))


def test_the_address_of_a_webhook_is_shown_up_to_its_path() -> None:
    settings = Settings(
        webhooks=WebhooksSettings(
            urls=("https://hooks.example/services/T0/B0/xyz",),
            secrets=(SecretStr("whsec_" + base64.b64encode(b"x" * 24).decode()),),
        )
    )
    said = Redactor.of(settings).text("posted to https://hooks.example/services/T0/B0/xyz")
    assert said == f"posted to https://hooks.example/{HIDDEN}"


def test_a_masked_key_is_always_the_same_and_keeps_its_extension() -> None:
    assert mask_key("tel/+4915112345678.WAV") == mask_key("tel/+4915112345678.WAV")
    assert mask_key("tel/+4915112345678.WAV").startswith("…")
    assert mask_key("tel/+4915112345678.WAV").endswith(".wav")
    assert mask_key("a") != mask_key("b")
    assert "5678" not in mask_key("call.5678")  # a number is no extension
    assert mask_key(mask_key("a.wav")) == mask_key("a.wav")


@pytest.mark.parametrize(
    "sentence",
    [
        "s3://calls/{}: there is no such key.",
        "There is no object whose key begins with s3://calls/{}.",
        "s3://calls/{} has 3,000 bytes or more; WARMLINE_S3_MAX_OBJECT_BYTES allows 5.",
        "('s3://calls/{}',)",
        "first s3://calls/{}, then s3://calls/{}",
        "s3://calls/{}",
        "s3://calls/{}\nand a second line",
    ],
)
@pytest.mark.parametrize("key", ["2026/+49 151 1234 (2).wav", "4915112345678", "a.b.mp3"])
def test_a_sentence_tells_of_a_call_by_its_masked_key(sentence: str, key: str) -> None:
    times = sentence.count("{}")
    said = mask_uris(sentence.format(*[key] * times))
    assert key not in said
    assert said == sentence.format(*[mask_key(key)] * times)


def test_fields_that_are_keys_are_masked_as_a_whole() -> None:
    key = "a: b, has c.wav"
    masked = mask_call_names(
        {
            "uri": f"s3://calls/{key}",
            "key": key,
            "keys": [key],
            "job_id": "1f",
            "n": 3,
            "more": {"uri": "s3://calls/"},
        }
    )
    assert masked == {
        "uri": f"s3://calls/{mask_key(key)}",
        "key": mask_key(key),
        "keys": [mask_key(key)],
        "job_id": "1f",
        "n": 3,
        "more": {"uri": "s3://calls/"},
    }
