"""What uploads need of the one-machine stack: a real S3, a real Redis, and the part that follows S3's log."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
import psutil
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr

from config.settings import (
    RedisSettings,
    S3Settings,
    Settings,
    StackSettings,
    UploadsSettings,
    process_environment,
)
from tests.ports import choose_port, choose_seaweedfs_ports
from tests.servers import require_server, wait_until
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState
from warmline.local.directory import StackDirectory
from warmline.local.plan import S3_PROBE_SECONDS
from warmline.local.probes import s3_waits_for
from warmline.local.seaweedfs import SeaweedfsServer, seaweedfs_binary
from warmline.local.uploads import LogPosition, SignOfLife
from warmline.local.valkey import ValkeyServer, valkey_binary
from warmline.objects.store import ObjectStore

ORIGIN = "https://app.example"  # a web page that may upload
VERSIONED = "versioned-calls"


class UploadsStack:
    """S3 and the follower as processes that can be killed and started again; jobs are seen in the ledger."""

    def __init__(self, directory: Path) -> None:
        require_server(seaweedfs_binary)
        require_server(valkey_binary)
        self.directory = StackDirectory(directory)
        self.directory.make()
        self.server = SeaweedfsServer(
            directory=self.directory.of("s3"),
            ports=choose_seaweedfs_ports(),
            access_key=secrets.token_hex(10),
            secret_key=secrets.token_urlsafe(24),
        )
        self.server.write_configuration()
        self.valkey = ValkeyServer(
            directory=self.directory.of("valkey"), port=choose_port(), password=secrets.token_urlsafe(16)
        )
        self.valkey.write_configuration()
        self.settings = Settings(
            redis=RedisSettings(url=SecretStr(self.valkey.url()), timeout_seconds=1),
            s3=S3Settings(
                endpoint_url=self.server.endpoint_url,
                access_key=SecretStr(self.server.access_key),
                secret_key=SecretStr(self.server.secret_key),
                source_buckets=("calls", VERSIONED),
            ),
            uploads=UploadsSettings(cors_origins=(ORIGIN,)),
            stack=StackSettings(data_dir=directory),
        )
        self.client = self._client()
        self.log = self.directory.log_of("uploads")
        self._redis: subprocess.Popen[bytes] | None = None
        self._s3: subprocess.Popen[bytes] | None = None
        self._follower: subprocess.Popen[bytes] | None = None

    def _client(self) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=self.server.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.server.access_key,
            aws_secret_access_key=self.server.secret_key,
        )

    def start_redis(self) -> None:
        """Returns when it answers."""
        self._redis = self._run(self.valkey.command, self.valkey.directory / "server.log", Path.cwd())
        wait_until(self.valkey.answers, "Redis answers")

    def kill_redis(self) -> None:
        """SIGKILL."""
        assert self._redis is not None
        self._redis.kill()
        self._redis.wait()

    def start_s3(self) -> None:
        """Returns when the buckets are there."""
        self._s3 = self._run(
            self.server.command, self.server.directory / "server.log", self.server.working_directory
        )
        quick = self.settings.s3.model_copy(update={"timeout_seconds": S3_PROBE_SECONDS})
        with closing(ObjectStore(quick, attempts=1)) as store:
            wait_until(lambda: s3_waits_for(self.server, store, self.settings) is None, "S3 serves")

    def kill_s3(self) -> None:
        """SIGKILL."""
        assert self._s3 is not None
        self._s3.kill()
        self._s3.wait()
        self.server.remove_sockets()

    def start_follower(self, *, wait: bool = True) -> None:
        """Returns when it says that it follows the log."""
        LogPosition(self.directory.uploads_file).begin()
        own = [f"--filer={self.server.filer}", f"--home={self.server.working_directory}"]
        self._follower = self._run([sys.executable, "-m", "pollers.filer_log", *own], self.log, Path.cwd())
        if wait:
            self.wait_until_following()

    def wait_until_following(self) -> None:
        """Returns when the part is ready, as the stack sees it."""
        wait_until(lambda: self.waits_for() is None, f"the log is followed: {self.waits_for()}")

    def waits_for(self) -> str | None:
        """As the stack asks it."""
        assert self._follower is not None
        return SignOfLife(self.directory.uploads_sign_file).waits_for(self._follower.pid)

    def kill_follower(self) -> None:
        """SIGKILL, and what it left, as the stack's monitor does."""
        assert self._follower is not None
        children = psutil.Process(self._follower.pid).children()
        self._follower.kill()
        self._follower.wait()
        for child in children:
            child.kill()

    def stop_follower(self) -> int:
        """SIGTERM; its exit code."""
        assert self._follower is not None
        self._follower.send_signal(signal.SIGTERM)
        return self._follower.wait(60)

    def tails(self) -> list[psutil.Process]:
        """The processes that print the log."""
        assert self._follower is not None
        return psutil.Process(self._follower.pid).children()

    def jobs(self) -> list[JobState]:
        """All that are in the ledger."""
        with closing(Ledger.connect(self.settings.redis, self.settings.jobs)) as ledger:
            return list(ledger.list(limit=1000))

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that have jobs, sorted; once for each job."""
        keys = (state.job.source.key for state in self.jobs())
        return sorted(key for key in keys if key.startswith(prefix))

    def wait_for_jobs(self, prefix: str, keys: Collection[str], seconds: float = 60.0) -> None:
        """Returns when these keys have jobs, and none besides that begins so."""
        wanted = sorted(prefix + key for key in keys)
        wait_until(lambda: self.keys(prefix) == wanted, f"jobs for {wanted}", seconds=seconds)

    def put(self, *keys: str, body: bytes | None = None) -> None:
        """Puts an object for each key; its content is its key unless given."""
        for key in keys:
            self.client.put_object(Bucket="calls", Key=key, Body=key.encode() if body is None else body)

    def end(self) -> None:
        """Whatever runs."""
        self.client.close()  # an open connection would keep S3 from ending
        for process in (self._follower, self._s3, self._redis):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(60)
        self.server.remove_sockets()

    def _run(self, command: Sequence[str], log: Path, directory: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=process_environment(self.settings) if command[0] == sys.executable else {**os.environ},
            )


@contextmanager
def uploads_stack(directory: Path) -> Iterator[UploadsStack]:
    """With all of it running."""
    stack = UploadsStack(directory)
    try:
        stack.start_redis()
        stack.start_s3()
        stack.start_follower()
        yield stack
    finally:
        stack.end()
