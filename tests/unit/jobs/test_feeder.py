"""The feeder against a real Redis: a short runway, in turn; one at a time; awake at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from config.settings import RedisSettings, Settings
from tests.servers import running_redis, wait_until
from tests.unit.jobs.conftest import NewJob, calls, claim, end_lease, take_messages, worker
from warmline.jobs import keys
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.lines import Lines
from warmline.jobs.queue import QUEUES, RETRY_QUEUE
from warmline.jobs.records import Failure, JobStatus, Source
from warmline.jobs.submission import submit_batch, submit_job

SLOW = Failure(code="store_unavailable", message="It did not answer.")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken here is not sent again: a busy machine takes longer than a message may be gone for."""
    monkeypatch.setattr("warmline.jobs.sweeper.MESSAGE_AGE_SECONDS", 3600.0)


@contextmanager
def running(settings: Settings) -> Iterator[Feeder]:
    feeder = Feeder(settings)
    feeder.start()
    try:
        yield feeder
    finally:
        feeder.stop()


def waiting(raw: Any, queue: str) -> int:
    return int(raw.llen(f"{keys.BROKER}{queue}"))


def test_the_runway_is_as_long_as_there_are_warm_children(ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    # Given three warm children that take both lanes, and two more for live calls
    ledger.beat(worker("a", 3), ttl_seconds=30)
    ledger.beat(worker("b", 2, lanes=("live",)), ttl_seconds=30)
    for lane in ("live", "bulk"):
        submit_batch(ledger, calls(100), lane=lane)
    # Then each lane's queue is four messages long for each of its children, and is filled up when half is gone
    assert feeder.step() == 12 + 20
    raw.rpop(f"{keys.BROKER}{QUEUES['bulk']}", 5)
    assert feeder.step() == 0
    raw.rpop(f"{keys.BROKER}{QUEUES['bulk']}", 1)
    assert feeder.step() == 6
    assert (waiting(raw, QUEUES["bulk"]), waiting(raw, QUEUES["live"])) == (12, 20)


def test_batches_are_served_in_turn_and_each_in_its_order(ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    # Given a big batch, then small ones and jobs that came alone
    ledger.beat(worker("a", 100), ttl_seconds=30)
    submit_batch(ledger, calls(50, "big"))
    submit_batch(ledger, calls(3, "small"))
    for call in calls(2, "alone"):
        submit_job(ledger, call, lane="bulk")
    feeder.step()
    # Then nobody waits for the big one's end
    sent = [
        ledger.get(job_id).job.source.key.removesuffix(".wav") for job_id in take_messages(raw, QUEUES["bulk"])
    ]
    assert sent[:8] == [
        "big-0", "small-0", "alone-0", "big-1", "small-1", "alone-1", "big-2", "small-2",
    ]  # fmt: skip
    assert sent[8:] == [f"big-{n}" for n in range(3, 50)]


def test_turns_go_on_where_there_is_room_for_a_few_at_a_time(ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    submit_batch(ledger, calls(50, "a"))
    submit_batch(ledger, calls(50, "b"))
    feeder.step()
    order = take_messages(raw, QUEUES["bulk"])[:3]
    for _ in range(4):
        raw.lpush(f"{keys.BROKER}{QUEUES['bulk']}", "x", "x")
        feeder.step()
        order += take_messages(raw, QUEUES["bulk"])[2:]
    assert "".join(ledger.get(job_id).job.source.key[0] for job_id in order) == "aba" + "ab" * 4


def test_a_cancelled_job_is_not_sent(ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    alone = [submit_job(ledger, call, lane="bulk").job.id for call in calls(3)]
    batch = submit_batch(ledger, calls(3))
    of_batch = [state.job.id for state in reversed(ledger.list(batch_id=batch.id))]
    ledger.cancel(alone[0])
    ledger.cancel(of_batch[1])
    sent: list[str] = []
    while feeder.step() or waiting(raw, QUEUES["bulk"]):
        sent += take_messages(raw, QUEUES["bulk"])
    assert sorted(sent) == sorted([alone[1], alone[2], of_batch[0], of_batch[2]])
    assert raw.hgetall(keys.WAITING) == {"bulk": "0"}


def test_what_is_tried_again_has_a_queue_of_its_own_and_comes_when_it_is_due(
    ledger: Ledger, feeder: Feeder, new_job: NewJob, raw: Any
) -> None:
    soon, late = new_job(), new_job()
    for job in (soon, late):
        claim(ledger, job, job.id)
        ledger.retry(job.id, 1, SLOW, delay_seconds=60)
    assert feeder.step() == 0
    raw.zadd(keys.DELAYED, {soon.id: 1})  # time passes
    assert feeder.step() == 1
    assert take_messages(raw, RETRY_QUEUE) == [soon.id]
    assert feeder.step() == 0


def test_one_feeds_and_another_follows(settings: Settings, ledger: Ledger, raw: Any) -> None:
    first, second = Feeder(settings), Feeder(settings)
    submit_batch(ledger, calls(50))
    # Given one that feeds, then another does not
    assert first.step() > 0
    take_messages(raw, QUEUES["bulk"])
    assert second.step() == 0
    # When it leaves, the other follows, and the first one's late turn does nothing
    raw.delete(keys.FEEDER)
    assert second.step() > 0
    take_messages(raw, QUEUES["bulk"])
    assert first.step() == 0
    assert raw.ttl(keys.FEEDER) > 0
    first.stop()
    assert raw.exists(keys.FEEDER)
    second.stop()
    assert not raw.exists(keys.FEEDER)


def test_one_that_is_preferred_feeds_while_it_lives(settings: Settings, ledger: Ledger, raw: Any) -> None:
    # Given a feeder that feeds, and a preferred one that comes later
    submit_batch(ledger, calls(500))
    worker_s, api_s = Feeder(settings), Feeder(settings, preferred=True)
    assert worker_s.step() > 0
    assert api_s.step() == 0
    # When the first one renews its lease, then it stands back, and the other feeds
    worker_s._held_until = time.monotonic()
    take_messages(raw, QUEUES["bulk"])
    assert worker_s.step() == 0
    assert api_s.step() > 0
    take_messages(raw, QUEUES["bulk"])
    assert worker_s.step() == 0
    # And when that has gone, or is not heard of any more, the first one follows
    api_s.stop()
    assert worker_s.step() > 0
    worker_s.stop()
    assert not raw.exists(keys.FEEDER)
    assert not raw.exists(keys.PREFERRED)


def test_every_job_is_sent_once_by_feeders_that_take_turns(settings: Settings, ledger: Ledger, raw: Any) -> None:
    # Given two feeders that lose the lease all the time
    batch = submit_batch(ledger, calls(300))
    feeders = [Feeder(settings), Feeder(settings)]
    sent: list[str] = []
    while raw.hget(keys.WAITING, "bulk") != "0":
        for feeder in feeders:
            feeder.step()
            raw.delete(keys.FEEDER)
            taken = take_messages(raw, QUEUES["bulk"])
            for job_id in taken:
                claim(ledger, job_id)  # one that nobody works on seems lost after some seconds, and is sent again
            sent += taken
    for feeder in feeders:
        feeder.stop()
    assert sent == [state.job.id for state in reversed(ledger.list(batch_id=batch.id, limit=1000))]


def test_what_changed_while_the_feeder_looked_is_not_sent(settings: Settings, ledger: Ledger, raw: Any) -> None:
    # Given a feeder that has seen what is next in a batch
    batch = submit_batch(ledger, calls(6))
    lines = Lines(settings, "token")
    assert lines.hold(60)
    seen = lines._next_in("bulk", [batch.id], 3)
    # When that was sent already, then it is not sent twice
    assert lines._send("bulk", seen) == 3
    assert lines._send("bulk", seen) == 0
    assert len(seen := lines._next_in("bulk", [batch.id], 9)) == 3
    # Nor when the batch was cancelled meanwhile
    ledger.cancel_batch(batch.id)
    assert lines._send("bulk", seen) == 0
    # Nor a job again whose message seemed to be gone, when it has been claimed or sent since
    job_id = submit_job(ledger, Source(bucket="calls", key="a.wav")).job.id
    lines.feed()
    (sent,) = lines.sent_before(-1).items()
    assert lines.send_again({job_id: "1"}) == 0
    claim(ledger, job_id)
    assert lines.send_again(dict([sent])) == 0
    assert len(raw.lrange(f"{keys.BROKER}{QUEUES['live']}", 0, -1)) == 1
    lines.close()


def test_an_idle_system_sends_at_once(settings: Settings, ledger: Ledger, raw: Any) -> None:
    with running(settings):
        wait_until(lambda: raw.pubsub_numsub(keys.BELL)[0][1] > 0, "the feeder listens")
        waits = []
        for _ in range(20):
            time.sleep(0.02)
            submit_job(ledger, Source(bucket="calls", key="a.wav"))
            submitted_at = time.monotonic()
            wait_until(lambda: waiting(raw, QUEUES["live"]) > 0, "it is sent", interval_seconds=0.001)
            waits.append(time.monotonic() - submitted_at)
            take_messages(raw, QUEUES["live"])
    assert sorted(waits)[10] < 0.25, waits  # a few milliseconds; who hears no bell looks every second


def test_a_retry_that_is_due_wakes_the_feeder(
    settings: Settings, ledger: Ledger, new_job: NewJob, raw: Any
) -> None:
    with running(settings):
        job = new_job()
        claim(ledger, job)
        started = time.monotonic()
        ledger.retry(job.id, 1, SLOW, delay_seconds=0.5)
        wait_until(lambda: waiting(raw, RETRY_QUEUE) > 0, "it is sent")
        assert time.monotonic() - started > 0.4


def test_a_process_with_a_feeder_may_fork(settings: Settings, ledger: Ledger, raw: Any) -> None:
    # Given a turn that takes its time, then no fork happens within it
    with running(settings) as feeder:
        feeder._turn.acquire()
        started = time.monotonic()
        threading.Timer(0.3, feeder._turn.release).start()
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert time.monotonic() - started > 0.25
    # Given a feeder that is busy
    with running(settings):
        submit_batch(ledger, calls(2000))
        for _ in range(20):
            take_messages(raw, QUEUES["bulk"])
            child = os.fork()
            if child == 0:
                # Then a child does not inherit a lock that nobody releases
                os._exit(0 if Ledger.connect(settings.redis, settings.jobs).workers() == () else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_feeder_goes_on_when_redis_comes_back(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        settings = Settings(redis=RedisSettings(url=SecretStr(server.url()), timeout_seconds=1))
        ledger = Ledger.connect(settings.redis, settings.jobs)
        raw: Any = redis.Redis.from_url(server.url(), decode_responses=True)
        with running(settings):
            submit_job(ledger, Source(bucket="calls", key="a.wav"))
            wait_until(lambda: waiting(raw, QUEUES["live"]) == 1, "it is sent")
            # When all connections are cut, and Redis is full for a while
            raw.config_set("maxmemory", 1)
            raw.client_kill_filter(_type="normal", skipme=True)
            raw.client_kill_filter(_type="pubsub", skipme=True)
            time.sleep(0.3)
            raw.config_set("maxmemory", 0)
            # Then it goes on by itself
            submit_job(ledger, Source(bucket="calls", key="b.wav"))
            wait_until(lambda: waiting(raw, QUEUES["live"]) == 2, "the next one, too")
        raw.close()
        ledger.close()


# What the queues forgot


@pytest.fixture
def hasty(unhurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper that need not be waited for."""
    monkeypatch.setattr("warmline.jobs.sweeper.LEASE_SWEEP_SECONDS", 0.0)
    monkeypatch.setattr("warmline.jobs.sweeper.MESSAGE_SWEEP_SECONDS", 0.0)
    monkeypatch.setattr("warmline.jobs.sweeper.MESSAGE_AGE_SECONDS", 0.2)


@pytest.mark.usefixtures("hasty")
def test_a_message_that_is_gone_is_sent_again_and_one_that_waits_is_not(
    ledger: Ledger, feeder: Feeder, raw: Any
) -> None:
    # Given four jobs that were sent: one is running, one has a worker's parent, one waits, and one was forgotten
    running_id, taken, waits, forgotten = (submit_job(ledger, call).job.id for call in calls(4))
    feeder.step()
    claim(ledger, running_id)
    key = f"{keys.BROKER}{QUEUES['live']}"
    texts = dict(zip((running_id, taken, waits, forgotten), reversed(raw.lrange(key, 0, -1)), strict=True))
    raw.delete(key)
    raw.hset(f"{keys.BROKER}unacked", "tag", f'[{texts[taken]}, "", "warmline.live"]')
    raw.lpush(key, texts[waits], "no message at all")
    # When time passes
    time.sleep(0.25)
    feeder.step()
    assert waiting(raw, QUEUES["live"]) == 2  # it may be on its way: it is looked for twice
    feeder.step()
    # Then only what is gone was sent again, once
    assert take_messages(raw, QUEUES["live"]) == [waits, "", forgotten]
    assert claim(ledger, forgotten, "w/2").attempt == 1
    # And a job that ended meanwhile is not sent, whatever became of its message
    raw.delete(f"{keys.BROKER}unacked")
    ledger.cancel(taken)
    time.sleep(0.25)
    feeder.step()
    feeder.step()
    assert take_messages(raw, QUEUES["live"]) == [waits]


@pytest.mark.usefixtures("hasty")
def test_a_lost_lease_brings_the_job_back_and_an_outage_does_not(
    settings: Settings, ledger: Ledger, raw: Any
) -> None:
    # Given a running job whose worker is silent, because nobody can reach Redis
    jobs = settings.jobs.model_copy(update={"lease_seconds": 4})
    feeder = Feeder(settings.model_copy(update={"jobs": jobs}))
    job_id = submit_job(ledger, Source(bucket="calls", key="a.wav")).job.id
    feeder.step()
    claim(ledger, job_id)
    end_lease(raw, job_id)
    feeder._sweeper.hold_off()
    # When Redis is back, then the worker has time to say that it lives
    feeder.step()
    assert ledger.get(job_id).status is JobStatus.RUNNING
    # When it does not, then the job is on the retry queue
    time.sleep(2.1)
    feeder.step()
    feeder.stop()
    assert take_messages(raw, RETRY_QUEUE) == [job_id]
    assert [attempt.outcome for attempt in ledger.get(job_id).attempts] == ["lost"]
