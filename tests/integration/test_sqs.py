"""From an upload to a job through SQS: every road that AWS has, the real process, a real Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis

from config.settings import RedisSettings, Settings, to_variables
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from tests.moto_server import AwsServer, Queue
from tests.ports import choose_port
from tests.servers import running_redis, wait_until
from tests.sqs_process import COMMAND, SqsProcess, body, record, running_sqs, uploaded

AWKWARD = "2026/a b+c/é客%2F&=#?/{}[]~'\".wav"


@dataclass(frozen=True)
class Road:
    """A bucket and the way its events take into the queue."""

    bucket: str
    connect: Callable[[AwsServer, str, Queue], None]


ROADS: dict[str, Callable[[AwsServer, str, Queue], None]] = {
    "sqs": lambda aws, bucket, queue: aws.notify_queue(bucket, queue),
    "sns": lambda aws, bucket, queue: aws.notify_topic(bucket, queue, raw=False),
    "sns-raw": lambda aws, bucket, queue: aws.notify_topic(bucket, queue, raw=True),
    "eventbridge": lambda aws, bucket, queue: aws.notify_eventbridge(bucket, queue),
}


@dataclass(frozen=True)
class Site:
    """A queue, a poller at it, a bucket at the end of each road, and the poller's ledger."""

    aws: AwsServer
    queue: Queue
    buckets: dict[str, str]
    poller: SqsProcess
    redis: RedisSettings

    def keys(self, bucket: str) -> list[str]:
        """The keys that jobs were made of, sorted."""
        return [key for where, key in uploaded(self.redis) if where == bucket]

    def settle(self) -> None:
        """Returns when the queue is empty."""
        wait_until(lambda: self.aws.left(self.queue) == 0, "the queue is empty")


def settings_for(aws: AwsServer, buckets: list[str], queue: Queue, redis_url: str, **sqs: object) -> Settings:
    return Settings(
        redis=RedisSettings(url=SecretStr(redis_url)),
        s3=aws.s3_settings(buckets[0]).model_copy(update={"source_buckets": tuple(buckets)}),
        sqs=aws.sqs_settings(queue, **sqs),
    )


@pytest.fixture(scope="module")
def site(aws: AwsServer, module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    queue = aws.new_queue(max_receives=2)
    buckets = {name: aws.new_bucket() for name in ROADS}
    for name, connect in ROADS.items():
        connect(aws, buckets[name], queue)
    settings = settings_for(aws, list(buckets.values()), queue, module_redis_url)
    with running_sqs(tmp_path_factory.mktemp("sqs"), settings) as poller:
        yield Site(aws, queue, buckets, poller, settings.redis)


# Roads


@pytest.mark.parametrize("road", ROADS)
def test_an_upload_becomes_a_job_and_a_deletion_does_not(site: Site, road: str) -> None:
    bucket = site.buckets[road]
    site.aws.upload(bucket, AWKWARD)
    site.aws.upload(bucket, "calls/gone.wav")
    wait_until(lambda: set(site.keys(bucket)) >= {AWKWARD}, "the upload is a job")
    site.aws.s3.delete_object(Bucket=bucket, Key=AWKWARD)
    site.settle()
    assert site.keys(bucket) == sorted([AWKWARD, "calls/gone.wav"])
    assert site.aws.dead(site.queue) == 0


@pytest.mark.parametrize("road", ROADS)
def test_a_multipart_upload_is_one_job(site: Site, road: str) -> None:
    # moto tells of it twice, as Put and as CompleteMultipartUpload
    bucket, key, s3 = site.buckets[road], "calls/long call.wav", site.aws.s3
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 1024)
    s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip
    wait_until(lambda: key in site.keys(bucket), "the upload is a job")
    site.settle()
    assert Counter(site.keys(bucket))[key] == 1


def test_what_a_store_sends_to_try_the_queue_is_no_upload(site: Site) -> None:
    # Two of the roads began with a test event each, before the poller was there
    site.settle()
    wait_until(
        lambda: any("test_event" in line["skipped"] for line in site.poller.lines("sqs_messages_taken")),
        "it says that it skipped one",
    )
    assert site.aws.dead(site.queue) == 0


def test_a_new_version_of_a_key_is_a_new_job_and_the_same_one_is_not(site: Site) -> None:
    bucket = site.buckets["sqs"]
    for content in (b"one", b"two", b"two"):
        site.aws.upload(bucket, "calls/again.wav", content)
        site.settle()
    assert Counter(site.keys(bucket))["calls/again.wav"] == 2


def test_a_malformed_record_costs_its_siblings_nothing_and_ends_in_the_dead_letter_queue(site: Site) -> None:
    # Given a message with one record that is none, and one that is no event at all
    bucket = site.buckets["sqs"]
    good = [record(bucket, f"calls/sibling-{n}.wav", sequencer=f"0055AED6DCD90281E{n}") for n in range(2)]
    site.aws.send(site.queue, [body([good[0], {"eventSource": "aws:s3"}, good[1]]), "hunter2 is no event"])
    # Then the siblings have their jobs, and both messages are where somebody can look at them
    wait_until(lambda: site.aws.dead(site.queue) == 2, "the messages are in the dead letter queue")
    assert {"calls/sibling-0.wav", "calls/sibling-1.wav"} <= set(site.keys(bucket))
    site.settle()
    refused = site.poller.lines("sqs_message_refused")
    assert {line["receives"] for line in refused} == {1, 2}
    assert all(line["message_id"] and line["reason"] for line in refused)
    assert "hunter2" not in site.poller.log.read_text()
    dead = site.aws.sqs.receive_message(QueueUrl=str(site.queue.dead_letter_url), MaxNumberOfMessages=10)
    assert "hunter2 is no event" in {message["Body"] for message in dead["Messages"]}


def test_it_says_what_it_is_about_to_do(site: Site) -> None:
    ready = site.poller.wait_for("sqs_ready")
    assert ready["queue"] == site.queue.url.rpartition("/")[2]
    assert ready["dead_letter_queue"].endswith("-dead")
    assert (ready["max_receives"], ready["receivers"]) == (2, 2)
    assert len(ready["rules"]) == len(ROADS)


# Its end


def test_two_pollers_make_one_job_of_each_of_many_uploads(aws: AwsServer, redis_url: str, tmp_path: Path) -> None:
    bucket, queue = aws.new_bucket(), aws.new_queue()
    settings = settings_for(aws, [bucket], queue, redis_url)
    keys = [f"calls/{number:03}.wav" for number in range(200)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with running_sqs(tmp_path / "one", settings) as one, running_sqs(tmp_path / "two", settings) as two:
        # Each comes twice, as SQS may have it
        aws.send(queue, [body([record(bucket, key, sequencer="01")]) for key in keys + keys[:20]])
        wait_until(lambda: aws.left(queue) == 0, "the queue is empty", interval_seconds=0.1)
        wait_until(
            lambda: all(poller.lines("sqs_messages_taken") for poller in (one, two)), "both say what they did"
        )
    assert [key for _, key in uploaded(settings.redis)] == keys
    assert aws.dead(queue) == 0


def test_a_poller_that_is_told_to_stop_leaves_nothing_hidden(
    aws: AwsServer, redis_url: str, tmp_path: Path
) -> None:
    # Given a poller in the middle of many messages
    bucket, queue = aws.new_bucket(), aws.new_queue()
    settings = settings_for(aws, [bucket], queue, redis_url)
    aws.send(queue, [body([record(bucket, f"{n:03}.wav", sequencer="01")]) for n in range(150)])
    with running_sqs(tmp_path, settings) as poller:
        wait_until(lambda: len(poller.lines("sqs_messages_taken")) >= 2, "it is at work", interval_seconds=0.001)
        # When it is told to stop
        poller.process.terminate()
        assert poller.process.wait(60) == 0
        stopped = poller.lines("sqs_stopped")
    # Then what was entered is deleted, and others can take all the rest at once
    jobs = len(uploaded(settings.redis))
    assert [line["threads_left"] for line in stopped] == [False]
    assert aws.hidden(queue) == 0
    assert aws.left(queue) == 150 - jobs
    assert 0 < jobs < 150, "it was not in the middle"


def test_a_poller_that_is_killed_loses_no_job_and_doubles_none(aws: AwsServer, tmp_path: Path) -> None:
    bucket, queue = aws.new_bucket(), aws.new_queue()
    messages = [body([record(bucket, f"{n}.wav", sequencer="01")]) for n in range(8)]
    with ExitStack() as stack, ExitStack() as held:
        server = stack.enter_context(running_redis(tmp_path))
        client = stack.enter_context(Redis.from_url(server.url()))
        line = stack.enter_context(FaultyProxy(aws.url))
        settings = settings_for(aws, [bucket], queue, server.url(), visibility_seconds=5)
        behind = settings.sqs.model_copy(update={"endpoint_url": line.address})
        with running_sqs(tmp_path, settings.model_copy(update={"sqs": behind})) as poller:
            # Given messages whose jobs are in the ledger, and a poller whose word that they can go is lost
            line.fail(Fault(mode=Mode.LOSE_REQUEST, of=b"DeleteMessageBatch"))
            aws.send(queue, messages[:4])
            wait_until(lambda: len(uploaded(settings.redis)) == 4, "the jobs are in the ledger")
            # And messages that it has taken, whose jobs are not entered yet: Redis is held
            hold(int(client.info("server")["process_id"]), held)  # type: ignore[index, arg-type]
            aws.send(queue, messages[4:])
            wait_until(lambda: aws.waiting(queue) == 0, "the poller has them in hand")
            # When it is killed
            poller.process.kill()
            poller.process.wait()
        held.close()
        assert aws.left(queue) == 8
        # Then the messages come back to another one, who enters what was not entered
        (tmp_path / "sqs.log").unlink()
        patient = settings.sqs.model_copy(update={"visibility_seconds": 60})  # it takes none of them twice
        with running_sqs(tmp_path, settings.model_copy(update={"sqs": patient})) as poller:
            wait_until(lambda: aws.left(queue) == 0, "the messages came back")
            # It says so after it has deleted them. A queue may deliver a message twice: then it is known once more
            wait_until(lambda: taken_by(poller) >= Counter(known=4, entered=4), "it says what became of them")
            assert (taken_by(poller)["entered"], set(taken_by(poller))) == (4, {"known", "entered"})
        assert [key for _, key in uploaded(settings.redis)] == [f"{n}.wav" for n in range(8)]


def taken_by(poller: SqsProcess) -> Counter[str]:
    """What became of the uploads that it took."""
    lines = poller.lines("sqs_messages_taken")
    return sum((Counter[str](line["uploads"]) for line in lines), Counter[str]())


def hold(pid: int, stack: ExitStack) -> None:
    """Stops a process until the stack is closed."""
    os.kill(pid, signal.SIGSTOP)
    stack.callback(os.kill, pid, signal.SIGCONT)


# Its start


def test_without_redis_and_sqs_it_waits_and_says_so(aws: AwsServer, tmp_path: Path) -> None:
    queue, bucket = aws.new_queue(), aws.new_bucket()
    alive = tmp_path / "alive"
    nowhere = f"redis://127.0.0.1:{choose_port()}/0"
    settings = settings_for(aws, [bucket], queue, nowhere)
    with running_sqs(tmp_path, settings, "--alive-file", str(alive), until="sqs_waits") as poller:
        assert poller.wait_for("sqs_waits")["code"] == "ledger_unavailable"
        # A health check says so, too
        assert check(alive) == 1
        poller.process.terminate()
        assert poller.process.wait(60) == 0
    away = settings.model_copy(
        update={"sqs": settings.sqs.model_copy(update={"endpoint_url": f"http://127.0.0.1:{choose_port()}"})}
    )
    (tmp_path / "sqs.log").unlink()
    with running_sqs(tmp_path, away, until="sqs_waits") as poller:
        assert poller.wait_for("sqs_waits")["code"] == "queue_unavailable"
        poller.process.terminate()
        assert poller.process.wait(60) == 0


def test_the_check_says_whether_a_poller_gets_on(aws: AwsServer, redis_url: str, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    settings = settings_for(aws, [aws.new_bucket()], aws.new_queue(), redis_url)
    assert check(alive) == 1
    with running_sqs(tmp_path, settings, "--alive-file", str(alive)) as poller:
        wait_until(alive.exists, "it says that it is alive")
        assert check(alive) == 0
        poller.process.send_signal(signal.SIGINT)
        assert poller.process.wait(60) == 0
    assert check(alive) == 1
    alive.write_text(str(time.time() - 1))  # of one that was killed
    assert check(alive) == 1


def check(alive: Path) -> int:
    return subprocess.run(
        [sys.executable, "-m", "pollers.alive", str(alive)], capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize(
    ("sqs", "says"),
    [
        ({"queue_url": ""}, "WARMLINE_SQS_QUEUE_URL is not set"),
        ({"queue_url": "http://127.0.0.1:1/123456789012/no-such-queue"}, "check WARMLINE_SQS_QUEUE_URL"),
    ],
    ids=["no queue named", "no such queue"],
)
def test_settings_that_cannot_work_end_it_with_a_sentence(
    sqs: dict[str, object], says: str, aws: AwsServer, redis_url: str
) -> None:
    good = settings_for(aws, ["calls"], aws.new_queue(), redis_url)
    settings = good.model_copy(update={"sqs": good.sqs.model_copy(update=sqs)})
    done = subprocess.run(
        COMMAND,
        env={"PATH": "", **to_variables(settings)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("warmline-sqs: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "anything" not in done.stderr
