"""What is on Celery's queues: what any Celery client could have sent. And Celery's settings."""

from __future__ import annotations

import base64
import json
import ssl
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, Settings, SettingsError
from tests.unit.jobs.conftest import NewJob
from warmline.jobs import keys
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import IN_LEDGER, QUEUES, RETRY_QUEUE, TASK, Messages, job_id_of_message, make_celery
from warmline.jobs.records import Job, JobStatus, Options, Source
from warmline.jobs.submission import submit_job

CALL = Source(bucket="calls", key="a call.wav")


def decoded(text: str) -> tuple[dict[str, Any], list[Any]]:
    """A message's headers and its three-part body."""
    message = json.loads(text)
    return message["headers"], json.loads(base64.b64decode(message["body"]))


def test_a_submitted_job_is_in_the_ledger_and_its_message_on_its_lane(
    ledger: Ledger, feeder: Feeder, raw: Any
) -> None:
    # When a job is submitted
    options = Options(granularity="utterance")
    state = submit_job(ledger, CALL, options=options, metadata={"agent": "7"}, lane="live")
    # Then it is in the ledger
    found = ledger.get(state.job.id)
    assert (found.status, found.job) == (JobStatus.QUEUED, state.job)
    assert (found.job.source, found.job.options, found.job.metadata) == (CALL, options, {"agent": "7"})
    # And its message, under its own id, carries all of it; what Flower shows leaves all but the lane out
    feeder.step()
    (text,) = raw.lrange(f"{keys.BROKER}{QUEUES['live']}", 0, -1)
    headers, (args, kwargs, _) = decoded(text)
    assert (headers["task"], headers["id"], headers["eta"]) == (TASK, state.job.id, None)
    assert [Job.model_validate(arg) for arg in args] == [state.job]
    assert (headers["argsrepr"], kwargs) == ("live lane", {})
    assert raw.llen(f"{keys.BROKER}{QUEUES['bulk']}") == 0


def test_our_messages_are_those_that_celery_itself_would_send(
    settings: Settings, new_job: NewJob, raw: Any
) -> None:
    # Given the same job, sent by Celery and written by us
    job, app = new_job(metadata={"line": "ä"}), make_celery(settings)
    app.send_task(
        TASK,
        args=[job.model_dump(mode="json")],
        argsrepr=f"{job.lane} lane",
        task_id=job.id,
        queue=QUEUES["bulk"],
        ignore_result=True,
    )
    theirs = json.loads(raw.lpop(f"{keys.BROKER}{QUEUES['bulk']}"))
    app.close()
    ours = json.loads(Messages.of(settings).write(job, QUEUES["bulk"]))
    # Then they differ in nothing that Celery reads
    assert ours["properties"].pop(IN_LEDGER) is True
    for part in (theirs, ours):
        for name in ("delivery_tag", "reply_to", "argsrepr"):  # random, of no use without a result, a copy
            part["properties"].pop(name, None)
    assert base64.b64decode(ours.pop("body")).decode() == base64.b64decode(theirs.pop("body")).decode()
    assert ours == theirs


def test_a_job_is_found_in_its_message_and_nothing_in_others(settings: Settings, new_job: NewJob) -> None:
    job = new_job()
    assert job_id_of_message(Messages.of(settings).write(job, RETRY_QUEUE)) == job.id
    for text in ("", "no message", "[]", "{}", '{"headers": null}', '{"headers": {"id": 7}}'):
        assert job_id_of_message(text) is None


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
        assert channel.socket_timeout == settings.redis.timeout_seconds
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
