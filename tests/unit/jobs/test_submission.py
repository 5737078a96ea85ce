"""How jobs enter: ledger first, then the queue; and what is on the queue is what any Celery client could send."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings, SettingsError
from tests.servers import running_redis
from tests.unit.jobs.conftest import NewJob
from warmline.jobs import keys
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES, TASK, JobQueue, make_celery
from warmline.jobs.records import Job, JobStatus, Options, Source
from warmline.jobs.submission import submit_batch, submit_job

CALL = Source(bucket="calls", key="a.wav")


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()


def messages(raw: Any, lane: str) -> list[dict[str, Any]]:
    """What waits in a lane's queue, in the order in which it will be taken: headers, and args beside them."""
    found = []
    for text in reversed(raw.lrange(f"{keys.BROKER}{QUEUES[lane]}", 0, -1)):  # type: ignore[index]
        message = json.loads(text)
        assert message["content-type"] == "application/json"
        (args, kwargs, _) = json.loads(base64.b64decode(message["body"]))
        assert kwargs == {}
        found.append(message["headers"] | {"args": args})
    return found


def test_a_submitted_job_is_in_the_ledger_and_on_its_lane(ledger: Ledger, queue: JobQueue, raw: Any) -> None:
    # When a job is submitted
    options = Options(granularity="utterance")
    state = submit_job(ledger, queue, CALL, options=options, metadata={"agent": "7"}, lane="live")
    # Then it is in the ledger
    assert (state.status, state.job.source, state.job.options) == (JobStatus.QUEUED, CALL, options)
    assert ledger.get(state.job.id) == state
    # And its message, under its own id, carries all of it; what Flower shows leaves the metadata out
    (message,) = messages(raw, "live")
    assert (message["task"], message["id"], message["eta"]) == (TASK, state.job.id, None)
    assert [Job.model_validate(arg) for arg in message["args"]] == [state.job]
    assert message["argsrepr"] == "(s3://calls/a.wav)"
    assert messages(raw, "bulk") == []


def test_a_batch_is_counted_and_sent_in_order(ledger: Ledger, queue: JobQueue, raw: Any) -> None:
    # Given more calls than one pipeline holds
    sources = [Source(bucket="calls", key=f"{n}.wav") for n in range(1500)]
    # When they are submitted
    started = time.monotonic()
    batch = submit_batch(ledger, queue, sources)
    seconds = time.monotonic() - started
    # Then all are queued on the bulk lane, first come first served, in no time
    assert (batch.total, batch.queued) == (1500, 1500)
    sent = messages(raw, "bulk")
    assert [message["args"][0]["source"]["key"] for message in sent] == [source.key for source in sources]
    assert {message["args"][0]["batch_id"] for message in sent} == {batch.id}
    assert seconds < 10


def test_a_delayed_job_carries_the_time_it_may_start(queue: JobQueue, raw: Any, new_job: NewJob) -> None:
    queue.send([new_job()], delay_seconds=30)
    (message,) = messages(raw, "live")
    assert message["eta"] is not None


def test_a_queue_can_be_opened_before_it_is_needed(queue: JobQueue, new_job: NewJob, raw: Any) -> None:
    queue.open()
    queue.open()
    queue.send([new_job()])
    assert len(messages(raw, "live")) == 1
    nowhere = RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_seconds=0.5)
    with pytest.raises(LedgerUnavailable):
        JobQueue.connect(Settings(redis=nowhere)).open()


def test_what_was_not_sent_is_failed_in_the_ledger(ledger: Ledger, redis_url: str) -> None:
    # Given a queue at an address where no Redis is, and a ledger where one is
    nowhere = RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_seconds=0.5)
    queue = JobQueue.connect(Settings(redis=nowhere))
    # When jobs are submitted, then the caller is told
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        submit_job(ledger, queue, CALL)
    with pytest.raises(LedgerUnavailable):
        submit_batch(ledger, queue, [CALL, CALL])
    assert time.monotonic() - started < 10
    # And no job stays queued
    states = ledger.list()
    assert {(s.status, s.failure and s.failure.code) for s in states} == {(JobStatus.FAILED, "not_enqueued")}
    assert len(states) == 3
    (batch,) = ledger.batches()
    assert (batch.total, batch.failed, batch.finished) == (2, 2, True)


def test_nothing_is_sent_that_the_ledger_does_not_have(queue: JobQueue, raw: Any) -> None:
    # Given a ledger that does not answer, and a queue that would
    nowhere = RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_seconds=0.5)
    ledger = Ledger.connect(nowhere, JobsSettings())
    # When a job is submitted, then it is refused, and no message is left
    with pytest.raises(LedgerUnavailable):
        submit_job(ledger, queue, CALL)
    assert messages(raw, "live") == []


def test_submissions_go_on_when_redis_comes_back(tmp_path: Path) -> None:
    # Given a client that has sent something
    with running_redis(tmp_path) as server:
        settings = Settings(redis=RedisSettings(url=SecretStr(server.url()), timeout_seconds=2))
        ledger, queue = Ledger.connect(settings.redis, settings.jobs), JobQueue.connect(settings)
        submit_batch(ledger, queue, [CALL])
        # When Redis cuts all connections, as at a restart
        admin: Any = redis.Redis.from_url(server.url())
        admin.client_kill_filter(_type="normal", skipme=True)
        # Then the next submissions get through
        submit_batch(ledger, queue, [CALL])
        admin.client_kill_filter(_type="normal", skipme=True)
        submit_job(ledger, queue, CALL)
        assert [state.status for state in ledger.list()] == [JobStatus.QUEUED] * 3
        admin.close()
        ledger.close()
        queue.close()


def test_the_visibility_timeout_is_in_every_place_that_needs_it() -> None:
    conf = make_celery(Settings(jobs=JobsSettings(visibility_timeout_seconds=77))).conf
    assert conf.visibility_timeout == 77
    assert conf.broker_transport_options["visibility_timeout"] == 77
    assert conf.result_backend_transport_options["visibility_timeout"] == 77


def test_the_transport_takes_the_options_it_is_given(settings: Settings) -> None:
    # Given a channel of the real transport
    app: Celery = make_celery(settings)
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        # Then the options arrived there (an unknown name would be dropped without a word)
        assert (channel.unacked_restore_interval, channel.unacked_restore_throttle) == (5, 1)
        assert channel.global_keyprefix == keys.BROKER
        assert channel.socket_timeout == 2
    app.close()


@pytest.mark.parametrize("variable", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
def test_an_address_in_celerys_own_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "redis://elsewhere/0")
    with pytest.raises(SettingsError, match=variable):
        make_celery(Settings())


def test_tls_checks_the_certificate_unless_the_address_says_otherwise() -> None:
    def ssl_of(url: str) -> Any:
        return make_celery(Settings(redis=RedisSettings(url=SecretStr(url)))).connection_for_read().ssl

    assert ssl_of("rediss://host:6380/0") == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert ssl_of("rediss://host:6380/0?ssl_cert_reqs=none") == {"ssl_cert_reqs": ssl.CERT_NONE}
    assert ssl_of("rediss://host:6380/0?ssl_ca_certs=/etc/ca.pem") == {"ssl_ca_certs": "/etc/ca.pem"}
    assert not ssl_of("redis://host/0")
