"""The log of webhooks and what there is to do about it: the command against a real API with somebody to tell."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from config.settings import ApiSettings, JobsSettings, RedisSettings, S3Settings, WebhooksSettings
from tests.api_process import running_api
from tests.cli.conftest import Warmline
from tests.servers import wait_until
from tests.webhook_receiver import SECRET, Receiver, running_receiver
from warmline.cli.api_client import ApiClient
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Failure, Job, JobState, Source


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def api(
    receiver: Receiver, tmp_path_factory: pytest.TempPathFactory, module_redis_url: str, s3_settings: S3Settings
) -> Iterator[ApiClient]:
    with (
        running_api(
            tmp_path_factory.mktemp("api"),
            module_redis_url,
            s3_settings,
            WARMLINE_WEBHOOKS_URLS=receiver.url,
            WARMLINE_WEBHOOKS_SECRETS=SECRET,
            WARMLINE_WEBHOOKS_ALLOW_PRIVATE="true",
            WARMLINE_WEBHOOKS_MAX_ATTEMPTS="1",
        ) as running,
        ApiClient(ApiSettings(url=running.url)) as made,
    ):
        wait_until(lambda: bool(made.webhooks()["events"]), "somebody listens")
        yield made


def test_deliveries_are_listed_shown_and_posted_again(
    warmline: Warmline, api: ApiClient, receiver: Receiver, module_redis_url: str
) -> None:
    # Given a delivery that was given up
    where = {"WARMLINE_API_URL": api.base_url}
    receiver.status = 503
    job = Job(id=uuid.uuid4().hex, source=Source(bucket="calls", key="a.wav"), created_at=datetime.now(UTC))
    with closing(Ledger.connect(RedisSettings(url=SecretStr(module_redis_url)), JobsSettings())) as ledger:
        claimed = ledger.claim(job, "w/1")
        assert isinstance(claimed, JobState)
        ledger.fail(job.id, claimed.attempt, Failure(code="not_audio", message="The content is not audio."))
    wait_until(lambda: api.webhooks()["failed"] == 1, "it is given up")
    (row,) = api.deliveries()
    # Then it is listed with its reason, and shown with what was posted
    listed = warmline("webhooks", "list", "--status", "failed", **where).stdout
    assert "0 pending, 0 delivered, 1 failed; 0 endings wait" in listed
    assert all(word in listed for word in (row["id"], "job.failed", receiver.url, "The receiver answered 503."))
    shown = warmline("webhooks", "show", row["id"], **where).stdout
    assert row["webhook_id"] in shown
    assert '"code":"not_audio"' in shown
    # When all are posted again, one more, and a test event
    receiver.status = 200
    assert warmline("webhooks", "redeliver", "--failed", **where).stdout == "1 to be posted again\n"
    wait_until(lambda: api.webhooks()["delivered"] == 1, "it is delivered")
    assert warmline("webhooks", "redeliver", row["id"], **where).stdout == "1 to be posted again\n"
    wait_until(lambda: receiver.ids[row["webhook_id"]] == 3, "it is posted again")
    tried = warmline("webhooks", "test", **where)
    assert (tried.returncode, tried.stdout.startswith(f"{receiver.url}: took it (200)")) == (0, True)
    # and a receiver that does not take it
    receiver.statuses, receiver.body = [401], b"who are you?"
    refused = warmline("webhooks", "test", **where)
    assert refused.returncode == 1
    assert "The receiver answered 401." in refused.stdout
    assert "who are you?" in refused.stdout


def test_one_choice_has_to_be_made(warmline: Warmline) -> None:
    done = warmline("webhooks", "redeliver", "0" * 32, "--failed")
    assert done.returncode == 1
    assert "one delivery's id, or --failed" in done.stderr


def test_a_secret_is_made_without_any_settings(warmline: Warmline) -> None:
    done = warmline("webhooks", "secret", WARMLINE_WEBHOOKS_URLS="https://x/")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/=]{44}\n", done.stdout)
    assert WebhooksSettings(secrets=(SecretStr(done.stdout.strip()),)).secrets
