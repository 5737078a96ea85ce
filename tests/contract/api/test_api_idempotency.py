"""Idempotency-Key over HTTP: the same answer again, and what a client is told otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.idempotency import HEADER, REPLAYED
from config.settings import ApiSettings
from tests.api_process import ApiProcess
from tests.contract.api.conftest import KEYS
from tests.faulty_proxy import Fault, FaultyProxy, Mode
from tests.ports import choose_port
from warmline.cli.api_client import SUBMIT_AGAIN_SECONDS, ApiClient, ApiUnavailable
from warmline.jobs.ledger import Ledger

Post = Callable[..., httpx.Response]

JOB = {"source": {"bucket": "calls", "key": "once/a.wav"}}
BATCH = {"bucket": "calls", "keys": ["once/a.wav", "once/b.wav"]}


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return f"{request.node.name} ~!"[-255:]


@pytest.fixture
def post(client: httpx.Client, key: str) -> Post:
    """Sends a request under the test's key, or another."""

    def send(path: str, body: dict[str, Any], sent_key: str = key) -> httpx.Response:
        return client.post(path, json=body, headers={HEADER: sent_key})

    return send


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(("path", "body"), [("/v1/jobs", JOB), ("/v1/batches", BATCH)], ids=["job", "batch"])
def test_sent_again_a_request_gets_the_same_answer(post: Post, path: str, body: dict[str, Any]) -> None:
    first, again, once_more = (post(path, body) for _ in range(3))
    assert [answer.status_code for answer in (first, again, once_more)] == [202] * 3
    assert first.content == again.content == once_more.content
    assert first.headers["location"] == again.headers["location"] == first.json()["links"]["self"]
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == once_more.headers[REPLAYED] == "true"


def test_without_a_key_each_request_is_a_new_one(client: httpx.Client) -> None:
    answers = [client.post("/v1/jobs", json=JOB) for _ in range(2)]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    assert not any(REPLAYED in answer.headers for answer in answers)


def test_another_request_under_the_same_key_is_refused(post: Post) -> None:
    made = post("/v1/jobs", JOB).json()["id"]
    assert refused(post("/v1/jobs", JOB | {"lane": "bulk"})) == (422, "idempotency_key_reused")
    assert refused(post("/v1/batches", BATCH)) == (422, "idempotency_key_reused")
    # and the first one stands
    assert post("/v1/jobs", JOB).json()["id"] == made


def test_a_refusal_is_not_remembered(post: Post) -> None:
    assert refused(post("/v1/jobs", {"source": {"bucket": "payroll", "key": "a"}}))[0] == 403
    assert refused(post("/v1/jobs", {}))[0] == 422
    assert refused(post("/v1/batches", {"bucket": "calls", "prefix": "no/such/calls/"}))[0] == 404
    assert refused(post("/v1/batches", {"bucket": "no-such-bucket", "prefix": ""}))[0] == 404
    answer = post("/v1/batches", BATCH)
    assert (answer.status_code, REPLAYED in answer.headers) == (202, False)


@pytest.mark.parametrize(
    "sent", ["", '""', "x" * 256, "tab\tbed", "é".encode(), "客".encode(), b"\x7f", '"' + "x" * 256 + '"']
)
def test_a_key_that_is_none(client: httpx.Client, sent: str | bytes) -> None:
    for path, body in (("/v1/jobs", JOB), ("/v1/batches", BATCH)):
        headers = {HEADER.encode(): sent if isinstance(sent, bytes) else sent.encode()}
        assert refused(client.post(path, json=body, headers=headers)) == (400, "idempotency_key_invalid")


def test_two_keys_are_none(client: httpx.Client) -> None:
    headers = [(HEADER, "a"), (HEADER, "b")]
    assert refused(client.post("/v1/jobs", json=JOB, headers=headers)) == (400, "idempotency_key_invalid")


@pytest.mark.parametrize("long", ["x" * 255, '"' + "z" * 255 + '"'])
def test_a_key_may_be_long(post: Post, long: str) -> None:
    assert post("/v1/jobs", JOB, long).status_code == 202


def test_quotes_around_a_key_are_no_part_of_it(post: Post) -> None:
    assert post("/v1/jobs", JOB, "in quotes").json() == post("/v1/jobs", JOB, '"in quotes"').json()


def test_a_key_of_the_api_that_is_changed_does_not_make_a_request_another(
    post: Post, client: httpx.Client
) -> None:
    first = post("/v1/jobs", JOB)
    authorization = client.headers["authorization"]
    client.headers["authorization"] = f"Bearer {KEYS[1]}"
    try:
        assert post("/v1/jobs", JOB).json() == first.json()
    finally:
        client.headers["authorization"] = authorization


def test_twenty_clients_at_once_get_one_job(api: ApiProcess, key: str, ledger: Ledger) -> None:
    content = json.dumps({"source": {"bucket": "calls", "key": "once/twenty.wav"}})
    headers = {HEADER: key, "authorization": f"Bearer {KEYS[0]}", "content-type": "application/json"}

    def send(_: int) -> httpx.Response:
        return httpx.post(f"{api.url}/v1/jobs", content=content, headers=headers, timeout=60, trust_env=False)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    made = [state for state in ledger.list(limit=1000) if state.job.source.key == "once/twenty.wav"]
    assert [state.job.id for state in made] == [answers[0].json()["id"]]


@pytest.mark.parametrize(("path", "body"), [("/v1/jobs", JOB), ("/v1/batches", BATCH)], ids=["job", "batch"])
def test_a_client_that_lost_its_answer_gets_it_when_it_asks_again(
    api: ApiProcess, key: str, path: str, body: dict[str, Any]
) -> None:
    # Given a connection that breaks when the API has done what was asked
    with (
        FaultyProxy(api.url) as proxy,
        httpx.Client(base_url=proxy.address, timeout=60, trust_env=False) as unlucky,
        proxy.failing(Fault(mode=Mode.LOSE_ANSWER, times=1)),
    ):
        headers = {HEADER: key, "authorization": f"Bearer {KEYS[0]}"}
        with pytest.raises(httpx.TransportError):
            unlucky.post(path, json=body, headers=headers)
        # Then the second time is told of the first
        answer = unlucky.post(path, json=body, headers=headers)
    assert (answer.status_code, answer.headers[REPLAYED]) == (202, "true")


def test_the_description_has_the_header_on_both(openapi: dict[str, Any]) -> None:
    for path in ("/v1/jobs", "/v1/batches"):
        operation = openapi["paths"][path]["post"]
        (parameter,) = operation["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == (HEADER, "header", False)
        assert REPLAYED in operation["responses"]["202"]["headers"]
        for status, code in ((400, "invalid"), (409, "in_use"), (422, "reused")):
            examples = operation["responses"][str(status)]["content"]["application/problem+json"]["examples"]
            assert f"idempotency_key_{code}" in examples


# The command line's client


def test_the_command_line_s_client_asks_again_until_it_has_its_answer(api: ApiProcess, ledger: Ledger) -> None:
    jobs = [{"source": {"bucket": "calls", "key": f"once/cli-{n}.wav"}} for n in range(2)]
    with FaultyProxy(api.url) as proxy, proxy.failing(Fault(mode=Mode.LOSE_ANSWER, times=2)):
        settings = ApiSettings(url=proxy.address, keys=(SecretStr(KEYS[0]),))
        with ApiClient(settings) as unlucky:
            batch_id = unlucky.submit_batch({"jobs": jobs})
        assert proxy.failed == 2
        assert [status for _, _, status in proxy.answered] == [202] * 3
    # Then the API was asked three times, and made one batch
    made = [state for state in ledger.list(limit=1000) if state.job.source.key == "once/cli-0.wav"]
    assert [state.job.batch_id for state in made] == [batch_id]


def test_the_command_line_s_client_does_not_wait_for_an_api_that_is_not_there() -> None:
    started = time.monotonic()
    with (
        ApiClient(ApiSettings(url=f"http://127.0.0.1:{choose_port()}")) as client,
        pytest.raises(ApiUnavailable),
    ):
        client.submit_batch({"jobs": [JOB]})
    assert time.monotonic() - started < SUBMIT_AGAIN_SECONDS / 2
