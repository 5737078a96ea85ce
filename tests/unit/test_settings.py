"""Settings: what is unknown or bad is named, what is secret stays so, and example.env tells the truth."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.connection import parse_url

from config.settings import (
    STACK_ENV_FILE,
    SettingsError,
    known_variables,
    load_settings,
    process_environment,
    secret_files,
    section_classes,
    to_variables,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _empty_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_unknown_variable_is_an_error_that_names_it_and_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_REDIS_URI", "redis://x")
    with pytest.raises(SettingsError, match=r"WARMLINE_REDIS_URI is not a setting.*WARMLINE_REDIS_URL"):
        load_settings()


def test_an_unknown_variable_in_dotenv_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WARMLINE_MODLE=mini\nPATH_OF_SOMEBODY_ELSE=1\n")
    with pytest.raises(SettingsError, match=r"WARMLINE_MODLE .*WARMLINE_MODEL"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WARMLINE_API_PORT", "99999"),
        ("WARMLINE_RESULTS", "nowhere"),
        ("WARMLINE_WORKER_LANES", "live,express"),
        ("WARMLINE_AUDIO_WINDOW_SECONDS", "five"),
        ("WARMLINE_DEVICE", "tpu"),
        ("WARMLINE_JOBS_RECONCILE_PREFIXES", "s3://calls/a/,calls/b/"),
    ],
)
def test_a_bad_value_is_an_error_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "calls.example.com", "ftp://calls.example.com", "http://"])
def test_an_address_of_the_api_that_no_client_can_use_is_an_error(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("WARMLINE_API_URL", url)
    with pytest.raises(SettingsError, match="WARMLINE_API_URL has a bad value: not of the form http://host"):
        load_settings()


def test_a_bad_value_is_not_repeated_because_it_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_JOBS_MAX_BATCH", "hunter2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["amqp", "sqs", "memory", "sentinel", "unix", "http"])
def test_another_broker_than_redis_is_an_error_in_a_sentence(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("WARMLINE_REDIS_URL", f"{scheme}://guest:hunter2@127.0.0.1:5672//")
    with pytest.raises(
        SettingsError, match=rf"WARMLINE_REDIS_URL .*{scheme}://.*use redis:// or rediss://"
    ) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["hunter2@redis:6379", "", "redis", "hunter2 :// x"])
def test_what_is_no_address_of_redis_is_an_error_that_says_how_one_looks(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("WARMLINE_REDIS_URL", url)
    with pytest.raises(
        SettingsError, match=r"WARMLINE_REDIS_URL .*redis://:password@host:port/database"
    ) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_the_environment_wins_over_dotenv_and_dotenv_over_a_running_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given all three sources
    (tmp_path / ".warmline").mkdir()
    (tmp_path / ".warmline" / STACK_ENV_FILE).write_text("WARMLINE_API_PORT=1001\nWARMLINE_S3_REGION=stack\n")
    (tmp_path / ".env").write_text("WARMLINE_API_PORT=1002\nWARMLINE_S3_RESULTS_BUCKET=dotenv\n")
    monkeypatch.setenv("WARMLINE_API_PORT", "1003")
    # When they are read
    settings = load_settings()
    # Then each variable comes from the strongest source that has it, and an override beats them all
    assert settings.api.port == 1003
    assert settings.s3.region == "stack"
    assert settings.s3.results_bucket == "dotenv"
    assert load_settings(WARMLINE_API_PORT="1004").api.port == 1004


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_API_KEYS", "one, two")
    monkeypatch.setenv("WARMLINE_S3_SOURCE_BUCKETS", "")
    settings = load_settings()
    assert [key.get_secret_value() for key in settings.api.keys] == ["one", "two"]
    assert settings.s3.source_buckets == ()


def test_secrets_do_not_show_in_a_settings_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_REDIS_URL", "redis://:hunter2@localhost/0")
    monkeypatch.setenv("WARMLINE_S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("WARMLINE_API_KEYS", "hunter2")
    assert "hunter2" not in repr(load_settings())


def test_reports_may_not_land_among_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_S3_RESULTS_BUCKET", "calls")
    with pytest.raises(SettingsError, match="WARMLINE_S3_RESULTS_BUCKET"):
        load_settings()


def test_a_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given secrets as Docker and Kubernetes hand them out, one of them a list, one named in .env
    for name, text in {"redis": "p@ss/w:ord%\n", "keys": "one,two\r\n", "token": "hunter2"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("WARMLINE_REDIS_PASSWORD_FILE", str(tmp_path / "redis"))
    monkeypatch.setenv("WARMLINE_API_KEYS_FILE", str(tmp_path / "keys"))
    (tmp_path / ".env").write_text("WARMLINE_METRICS_TOKEN_FILE=token\n")
    # And one that somebody's deployment hands on empty
    monkeypatch.setenv("WARMLINE_S3_SECRET_KEY_FILE", "")
    # When they are read
    settings = load_settings(WARMLINE_REDIS_URL="redis://redis:6379/1")
    # Then they are what the files hold, without the last line's end, and a child process gets them
    assert settings.redis.password.get_secret_value() == "p@ss/w:ord%"
    assert [key.get_secret_value() for key in settings.api.keys] == ["one", "two"]
    assert settings.metrics.token.get_secret_value() == "hunter2"
    assert settings.s3.secret_key.get_secret_value() == ""
    environment = process_environment(settings)
    assert environment["WARMLINE_API_KEYS"] == "one,two"
    assert not environment.keys() & secret_files().keys()
    # And what a command line says is stronger than a file
    assert load_settings(WARMLINE_METRICS_TOKEN="mine").metrics.token.get_secret_value() == "mine"


def test_every_secret_and_nothing_else_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    named = r"(?<!MASK_)KEYS?|TOKENS?|PASSWORD|SECRETS?|HEADERS|REDIS_URL"
    expected = {name for name in known_variables() if re.search(rf"_({named})$", name)}
    assert set(secret_files().values()) == expected
    assert not secret_files().keys() & known_variables().keys()
    monkeypatch.setenv("WARMLINE_MODEL_FILE", "/run/secrets/model")
    with pytest.raises(SettingsError, match=r"WARMLINE_MODEL_FILE is not a setting"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\nhunter3\n", "more than one line"),
        (b"hunter2\x00", "more than one line, or characters"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"hunter2" * 10_000, "longer than 65536 bytes"),
    ],
)
def test_a_secret_that_cannot_be_read_is_an_error_that_names_variable_and_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("WARMLINE_FLOWER_PASSWORD_FILE", str(file))
    with pytest.raises(SettingsError, match=f"WARMLINE_FLOWER_PASSWORD_FILE names {file}.*{sentence}") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_a_secret_that_is_set_twice_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    monkeypatch.setenv("WARMLINE_API_KEYS_FILE", str(tmp_path / "key"))
    (tmp_path / ".env").write_text("WARMLINE_API_KEYS=hunter3\n")
    with pytest.raises(SettingsError, match="WARMLINE_API_KEYS and WARMLINE_API_KEYS_FILE are both set") as caught:
        load_settings()
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis:6379/0", "redis://:p%40ss%2Fw%3Aord%25@redis:6379/0"),
        (
            "rediss://me@[::1]:6379/2?ssl_cert_reqs=none",
            "rediss://me:p%40ss%2Fw%3Aord%25@[::1]:6379/2?ssl_cert_reqs=none",
        ),
        ("redis://:its-own@redis/0", "redis://:its-own@redis/0"),
        ("redis://me:@redis/0", "redis://me:@redis/0"),
    ],
)
def test_the_password_of_redis_gets_into_a_url_that_has_none(
    monkeypatch: pytest.MonkeyPatch, url: str, expected: str
) -> None:
    monkeypatch.setenv("WARMLINE_REDIS_PASSWORD", "p@ss/w:ord%")
    settings = load_settings(WARMLINE_REDIS_URL=url)
    assert settings.redis.url.get_secret_value() == expected
    again = to_variables(settings)
    assert load_settings(**again).redis == settings.redis
    assert parse_url(expected).get("password") in {"p@ss/w:ord%", "its-own", None, ""}


def test_the_password_of_redis_gets_into_the_usual_url_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_REDIS_PASSWORD", "hunter2")
    assert load_settings().redis.url.get_secret_value() == "redis://:hunter2@127.0.0.1:6379/0"
    assert "hunter2" not in repr(load_settings())


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


@pytest.mark.parametrize(
    ("urls", "variables", "sentence"),
    [
        ("https://x/", {}, "WARMLINE_WEBHOOKS_URLS needs WARMLINE_WEBHOOKS_SECRETS"),
        ("http://x/", {"SECRETS": SECRET}, "WARMLINE_WEBHOOKS_ALLOW_PRIVATE"),
        ("HTTP://x/", {"SECRETS": SECRET}, "WARMLINE_WEBHOOKS_ALLOW_PRIVATE"),
        ("https://x/,x/hook", {}, "address 2 is not of the form"),
        ("https:///hook", {}, "address 1 is not of the form"),
        ("ftp://x/", {}, "address 1 is not of the form"),
        ("https://x/a b", {}, "address 1 is not of the form"),
        ("https://x:99999/", {}, "address 1 cannot be read"),
        ("https://[x/", {}, "address 1 cannot be read"),
        ("https://me:hunter2@x/", {}, "has a user or a password"),
        ("https://x/#part", {}, "fragment"),
        (",".join(f"https://x/{n}" for n in range(17)), {}, "16 addresses"),
        ("https://x/", {"SECRETS": "hunter2"}, "secret 1 is not whsec_"),
        ("https://x/", {"SECRETS": f"{SECRET},whsec_aHVudGVyMg=="}, "secret 2 is not whsec_"),
        ("https://x/", {"SECRETS": SECRET[6:]}, "secret 1 is not whsec_"),
        ("https://x/", {"EVENTS": "job.done"}, "WARMLINE_WEBHOOKS_EVENTS"),
    ],
)
def test_webhooks_that_cannot_work_are_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, urls: str, variables: dict[str, str], sentence: str
) -> None:
    monkeypatch.setenv("WARMLINE_WEBHOOKS_URLS", urls)
    for name, value in variables.items():
        monkeypatch.setenv(f"WARMLINE_WEBHOOKS_{name}", value)
    with pytest.raises(SettingsError, match=sentence) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_webhooks_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_WEBHOOKS_URLS", "http://10.0.0.1:8080/a?b=c, https://x/,https://x/")
    monkeypatch.setenv("WARMLINE_WEBHOOKS_SECRETS", SECRET)
    monkeypatch.setenv("WARMLINE_WEBHOOKS_ALLOW_PRIVATE", "true")
    settings = load_settings()
    assert settings.webhooks.urls == ("http://10.0.0.1:8080/a?b=c", "https://x/")
    assert SECRET not in repr(settings)


def test_example_env_lists_every_variable_with_its_default_and_a_reason() -> None:
    # Given the file as a newcomer reads it: a comment line, then `#NAME=default`
    lines = (ROOT / "config" / "example.env").read_text().splitlines()
    found = {}
    for comment, line in itertools.pairwise(lines):
        if match := re.fullmatch(r"#(WARMLINE_\w+)=(.*)", line):
            assert comment.startswith("# "), f"{match[1]} has no line that says why"
            found[match[1]] = match[2]
    # Then it names exactly the known variables, each with the default that the code has
    assert found.keys() == known_variables().keys()
    for name, (section, field) in known_variables().items():
        default = section_classes()[section].model_fields[field].default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        written = ",".join(default) if isinstance(default, tuple) else str(default)
        assert found[name].lower() == written.lower(), name
