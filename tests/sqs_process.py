"""The poller as its users get it: `python -m pollers.app`, with settings from the environment; and its ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.settings import JobsSettings, RedisSettings, Settings, to_variables
from tests.servers import running, wait_until
from warmline.jobs.upload_ledger import UploadLedger

COMMAND = [sys.executable, "-m", "pollers.app"]


@dataclass(frozen=True, kw_only=True)
class SqsProcess:
    """A running poller."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self, action: str) -> list[dict[str, Any]]:
        """The log's lines with this action."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["action"] == action]

    def wait_for(self, action: str, *, seconds: float = 60.0) -> dict[str, Any]:
        """The first line with this action."""
        wait_until(lambda: bool(self.lines(action)), f"the poller says {action}", seconds=seconds)
        return self.lines(action)[0]


@contextmanager
def running_sqs(
    directory: Path, settings: Settings, *arguments: str, until: str = "sqs_ready"
) -> Iterator[SqsProcess]:
    """Runs a poller while the block lasts; inside it, it has said `until`."""
    log = directory / "sqs.log"

    def says() -> bool:
        return f'"{until}"' in log.read_text()

    command = [*COMMAND, *arguments]
    with running(command, log, says, environment=to_variables(settings)) as process:
        yield SqsProcess(process=process, log=log)


def uploaded(settings: RedisSettings) -> list[tuple[str, str]]:
    """Bucket and key of every job in the ledger, sorted."""
    with ExitStack() as stack:
        ledger = UploadLedger.connect(settings, JobsSettings())
        stack.callback(ledger.close)
        jobs: list[Any] = []
        while page := list(ledger.list(limit=1000, before=jobs[-1].job.id if jobs else None)):
            jobs.extend(page)
    return sorted((state.job.source.bucket, state.job.source.key) for state in jobs)


def record(bucket: str, key: str, etag: str = "d41d8cd98f00b204e9800998ecf8427e", **more: str) -> dict[str, Any]:
    """A record as AWS writes it; `sequencer` is what makes a look at the store unnecessary."""
    return {
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2026-01-02T03:04:05.678Z", "eventName": "ObjectCreated:Put",
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
               "object": {"key": key, "size": 4, "eTag": etag} | more},
    }  # fmt: skip


def body(records: Sequence[Any]) -> str:
    """A message of S3."""
    return json.dumps({"Records": list(records)})
