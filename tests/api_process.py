"""The API as its users get it: `python -m api.app` on a free port, with settings from the environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from config.settings import S3Settings
from tests.ports import choose_port
from tests.servers import running


@dataclass(frozen=True, kw_only=True)
class ApiProcess:
    """A running API."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def running_api(directory: Path, redis_url: str, s3: S3Settings, **variables: str) -> Iterator[ApiProcess]:
    """Runs the API while the block lasts; inside it, it answers. `variables` are more of its environment."""
    port = int(variables.get("WARMLINE_API_PORT", 0)) or choose_port()
    url, log = f"http://127.0.0.1:{port}", directory / "api.log"
    environment = {"WARMLINE_API_PORT": str(port), "WARMLINE_REDIS_URL": redis_url} | s3_variables(s3) | variables

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/live", trust_env=False).is_success
        except httpx.TransportError:
            return False

    with running(
        [sys.executable, "-m", "api.app"], log, answers, directory=directory, environment=environment
    ) as process:
        yield ApiProcess(url=url, process=process, log=log)


def s3_variables(settings: S3Settings) -> dict[str, str]:
    """The environment that says where the store is."""
    return {
        "WARMLINE_S3_ENDPOINT_URL": settings.endpoint_url,
        "WARMLINE_S3_ACCESS_KEY": settings.access_key.get_secret_value(),
        "WARMLINE_S3_SECRET_KEY": settings.secret_key.get_secret_value(),
    }
