"""A real SeaweedFS posts to a real API by its filer's webhook: what is put there has its job, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import boto3
import pytest
from mypy_boto3_s3.client import S3Client
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings
from tests.api_process import ApiProcess, running_api
from tests.ports import choose_port
from tests.servers import RedisServer, running_s3, wait_until
from warmline.jobs.ledger import Ledger

TOKEN = "token-of-the-filer"
BUCKET = "calls"


@dataclass(frozen=True)
class Stack:
    """SeaweedFS, the API that it posts to, and the ledger behind that."""

    s3: S3Client
    api: ApiProcess
    ledger: Ledger

    def keys(self) -> list[str]:
        """Of all jobs, in order."""
        return sorted(state.job.source.key for state in self.ledger.list(limit=1000))

    def wait_for(self, *keys: str) -> None:
        """Returns when just these have their jobs."""
        wait_until(lambda: self.keys() == sorted(keys), f"jobs for {keys}, not {self.keys()}")

    def wait_for_outcomes(self, key: str, *outcomes: str) -> None:
        """Returns when the API has taken so many events of this key, and made this of them."""
        wait_until(lambda: self.outcomes(key) == list(outcomes), f"{outcomes}, not {self.outcomes(key)}")

    def outcomes(self, key: str) -> list[str]:
        """What the API's log says became of each event of this key that announced an upload."""
        lines = [json.loads(line) for line in self.api.log.read_text().splitlines() if "upload_taken" in line]
        return [line["outcome"] for line in lines if line["uri"] == f"s3://{BUCKET}/{key}"]

    def sentinel(self, name: str) -> str:
        """Puts an object of this name: what was put before it has been announced when this has its job."""
        self.s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())
        return name


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Stack]:
    directory, port = tmp_path_factory.mktemp("webhook"), choose_port()
    redis_url = redis_server.new_database_url()
    notification = f"""
[notification.webhook]
enabled = true
endpoint = "http://127.0.0.1:{port}/v1/events/s3"
bearer_token = "{TOKEN}"
timeout_seconds = 10
max_retries = 3
backoff_seconds = 3
max_backoff_seconds = 30
event_types = ["create", "update", "delete", "rename"]
path_prefixes = ["/buckets/{BUCKET}/"]
"""
    with (
        running_s3(directory / "s3", notification=notification) as s3_settings,
        running_api(
            directory,
            redis_url,
            s3_settings,
            WARMLINE_API_PORT=str(port),
            WARMLINE_API_KEYS="key-of-somebody-else",
            WARMLINE_TRIGGERS_TOKENS=TOKEN,
        ) as api,
        closing(Ledger.connect(RedisSettings(url=SecretStr(redis_url)), JobsSettings())) as ledger,
        closing(
            boto3.client(
                "s3",
                endpoint_url=s3_settings.endpoint_url,
                region_name=s3_settings.region,
                aws_access_key_id=s3_settings.access_key.get_secret_value(),
                aws_secret_access_key=s3_settings.secret_key.get_secret_value(),
            )
        ) as s3,
    ):
        s3.create_bucket(Bucket=BUCKET)
        yield Stack(s3, api, ledger)


def test_what_is_put_has_its_job_and_what_is_not_new_has_none(stack: Stack) -> None:
    # Given a recording that is put, when the webhook has told of it, then there is one job
    key = "2026/05/höre + & 1%.wav"
    stack.s3.put_object(Bucket=BUCKET, Key=key, Body=b"first", Metadata={"callid": "4711"})
    stack.wait_for(key)
    # When it is overwritten, then the new content has a job of its own
    stack.s3.put_object(Bucket=BUCKET, Key=key, Body=b"second")
    stack.wait_for(key, key)
    # When it is copied onto itself with other metadata, put once more as it is, and deleted, then there is none
    stack.s3.copy_object(
        Bucket=BUCKET,
        Key=key,
        CopySource={"Bucket": BUCKET, "Key": key},
        Metadata={"callid": "4712"},
        MetadataDirective="REPLACE",
    )
    stack.wait_for_outcomes(key, "entered", "entered", "known")
    stack.s3.put_object(Bucket=BUCKET, Key=key, Body=b"second")
    stack.wait_for_outcomes(key, "entered", "entered", "known", "known")
    stack.s3.delete_object(Bucket=BUCKET, Key=key)
    last = stack.sentinel("last.wav")
    stack.wait_for(key, key, last)
    stack.wait_for_outcomes(key, "entered", "entered", "known", "known")


def test_a_multipart_upload_is_one_job(stack: Stack) -> None:
    before, key = stack.keys(), "parts.wav"
    upload = stack.s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    part = stack.s3.upload_part(Bucket=BUCKET, Key=key, PartNumber=1, UploadId=upload, Body=b"x" * 5000)
    parts = [{"ETag": part["ETag"], "PartNumber": 1}]
    stack.s3.complete_multipart_upload(
        Bucket=BUCKET,
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
    )
    last = stack.sentinel("after-parts.wav")
    stack.wait_for(*before, key, last)


def test_no_event_was_refused(stack: Stack) -> None:
    log = stack.api.log.read_text()
    assert '"status": 202' in log
    assert not any(f'"status": {status}' in log for status in (401, 403, 422, 500))
