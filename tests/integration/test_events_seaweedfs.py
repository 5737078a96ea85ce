"""What a real SeaweedFS tells of uploads, in both of its forms, is what S3 says is there."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.servers import running_seaweedfs, wait_until
from warmline.local.seaweedfs import SeaweedfsServer, seaweedfs_binary
from warmline.objects.events import Decoded, Upload, decode, decode_log_entry

KEYS = [
    "plain.wav",
    "d/é 5+%.wav",
    "a/b c/d%2Fe/ü&?#.wav",
    'q"quote/back\n.wav',
    "\U0001f600/x.wav",
    "x.versions/v_1",
    "empty.wav",
]


class Receiver(ThreadingHTTPServer):
    """Keeps the bodies that the webhook posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver of webhooks while the block lasts."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


@contextmanager
def told_by(directory: Path, receiver: Receiver) -> Iterator[SeaweedfsServer]:
    """A SeaweedFS that posts what happens to a receiver."""
    webhook = f'[notification.webhook]\nenabled = true\nendpoint = "http://127.0.0.1:{receiver.server_port}/"\n'
    with running_seaweedfs(directory, notification=webhook) as server:
        yield server


def logged(server: SeaweedfsServer, is_enough: Any) -> list[Any]:
    """The entries of the filer's log from its start on, as soon as they are enough."""
    command = [
        *(str(seaweedfs_binary()), "filer.meta.tail", f"-filer=127.0.0.1:{server.ports.filer}"),
        *("-pathPrefix=/buckets", "-timeAgo=10m"),
    ]
    entries: list[Any] = []
    text = ""
    with subprocess.Popen(command, cwd=server.working_directory, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        try:
            for line in tail.stdout:
                text += line
                if line == "}\n":
                    entries.append(json.loads(text))
                    text = ""
                    if is_enough(entries):
                        break
        finally:
            tail.terminate()
    return entries


def fill(s3: Any) -> None:
    """Writes everything that the test wants to hear of."""
    for bucket in ("calls", "kept"):
        wait_until(lambda bucket=bucket: _has_bucket(s3, bucket), f"bucket {bucket}")
    for key in KEYS:
        s3.put_object(
            Bucket="calls", Key=key, Body=b"x" * (0 if key == "empty.wav" else 100), Metadata={"callid": "7"}
        )
    s3.put_object(Bucket="calls", Key="folder/", Body=b"")
    upload = s3.create_multipart_upload(Bucket="calls", Key="m p/mp+.wav", Metadata={"callid": "8"})
    named = {"Bucket": "calls", "Key": "m p/mp+.wav", "UploadId": upload["UploadId"]}
    parts = [
        {"ETag": s3.upload_part(**named, PartNumber=number, Body=bytes(5 * 2**20))["ETag"], "PartNumber": number}
        for number in (1, 2)
    ]
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    s3.copy_object(Bucket="calls", Key="copied.wav", CopySource={"Bucket": "calls", "Key": "m p/mp+.wav"})
    s3.put_object(Bucket="calls", Key="gone.wav", Body=b"x")
    s3.delete_object(Bucket="calls", Key="gone.wav")
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    for content in (b"one", b"two"):
        s3.put_object(Bucket="kept", Key="v d/v+1.wav", Body=content)
    s3.delete_object(Bucket="kept", Key="v d/v+1.wav")  # a marker
    s3.put_object(Bucket="calls", Key="the/last.wav", Body=b"x")


def _has_bucket(s3: Any, bucket: str) -> bool:
    try:
        s3.create_bucket(Bucket=bucket)
    except ClientError:
        return False
    return True


def gathered(all_decoded: list[Decoded]) -> tuple[list[Upload], Counter[str]]:
    """What many bodies hold together."""
    assert [decoded.malformed for decoded in all_decoded if decoded.malformed] == []
    skipped: Counter[str] = Counter()
    for decoded in all_decoded:
        skipped.update(decoded.skipped)
    return [upload for decoded in all_decoded for upload in decoded.uploads], skipped


def is_last(uploads: list[Upload]) -> bool:
    return any(upload.source.key == "the/last.wav" for upload in uploads)


def told(upload: Upload) -> tuple[Any, ...]:
    """What both forms have to say of an upload."""
    return upload.source, upload.name, upload.etag, upload.size_bytes, json.dumps(upload.metadata)


def seen_by_s3(s3: Any, upload: Upload) -> tuple[Any, ...]:
    """What S3 has to say of an upload: ETag, size and metadata."""
    source = upload.source
    version = {} if source.version_id is None else {"VersionId": source.version_id}
    head = s3.head_object(Bucket=source.bucket, Key=source.key, **version)
    metadata = {name.lower(): value for name, value in head["Metadata"].items()}
    return head["ETag"].strip('"'), head["ContentLength"], json.dumps(metadata)


def test_the_webhook_and_the_log_announce_what_s3_has(tmp_path: Path) -> None:
    with receiving() as receiver, told_by(tmp_path / "s3", receiver) as server:
        s3 = boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4"),
        )
        fill(s3)
        entries = logged(server, lambda entries: is_last(list(decode_log_entry(entries[-1]).uploads)))
        in_log, skipped_in_log = gathered([decode_log_entry(entry) for entry in entries])
        wait_until(lambda: len(receiver.bodies) >= len(entries), "as many webhooks as entries of the log")
        in_webhook, skipped_in_webhook = gathered([decode(body) for body in receiver.bodies])

        assert set(map(told, in_log)) == set(map(told, in_webhook))
        keys = [upload.source.key for upload in in_log]
        versioned = [upload.source for upload in in_log if upload.source.bucket == "kept"]
        assert keys == [*KEYS, "m p/mp+.wav", "copied.wav", "gone.wav", *["v d/v+1.wav"] * 2, "the/last.wav"]
        assert len({source.version_id for source in versioned} - {None}) == 2
        for upload in in_log:
            if upload.source.key != "gone.wav":
                assert told(upload)[2:] == seen_by_s3(s3, upload)
        sequencers = [str(upload.sequencer) for upload in in_log]
        assert sequencers == sorted(sequencers)
        assert len(set(sequencers)) == len(sequencers)
        assert skipped_in_log == skipped_in_webhook
        assert set(skipped_in_log) == {"folder", "multipart_part", "deleted", "other_event", "outside_buckets"}
