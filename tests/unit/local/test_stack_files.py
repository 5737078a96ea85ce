"""The files of a stack: private, whole, remembered; and what clients read from them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import (
    ApiSettings,
    FlowerSettings,
    RedisSettings,
    S3Settings,
    Settings,
    StackSettings,
    WorkerSettings,
    load_settings,
    process_environment,
    to_variables,
)
from warmline.local.credentials import Credentials
from warmline.local.directory import StackDirectory
from warmline.local.lock import lock_holder, stack_lock
from warmline.local.parts import Part, StackError, StackRunning
from warmline.local.plan import plan_stack, write_clients_file
from warmline.local.private_files import write_private
from warmline.local.supervisor import configuration

ODD = 'pass\'word\\ with "quotes" #and = $signs'


def odd_settings(data: Path) -> Settings:
    return Settings(
        redis=RedisSettings(url=SecretStr("redis://:p%40ss@10.0.0.9:6380/3")),
        s3=S3Settings(secret_key=SecretStr(ODD), access_key=SecretStr("a"), source_buckets=("one", "two")),
        api=ApiSettings(keys=(SecretStr("k1"), SecretStr("k2"))),
        flower=FlowerSettings(password=SecretStr(ODD)),
        worker=WorkerSettings(lanes=("bulk",)),
        stack=StackSettings(data_dir=data, embed_redis=False, embed_s3=False),
    )


def test_a_private_file_is_its_owners_alone_from_the_first_byte(tmp_path: Path) -> None:
    os.umask(before := os.umask(0))
    try:
        os.umask(0)
        write_private(tmp_path / "secret", "one")
        write_private(tmp_path / "secret", "two")
    finally:
        os.umask(before)
    assert (tmp_path / "secret").read_text() == "two"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_credentials_are_made_once_and_shown_nowhere(tmp_path: Path) -> None:
    made = Credentials.keep(tmp_path / "credentials.json")
    assert Credentials.keep(tmp_path / "credentials.json") == made
    assert Credentials.keep(tmp_path / "others.json").redis_password != made.redis_password
    for secret in (made.redis_password, made.s3_secret_key, made.api_key, made.flower_password):
        assert len(secret) >= 32
        assert secret not in repr(made)


def test_broken_credentials_are_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text('{"redis_password": 1234567}')
    with pytest.raises(StackError, match=r"credentials.json is not readable.*remove it") as caught:
        Credentials.keep(tmp_path / "credentials.json")
    assert "1234567" not in str(caught.value)


def test_clients_read_the_addresses_of_a_running_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = odd_settings(tmp_path)
    write_clients_file(given, tmp_path / "stack.env")
    read = load_settings(WARMLINE_STACK_DATA_DIR=str(tmp_path))
    assert (read.redis, read.s3, read.api, read.flower) == (given.redis, given.s3, given.api, given.flower)
    assert stat.S_IMODE((tmp_path / "stack.env").stat().st_mode) == 0o600
    # But whoever is about to start a stack there does not take its predecessor's addresses for the user's wish
    fresh = load_settings(with_stack=False, WARMLINE_STACK_DATA_DIR=str(tmp_path))
    assert fresh.redis == RedisSettings()


def test_a_part_gets_exactly_the_settings_of_its_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = odd_settings(tmp_path)
    # Given a user's own environment and .env that say otherwise
    monkeypatch.setenv("WARMLINE_REDIS_URL", "redis://elsewhere")
    environment = process_environment(given, EXTRA="1")
    assert environment["EXTRA"] == "1"
    assert environment["PATH"] == os.environ["PATH"]
    (tmp_path / ".env").write_text("WARMLINE_API_PORT=9999\n")
    # When a process with that environment loads its settings, then they are the stack's
    for name in to_variables(given):
        monkeypatch.setenv(name, environment[name])
    assert load_settings() == given


def test_one_holder_a_lock(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path / "data")
    directory.make()
    assert lock_holder(directory.lock_file) is None
    with stack_lock(directory.lock_file):
        assert lock_holder(directory.lock_file) == os.getpid()
        with (
            pytest.raises(StackRunning, match=rf"already runs on {directory.path} \(process {os.getpid()}\)"),
            stack_lock(directory.lock_file),
        ):
            pass
    assert lock_holder(directory.lock_file) is None


def test_two_names_of_one_directory_are_one_stack(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    assert StackDirectory(tmp_path / "link").path == StackDirectory(tmp_path / "data").path


def test_a_directory_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="cannot be used: Not a directory; choose another with --data"):
        StackDirectory(tmp_path / "file" / "data").make()


def test_a_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path / ("long " * 30))
    directory.socket_file.parent.mkdir(mode=0o755)
    try:
        with pytest.raises(StackError, match="is not a private directory of yours"):
            directory.make_socket_directory()
    finally:
        directory.socket_file.parent.rmdir()


def test_what_supervisord_would_take_for_a_comment_is_refused(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path / "no ;comment")
    part = Part(name="api", command=["true"], directory=directory.path, address="", waiting_for=lambda _: None)
    with pytest.raises(StackError, match="choose a data directory without"):
        configuration(directory, [part])


def test_servers_of_ones_own_replace_the_embedded_ones(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    directory.make()
    given = odd_settings(tmp_path)
    plan = plan_stack(given, directory, lambda _: None)
    assert [part.name for part in plan.parts] == ["api", "worker", "flower"]
    assert plan.settings.redis == given.redis
    assert plan.settings.s3 == given.s3
    assert plan.settings.api.keys == given.api.keys
    assert plan.settings.flower.password == given.flower.password


def test_no_password_is_on_a_command_line_or_in_the_supervisors_file(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    directory.make()
    plan = plan_stack(Settings(stack=StackSettings(data_dir=tmp_path)), directory, lambda _: None)
    secrets = Credentials.keep(directory.credentials_file).model_dump().values()
    written = configuration(directory, plan.parts) + " ".join(part.address for part in plan.parts)
    assert [secret for secret in secrets if secret in written] == []
    assert plan.settings.api.keys
    assert plan.settings.flower.password.get_secret_value() in secrets
