"""The servers of the stack as Warmline configures them: real ones, started by the session's fixtures."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from contextlib import closing
from itertools import product
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import S3Settings
from tests.servers import RedisServer, is_over, running_redis, running_s3, wait_until
from warmline.jobs.errors import ObjectForbidden
from warmline.jobs.records import Source
from warmline.local.valkey import ValkeyServer
from warmline.objects.store import ObjectStore


def process_with(argument: str) -> psutil.Process:
    """The process that has this on its command line."""
    lines = ((process, process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return next(process for process, line in lines if any(argument in word for word in line))


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    """The addresses and ports that it listens on."""
    connections = process.net_connections("tcp")
    return [(each.laddr.ip, each.laddr.port) for each in connections if each.status == "LISTEN"]


def test_the_ledger_survives_what_it_acknowledged(redis_server: RedisServer) -> None:
    client = redis.Redis.from_url(redis_server.url())
    settings = {
        name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy", "save")
    }
    client.close()
    assert settings == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}


def test_redis_listens_on_loopback_only_and_wants_the_password(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        assert listening(process_with(str(tmp_path))) == [("127.0.0.1", server.port)]
        stranger = redis.Redis(host=server.host, port=server.port, retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        stranger.close()


def test_a_wrong_password_and_a_silent_port_do_not_answer(redis_server: RedisServer, tmp_path: Path) -> None:
    right = ValkeyServer(directory=tmp_path, port=redis_server.port, password=redis_server.password)
    wrong = ValkeyServer(directory=tmp_path, port=redis_server.port, password="wrong")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = ValkeyServer(directory=tmp_path, port=mute.getsockname()[1], password="any")
        assert (right.answers(), wrong.answers(), silent.answers(0.1)) == (True, False, False)


def test_the_password_is_on_no_command_line_and_in_no_readable_file(tmp_path: Path) -> None:
    with running_redis(tmp_path / "a directory") as server:
        lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        configuration = tmp_path / "a directory" / "valkey.conf"
        assert server.password in configuration.read_text()
        assert configuration.stat().st_mode & 0o777 == 0o600
        assert not [line for line in lines if server.password in line]


def test_every_test_has_a_database_of_its_own(redis_server: RedisServer, redis_url: str) -> None:
    other = redis.Redis.from_url(redis_server.new_database_url())
    mine = redis.Redis.from_url(redis_url)
    other.set("left", "behind")
    assert mine.dbsize() == 0
    for client in (mine, other):
        client.close()


def test_s3_keeps_what_it_is_given(s3_settings: S3Settings, s3_prefix: str, tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(b"RIFF" * 1000)
    call = Source(bucket="calls", key=f"{s3_prefix}a call.wav")
    with closing(ObjectStore(s3_settings)) as store:
        store.put_call(call.bucket, call.key, tmp_path / "call.wav")
        assert list(store.list_keys("calls", s3_prefix)) == [call]


def test_a_proxy_does_not_come_between_us_and_our_own_s3(
    s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with closing(ObjectStore(s3_settings)) as store:
        store.ping()


def test_s3_refuses_other_keys(s3_settings: S3Settings, new_bucket: Callable[[], str]) -> None:
    bucket = new_bucket()
    stranger = s3_settings.model_copy(update={"secret_key": type(s3_settings.secret_key)("wrong")})
    with closing(ObjectStore(stranger)) as store, pytest.raises(ObjectForbidden):
        store.ensure_bucket(bucket)


def test_s3_is_closed_to_others_on_every_port(tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(b"secret" * 1000)
    with running_s3(tmp_path / "s3") as settings, closing(ObjectStore(settings)) as store:
        # Given a server of our own with a call in it
        store.ensure_bucket("calls")
        call = store.put_call("calls", "call.wav", tmp_path / "call.wav")
        server = process_with(f"-s3.port={settings.endpoint_url.rsplit(':', 1)[1]}")
        wait_until(lambda: len(listening(server)) == 10, "five parts listen, each with its gRPC twin")
        addresses = listening(server)
        # Then all its ports are on loopback
        assert {host for host, _ in addresses} == {"127.0.0.1"}
        # And none of those that speak HTTP lets a stranger read, replace or delete the call
        for port in [port for _, port in addresses if port < 32_000]:
            for method, path in product(("GET", "PUT", "DELETE"), ("/buckets/calls/call.wav", "/calls/call.wav")):
                status = _status(port, method, path)
                assert status is None or status >= 400, (port, method, path, status)
        assert store.head(call).size_bytes == 6000
    # And nothing of it is left, the sockets in /tmp included
    assert is_over(server)
    sockets = {path.stem.rsplit("-", 1)[1] for path in Path("/tmp").glob("seaweedfs-*.sock")}  # noqa: S108
    assert not sockets & {str(port) for _, port in addresses}


def _status(port: int, method: str, path: str) -> int | None:
    """What a request without keys is answered; None where the port does not speak HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request(method, path, body=b"" if method == "PUT" else None)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
