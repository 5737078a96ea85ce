"""Settings: what is unknown or bad is named, what is secret stays so, and example.env tells the truth."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import STACK_ENV_FILE, SettingsError, known_variables, load_settings, section_classes

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


def test_a_bad_value_is_not_repeated_because_it_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMLINE_JOBS_MAX_BATCH", "hunter2")
    with pytest.raises(SettingsError) as caught:
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
