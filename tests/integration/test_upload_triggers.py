"""What is put into the embedded S3 by any client has a job each, once, whatever dies in between.

A real S3, a real Redis, and the part of the stack that follows S3's log; jobs are looked for in the ledger.
"""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from boto3.s3.transfer import TransferConfig

from pollers.filer_log import UploadFollower
from tests.servers import is_over, wait_until
from tests.uploads_stack import ORIGIN, VERSIONED, UploadsStack, uploads_stack
from warmline.jobs.ledger import Ledger
from warmline.jobs.upload_ledger import upload_job_id
from warmline.local.directory import StackDirectory
from warmline.local.uploads import LogPosition, SignOfLife
from warmline.objects.store import ObjectStore
from warmline.triggers.intake import Intake

MB = 1024**2


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UploadsStack]:
    with uploads_stack(tmp_path_factory.mktemp("uploads")) as running:
        yield running


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}/"


def test_every_kind_of_upload_has_one_job(stack: UploadsStack, prefix: str) -> None:
    s3 = stack.client
    # When recordings are uploaded in every way that S3 has, under every kind of key
    plain = ["plain.wav", "a b+c/é%20ü/x&y=1.wav", "deep/er/and/deeper.wav", "漢字.wav", "quote'\"<>.wav"]
    stack.put(*(prefix + key for key in plain))
    parts = TransferConfig(multipart_threshold=5 * MB, multipart_chunksize=5 * MB)
    s3.upload_fileobj(io.BytesIO(os.urandom(9 * MB)), "calls", f"{prefix}parts.wav", Config=parts)
    s3.copy_object(Bucket="calls", Key=f"{prefix}copy.wav", CopySource=f"calls/{prefix}plain.wav")
    # Then each has one job, whose id its content decides
    keys = [*plain, "parts.wav", "copy.wav"]
    stack.wait_for_jobs(prefix, keys)
    etags = {key: s3.head_object(Bucket="calls", Key=prefix + key)["ETag"].strip('"') for key in keys}
    expected = {upload_job_id("calls", prefix + key, etag) for key, etag in etags.items()}
    assert expected <= {state.job.id for state in stack.jobs()}


def test_only_new_content_makes_a_job(stack: UploadsStack, prefix: str) -> None:
    s3, key = stack.client, f"{prefix}call.wav"
    stack.put(key, body=b"one")
    stack.wait_for_jobs(prefix, ["call.wav"])
    # When the same content is put again, its metadata rewritten by a copy onto itself, tags set; when others are
    # deleted, made as a folder, put where no rule looks, or among the reports
    stack.put(key, body=b"one")
    s3.copy_object(
        Bucket="calls", Key=key, CopySource=f"calls/{key}", Metadata={"a": "b"}, MetadataDirective="REPLACE"
    )
    s3.put_object_tagging(Bucket="calls", Key=key, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    stack.put(f"{prefix}folder/", body=b"")
    stack.put(f"demo/{prefix}call.wav", f"submitted/{prefix}call.wav")
    s3.put_object(Bucket="reports", Key=f"{prefix}report.json", Body=b"{}")
    stack.put(f"{prefix}gone.wav")
    s3.delete_object(Bucket="calls", Key=f"{prefix}gone.wav")
    # Then the next upload is a job, and so is other content under the first key; but nothing in between, save what
    # was gone again only after its upload
    stack.put(key, body=b"two")
    stack.put(f"{prefix}last.wav")
    stack.wait_for_jobs(prefix, ["call.wav", "call.wav", "gone.wav", "last.wav"])
    assert stack.keys("demo/") == stack.keys("submitted/") == []
    assert {state.job.source.bucket for state in stack.jobs()} == {"calls"}
    assert "upload_refused" not in stack.log.read_text()


def test_uploads_while_the_follower_was_dead_are_entered_when_it_is_back(stack: UploadsStack, prefix: str) -> None:
    # Given uploads that nobody saw, one of them of two versions, of which a listing has the last alone
    stack.kill_follower()
    stack.client.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    stack.put(f"{prefix}1.wav", f"{prefix}2.wav")
    put = stack.client.put_object
    versions = [put(Bucket=VERSIONED, Key=f"{prefix}v.wav", Body=body)["VersionId"] for body in (b"one", b"two")]
    assert stack.keys(prefix) == []
    # When the follower is back, then each has its job, the versions one each
    stack.start_follower()
    stack.wait_for_jobs(prefix, ["1.wav", "2.wav", "v.wav", "v.wav"])
    sources = [state.job.source for state in stack.jobs() if state.job.source.bucket == VERSIONED]
    assert {source.version_id for source in sources} == set(versions)


def test_what_a_killed_s3_forgot_to_log_is_found_in_its_listing(stack: UploadsStack, prefix: str) -> None:
    # Given uploads that nobody saw, in an S3 that was killed before it wrote its log down
    stack.kill_follower()
    stack.put(f"{prefix}1.wav", f"{prefix}nested/2.wav")
    stack.kill_s3()
    stack.start_s3()
    # When its log is followed again, then they have their jobs
    stack.start_follower()
    stack.wait_for_jobs(prefix, ["1.wav", "nested/2.wav"])


def test_s3_may_be_killed_beside_its_follower(stack: UploadsStack, prefix: str) -> None:
    # When S3 is killed right after it has answered
    stack.put(f"{prefix}before.wav")
    stack.kill_s3()
    wait_until(lambda: (stack.waits_for() or "").startswith("S3's log"), "the follower says what it waits for")
    # Then that upload has its job, and so has one after its restart
    stack.start_s3()
    stack.put(f"{prefix}after.wav")
    stack.wait_for_jobs(prefix, ["before.wav", "after.wav"])
    stack.wait_until_following()
    wait_until(lambda: len(stack.tails()) == 1, "one process prints the log")


def test_uploads_wait_for_redis(stack: UploadsStack, prefix: str) -> None:
    # Given a Redis that is gone
    before_ns = time.time_ns()
    stack.kill_redis()
    stack.put(f"{prefix}1.wav")
    wait_until(lambda: "Redis" in (stack.waits_for() or ""), "the follower says what it waits for")
    stack.put(f"{prefix}2.wav", f"{prefix}3.wav")
    # And a follower that is told to end while it waits, which does not say that it has entered them
    assert stack.stop_follower() == 0
    assert LogPosition(stack.directory.uploads_file).reached_ns < before_ns
    stack.start_follower(wait=False)
    # When Redis is back, then what was uploaded meanwhile has its jobs
    stack.start_redis()
    stack.wait_for_jobs(prefix, ["1.wav", "2.wav", "3.wav"])
    stack.wait_until_following()


def test_uploads_wait_for_room_in_the_backlog(stack: UploadsStack, prefix: str) -> None:
    # Given a backlog with room for one more
    stack.stop_follower()
    before = stack.settings
    waiting = len(stack.jobs())
    stack.settings = before.model_copy(
        update={"jobs": before.jobs.model_copy(update={"max_backlog": waiting + 1})}
    )
    stack.start_follower()
    # When three are uploaded, then one has its job, and it says that the others wait
    stack.put(*(f"{prefix}{number}.wav" for number in range(3)))
    wait_until(lambda: "WARMLINE_JOBS_MAX_BACKLOG" in (stack.waits_for() or ""), "it waits for room")
    assert len(stack.keys(prefix)) == 1
    # When there is room, then they have theirs
    with closing(Ledger.connect(stack.settings.redis, stack.settings.jobs)) as ledger:
        for state in stack.jobs():
            ledger.cancel(state.job.id)
    stack.wait_for_jobs(prefix, [f"{number}.wav" for number in range(3)])
    stack.stop_follower()
    stack.settings = before
    stack.start_follower()


def test_sigterm_ends_it_soon_and_it_goes_on_where_it_was(stack: UploadsStack, prefix: str) -> None:
    stack.put(f"{prefix}1.wav")
    stack.wait_for_jobs(prefix, ["1.wav"])
    before_ns = time.time_ns()
    stack.put(f"{prefix}2.wav")
    stack.wait_for_jobs(prefix, ["1.wav", "2.wav"])
    (tail,) = stack.tails()
    # When it is told to end, then it does, with the process that printed the log
    began = time.monotonic()
    assert stack.stop_follower() == 0
    assert time.monotonic() - began < 10
    wait_until(lambda: is_over(tail), "nothing prints the log")
    assert "Traceback" not in stack.log.read_text()
    # Its marks leave nothing in the bucket
    assert "Uploads" not in stack.client.list_multipart_uploads(Bucket="calls")
    # And it has written down how far it was, and goes on from there
    assert before_ns < LogPosition(stack.directory.uploads_file).reached_ns < time.time_ns()
    stack.put(f"{prefix}3.wav")
    stack.start_follower()
    stack.wait_for_jobs(prefix, ["1.wav", "2.wav", "3.wav"])


def test_what_lay_there_before_uploads_counted_is_left_alone(stack: UploadsStack, prefix: str) -> None:
    # Given an S3 with recordings, of which nobody has made jobs
    assert stack.stop_follower() == 0
    stack.put(f"{prefix}old.wav")
    position = LogPosition(stack.directory.uploads_file)
    position.forget()
    second = int(time.time())
    wait_until(lambda: time.time() >= second + 1, "S3's listing has a later second")
    # When uploads are to count from now on
    position.begin()
    stack.put(f"{prefix}new.wav")
    stack.start_follower()
    wait_until(lambda: "buckets_listed" in stack.log.read_text().splitlines()[-1], "all is listed")
    # Then they do, and older ones do not
    assert stack.keys(prefix) == [f"{prefix}new.wav"]


def test_a_log_that_shows_nothing_is_not_taken_for_followed(stack: UploadsStack, tmp_path: Path) -> None:
    # Given an address where somebody listens who is no filer
    settings = stack.settings.model_copy(
        update={"stack": stack.settings.stack.model_copy(update={"data_dir": tmp_path})}
    )
    directory = StackDirectory(tmp_path)
    directory.make()
    stop = threading.Event()
    with (
        closing(Intake.connect(settings)) as intake,
        closing(ObjectStore(settings.s3)) as store,
        socket.create_server(("127.0.0.1", 0)) as mute,
    ):
        filer = f"127.0.0.1:{mute.getsockname()[1] - 10_000}"
        follower = UploadFollower(
            settings, intake, store, filer, stack.server.working_directory, stop, mark_seconds=0.5
        )
        thread = threading.Thread(target=follower.run)
        thread.start()
        # Then it is never said to be followed, and it ends when it is told to
        sign, said = SignOfLife(directory.uploads_sign_file), set()
        for _ in range(15):
            said.add(sign.waits_for(os.getpid()))
            time.sleep(0.1)
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert None not in said
    assert any(words is not None and words.startswith("S3's log") for words in said)
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(filer in word for word in process.info["cmdline"] or ())
    ]
    assert left == []


def test_web_pages_of_ones_own_may_upload_and_no_others(stack: UploadsStack) -> None:
    def preflight(bucket: str, origin: str) -> tuple[int | str | None, ...]:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "content-type,x-amz-meta-agent",
        }
        answer = httpx.options(f"{stack.server.endpoint_url}/{bucket}/x.wav", headers=asked, trust_env=False)
        allowed = (answer.headers.get(f"access-control-allow-{what}") for what in ("origin", "methods"))
        return answer.status_code, *allowed

    # A page that is named may upload, and nothing else; another page may not; nor may either to the reports
    assert preflight("calls", ORIGIN) == (200, ORIGIN, "PUT, POST")
    refused = (403, None, None)
    assert preflight("calls", "https://evil.example") == refused
    assert preflight("reports", ORIGIN) == refused
    # And the page can read the answer to its upload
    url = stack.client.generate_presigned_url("put_object", Params={"Bucket": "calls", "Key": "demo/page.wav"})
    answer = httpx.put(url, content=b"x", headers={"Origin": ORIGIN}, trust_env=False, timeout=60)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    # Where no page is named, none may
    with closing(ObjectStore(stack.settings.s3)) as store:
        store.allow_origins("calls", ())
        assert preflight("calls", ORIGIN) == refused
        store.allow_origins("calls", (ORIGIN,))
