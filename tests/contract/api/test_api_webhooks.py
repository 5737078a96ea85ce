"""The log of webhooks over HTTP: what was posted, to whom, what came back, and posting it again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from api.app import create_app
from config.settings import JobsSettings, RedisSettings, S3Settings, Settings, SettingsError, WebhooksSettings
from tests.api_process import ApiProcess, running_api
from tests.servers import RedisServer, wait_until
from tests.webhook_receiver import SECRET, Receiver, running_receiver
from warmline.jobs.deliveries import endpoint_id_of
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Failure, Job, JobState, Source

NOBODY = "0" * 32
TOKEN = "token-in-the-query"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def told_url(redis_server: RedisServer) -> str:
    """The database of the API that tells."""
    return redis_server.new_database_url()


@pytest.fixture(scope="module")
def telling(
    receiver: Receiver, told_url: str, s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiProcess]:
    """An API with somebody to tell, who is not asked again for a while."""
    with running_api(
        tmp_path_factory.mktemp("telling"),
        told_url,
        s3_settings,
        WARMLINE_WEBHOOKS_URLS=f"{receiver.url}?token={TOKEN}",
        WARMLINE_WEBHOOKS_SECRETS=SECRET,
        WARMLINE_WEBHOOKS_ALLOW_PRIVATE="true",
        WARMLINE_WEBHOOKS_MAX_ATTEMPTS="2",
        WARMLINE_WEBHOOKS_RETRY_SECONDS="0.05",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def http(telling: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=telling.url, timeout=60, trust_env=False) as client:
        wait_until(lambda: bool(client.get("/v1/webhooks").json()["events"]), "somebody listens")
        yield client


@pytest.fixture(scope="module")
def ledger_of_telling(told_url: str) -> Iterator[Ledger]:
    with closing(Ledger.connect(RedisSettings(url=SecretStr(told_url)), JobsSettings())) as made:
        yield made


def fail_job(ledger: Ledger) -> str:
    """The id of a job that has failed."""
    job = Job(id=uuid.uuid4().hex, source=Source(bucket="calls", key="a.wav"), created_at=datetime.now(UTC))
    claimed = ledger.claim(job, "w/1")
    assert isinstance(claimed, JobState)
    ledger.fail(job.id, claimed.attempt, Failure(code="not_audio", message="The content is not audio."))
    return job.id


def told(http: httpx.Client, job_id: str, status: str) -> dict[str, object]:
    """The delivery of the job's event, once it has this status."""
    found: list[dict[str, object]] = []

    def is_there() -> bool:
        rows = http.get("/v1/webhooks/deliveries", params={"status": status}).json()["deliveries"]
        found[:] = [row for row in rows if row["subject_id"] == job_id]
        return bool(found)

    wait_until(is_there, f"the delivery is {status}")
    return found[0]


def test_a_delivery_is_listed_shown_and_posted_again(
    http: httpx.Client, ledger_of_telling: Ledger, receiver: Receiver
) -> None:
    # Given one that was given up after as many tries as may be
    receiver.status = 500
    job_id = fail_job(ledger_of_telling)
    head = told(http, job_id, "failed")
    assert (head["event"], head["tries_made"], head["last_status_code"]) == ("job.failed", 2, 500)
    assert head["last_error"] == "The receiver answered 500."
    # When it is looked at
    shown = http.get(head["links"]["self"]).json()  # type: ignore[index]
    assert [(one["status_code"], one["error"]) for one in shown["tries"]] == [
        (500, "The receiver answered 500.")
    ] * 2
    assert shown["body"] == receiver.taken[-1].body.decode()
    assert shown["webhook_id"] == receiver.taken[-1].webhook_id
    assert receiver.taken[-1].event["data"]["failure"]["code"] == "not_audio"
    # and posted again, now that the receiver is well
    receiver.status = 200
    again = http.post(f"/v1/webhooks/deliveries/{head['id']}/redeliver")
    assert (again.status_code, again.json()["id"]) == (202, head["id"])
    assert told(http, job_id, "delivered")["last_error"] is None
    assert receiver.ids[shown["webhook_id"]] == 3


def test_all_that_failed_since_a_time_is_posted_again(
    http: httpx.Client, ledger_of_telling: Ledger, receiver: Receiver
) -> None:
    receiver.status = 500
    first, second = (told(http, fail_job(ledger_of_telling), "failed") for _ in range(2))
    receiver.status = 200
    future = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    since = str(second["created_at"])
    for when, count in ((future, 0), (since, 1)):
        answer = http.post("/v1/webhooks/redeliver", params={"since": when})
        assert (answer.status_code, answer.json()) == (202, {"redelivered": count})
    told(http, str(second["subject_id"]), "delivered")
    assert http.post("/v1/webhooks/redeliver").json() == {"redelivered": 1}
    told(http, str(first["subject_id"]), "delivered")


def test_pages_follow_one_another(http: httpx.Client, ledger_of_telling: Ledger, receiver: Receiver) -> None:
    receiver.status = 200
    jobs = [fail_job(ledger_of_telling) for _ in range(3)]
    told(http, jobs[0], "delivered")
    told(http, jobs[-1], "delivered")
    first = http.get("/v1/webhooks/deliveries", params={"limit": 2, "status": "delivered"}).json()
    assert first["next"].endswith("&status=delivered")
    second = http.get(first["next"]).json()["deliveries"]
    listed = [row["subject_id"] for row in (*first["deliveries"], *second)]
    assert listed[:3] == jobs[::-1]


def test_the_state_shows_addresses_without_their_query(
    http: httpx.Client, receiver: Receiver, telling: ApiProcess
) -> None:
    state = http.get("/v1/webhooks").json()
    (endpoint,) = state["endpoints"]
    assert endpoint["id"] == endpoint_id_of(f"{receiver.url}?token={TOKEN}")
    assert endpoint["url"] == receiver.url
    assert state["dropped"] == 0
    log = telling.log.read_text()
    assert TOKEN not in log
    assert SECRET not in log


def test_a_test_event_goes_to_every_address_and_the_answer_comes_back(
    http: httpx.Client, receiver: Receiver
) -> None:
    receiver.statuses, receiver.body = [418], b"I am a teapot"
    (trial,) = http.post("/v1/webhooks/test").json()["trials"]
    receiver.body = b""
    assert (trial["status_code"], trial["answer"]) == (418, "I am a teapot")
    assert receiver.taken[-1].event["type"] == "webhook.test"
    assert receiver.taken[-1].path.endswith(f"?token={TOKEN}")
    assert receiver.taken[-1].webhook_id == trial["webhook_id"]


def test_an_endpoint_that_was_gone_is_enabled(
    http: httpx.Client, ledger_of_telling: Ledger, receiver: Receiver
) -> None:
    receiver.statuses = [410]
    told(http, fail_job(ledger_of_telling), "failed")
    (endpoint,) = http.get("/v1/webhooks").json()["endpoints"]
    assert endpoint["disabled_at"] is not None
    enabled = http.post(f"/v1/webhooks/endpoints/{endpoint['id']}/enable")
    assert (enabled.status_code, enabled.json()["disabled_at"]) == (200, None)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/v1/webhooks/deliveries/{NOBODY}", 404, "delivery_not_found"),
        ("GET", f"/v1/webhooks/deliveries?before={NOBODY}", 404, "delivery_not_found"),
        ("GET", "/v1/webhooks/deliveries/x", 422, "invalid_request"),
        ("GET", "/v1/webhooks/deliveries?status=gone", 422, "invalid_request"),
        ("POST", f"/v1/webhooks/deliveries/{NOBODY}/redeliver", 404, "delivery_not_found"),
        ("POST", f"/v1/webhooks/endpoints/{'0' * 8}/enable", 404, "endpoint_not_found"),
        ("POST", "/v1/webhooks/redeliver?sinse=2026-11-23T00:00:00Z", 422, "invalid_request"),
        ("POST", "/v1/webhooks/redeliver?since=yesterday", 422, "invalid_request"),
        ("POST", "/v1/webhooks/redeliver?since=2026-11-23T00:00:00", 422, "invalid_request"),
    ],
)
def test_what_is_not_there_or_not_valid_is_a_problem(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_without_addresses_there_is_nothing_to_see(client: httpx.Client) -> None:
    state = client.get("/v1/webhooks").json()
    assert (state["events"], state["endpoints"], state["waiting"]) == ([], [], 0)
    assert client.get("/v1/webhooks/deliveries").json() == {"deliveries": [], "next": None}
    assert client.post("/v1/webhooks/test").json() == {"trials": []}
    assert client.post("/v1/webhooks/redeliver").json() == {"redelivered": 0}


@pytest.mark.parametrize("path", ["/v1/webhooks", "/v1/webhooks/deliveries", f"/v1/webhooks/deliveries/{NOBODY}"])
def test_a_stranger_sees_nothing(stranger: httpx.Client, path: str) -> None:
    assert stranger.get(path).status_code == 401


def test_an_authority_that_cannot_be_read_ends_the_api_s_start(tmp_path: Path) -> None:
    webhooks = WebhooksSettings(
        urls=("https://x/",), secrets=(SecretStr(SECRET),), ca_file=str(tmp_path / "none.pem")
    )
    with pytest.raises(SettingsError, match="WARMLINE_WEBHOOKS_CA_FILE cannot be used"):
        create_app(Settings(webhooks=webhooks))
