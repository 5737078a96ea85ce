"""One running API for all tests of its contract, and clients that hold every answer against its OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.problems import Problem
from config.settings import JobsSettings, RedisSettings, S3Settings
from tests.api_process import ApiProcess, running_api
from tests.servers import RedisServer
from tests.sns_server import TOPIC, SnsServer, running_sns
from warmline.jobs.ledger import Ledger
from warmline.objects.store import ObjectStore

KEYS = ("first-key-of-two", "second-key-of-two")
METRICS_TOKEN = "token-of-prometheus"
TOKENS = ("token-of-a-store", "token-of-another-store")
MAX_BATCH = 5
MAX_BODY_BYTES = 20_000


@pytest.fixture(scope="package")
def redis_url_of_api(redis_server: RedisServer) -> str:
    """The API's database."""
    return redis_server.new_database_url()


@pytest.fixture(scope="package")
def api(
    tmp_path_factory: pytest.TempPathFactory, redis_url_of_api: str, s3_settings: S3Settings, sns: SnsServer
) -> Iterator[ApiProcess]:
    """The API, with keys and with small limits."""
    with running_api(
        tmp_path_factory.mktemp("api"),
        redis_url_of_api,
        s3_settings,
        WARMLINE_API_KEYS=",".join(KEYS),
        WARMLINE_API_MAX_BODY_BYTES=str(MAX_BODY_BYTES),
        WARMLINE_JOBS_MAX_BATCH=str(MAX_BATCH),
        WARMLINE_METRICS_TOKEN=METRICS_TOKEN,
        WARMLINE_S3_SOURCE_BUCKETS="calls,no-such-bucket",
        WARMLINE_TRIGGERS_TOKENS=",".join(TOKENS),
        WARMLINE_TRIGGERS_SNS_TOPICS=f"{TOPIC},{TOPIC}-too",
        WARMLINE_TRIGGERS_SNS_HOSTS=sns.url,
    ) as running:
        yield running


@pytest.fixture(scope="package")
def sns() -> Iterator[SnsServer]:
    """The SNS whose messages the API believes."""
    with running_sns() as running:
        yield running


@pytest.fixture(scope="package")
def openapi(api: ApiProcess) -> dict[str, Any]:
    """The API's own description."""
    document: dict[str, Any] = httpx.get(f"{api.url}/openapi.json", trust_env=False, timeout=60).json()
    return document


@pytest.fixture(scope="package")
def hold_to_openapi(openapi: dict[str, Any]) -> Callable[[httpx.Response], None]:
    """Fails for an answer that the document does not promise, or that the house's rules forbid."""

    def check(answer: httpx.Response) -> None:
        answer.read()
        path, media_type = answer.request.url.path, answer.headers.get("content-type")
        for template, operations in openapi["paths"].items():
            operation = operations.get(answer.request.method.lower())
            if operation and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                assert str(answer.status_code) in operation["responses"], f"{answer.request.method} {path}"
                promised = operation["responses"][str(answer.status_code)].get("content", {None: {}})
                assert media_type in promised
        if answer.is_error and path != "/health":
            problem = Problem.model_validate(answer.json(), extra="forbid")
            assert media_type == "application/problem+json"
            assert problem.status == answer.status_code
            assert problem.type == f"urn:warmline:problem:{problem.code}"
            assert problem.request_id == answer.headers["x-request-id"]
            assert "Traceback" not in answer.text
            assert None not in answer.json().values()
        assert answer.headers["x-content-type-options"] == "nosniff"
        if path.endswith(".svg") and not answer.is_error:
            assert answer.headers["cache-control"] == "private, no-cache"
        elif path != "/v1/schemas/report":
            assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers

    return check


@pytest.fixture(scope="package")
def stranger(api: ApiProcess, hold_to_openapi: Callable[[httpx.Response], None]) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(
        base_url=api.url, timeout=60, trust_env=False, event_hooks={"response": [hold_to_openapi]}
    ) as client:
        yield client


@pytest.fixture(scope="package")
def client(api: ApiProcess, hold_to_openapi: Callable[[httpx.Response], None]) -> Iterator[httpx.Client]:
    """A client with a key."""
    with httpx.Client(
        base_url=api.url,
        timeout=60,
        trust_env=False,
        headers={"Authorization": f"Bearer {KEYS[0]}"},
        event_hooks={"response": [hold_to_openapi]},
    ) as client:
        yield client


@pytest.fixture(scope="package")
def ledger(redis_url_of_api: str) -> Iterator[Ledger]:
    """The ledger behind the API: what a worker would write, a test writes here."""
    with closing(Ledger.connect(RedisSettings(url=SecretStr(redis_url_of_api)), JobsSettings())) as made:
        yield made


@pytest.fixture(scope="package")
def store(s3_settings: S3Settings) -> Iterator[ObjectStore]:
    """The object store behind the API."""
    with closing(ObjectStore(s3_settings)) as made:
        yield made
