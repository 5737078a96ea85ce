"""The servers that come along for trying out: their pods' own commands, run here with the real server."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import redis

from tests.kubernetes.objects import KUBERNETES, SHELL, one, pods
from tests.kubernetes.rendering import render
from tests.ports import choose_port
from tests.servers import require_server, running
from warmline.local.valkey import valkey_binary


@pytest.fixture
def command(tmp_path: Path) -> str:
    """What the pod of Redis runs, with paths of this machine."""
    require_server(valkey_binary)
    objects = render(KUBERNETES / "overlays" / "trial")
    pod = dict(pods([one(objects, "StatefulSet", "redis")]))["redis"]
    shell, flag, script = pod["containers"][0]["command"]
    assert (shell, flag) == ("sh", "-c")
    (tmp_path / "redis-password").write_text("a-password")
    (tmp_path / "data").mkdir()
    return str(
        script.replace("/run/secrets/warmline", str(tmp_path))
        .replace("--dir /data", f"--dir {tmp_path / 'data'}")
        .replace("valkey-server", str(valkey_binary()))
    )


def test_redis_keeps_all_it_takes_and_wants_the_password(command: str, tmp_path: Path) -> None:
    port = choose_port()
    started = [SHELL, "-c", command.replace(" --appendonly", f" --port {port} --bind 127.0.0.1 --appendonly", 1)]

    def answers() -> bool:
        with closing(redis.Redis(port=port, password="a-password")) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    with running(started, tmp_path / "log", answers) as process:
        # The shell has become the server, so that it gets SIGTERM, and its command line has no password.
        assert "a-password" not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert Path(f"/proc/{process.pid}/exe").readlink() == valkey_binary()
        with closing(redis.Redis(port=port, password="a-password", decode_responses=True)) as client:
            said = client.config_get("*")
            client.set("kept", "yes")
        assert said["appendonly"] == "yes"
        assert said["appendfsync"] == "always"
        assert said["maxmemory-policy"] == "noeviction"
        assert int(said["maxmemory"]) == 1024**3
        assert said["save"] == ""
        with closing(redis.Redis(port=port)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    with (
        running(started, tmp_path / "log", answers),
        closing(redis.Redis(port=port, password="a-password")) as client,
    ):
        assert client.get("kept") == b"yes"
