"""A Redis and an S3 of a benchmark's own, as `warmline up` runs them, on the machine that is measured."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
from pydantic import SecretStr

from benchmarks.subjects import NotMeasured
from config.settings import S3Settings, Settings, process_environment
from warmline.local.ports import choose_port
from warmline.local.seaweedfs import CLEARED_VARIABLES, SeaweedfsPorts, SeaweedfsServer
from warmline.local.valkey import ValkeyServer
from warmline.objects.store import ObjectStore

START_SECONDS = 30.0


@contextmanager
def running_redis(directory: Path) -> Iterator[tuple[ValkeyServer, psutil.Process]]:
    """A Valkey: what is written is on the disk. Raises NotMeasured, ServerMissing."""
    server = ValkeyServer(directory=directory, port=choose_port(), password=secrets.token_urlsafe(16))
    server.write_configuration()
    with _running(server, directory) as process:
        yield server, process


@contextmanager
def running_s3(directory: Path) -> Iterator[tuple[S3Settings, psutil.Process]]:
    """A SeaweedFS with the buckets that the settings name. Raises NotMeasured, ServerMissing."""
    server = SeaweedfsServer(
        directory=directory,
        ports=SeaweedfsPorts.choose(),
        access_key=secrets.token_hex(10),
        secret_key=secrets.token_urlsafe(24),
    )
    server.write_configuration()
    settings = S3Settings(
        endpoint_url=server.endpoint_url,
        access_key=SecretStr(server.access_key),
        secret_key=SecretStr(server.secret_key),
    )
    try:
        with _running(server, server.working_directory) as process:
            with closing(ObjectStore(settings)) as store:
                for bucket in (*settings.source_buckets, settings.results_bucket):
                    store.ensure_bucket(bucket)
            yield settings, process
    finally:
        server.remove_sockets()


@contextmanager
def _running(server: ValkeyServer | SeaweedfsServer, directory: Path) -> Iterator[psutil.Process]:
    environment = process_environment(Settings(), **dict.fromkeys(CLEARED_VARIABLES, ""))
    log = directory / "benchmark.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotMeasured(f"{server!r} does not serve: {log.read_text(errors='replace')[-400:]}")
            time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
