"""A real API and a real worker that know many secrets and write all they can: none of it is in their logs.

They are not traced, and so nothing is loaded that could send traces.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from pydantic import SecretStr

from config.settings import (
    ApiSettings,
    FlowerSettings,
    LogSettings,
    MetricsSettings,
    S3Settings,
    Settings,
    TracingSettings,
    TriggersSettings,
    WebhooksSettings,
    process_environment,
)
from tests.api_process import running_api
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.servers import RedisServer
from warmline.jobs.records import Source

KEY, TOKEN = "api-key-of-ours-1", "trigger-token-of-ours-2"
SIGNS = base64.b64encode(b"webhook-secret-of-ours-3").decode()
SENT_IN_VAIN = "a-strangers-key-4"


@dataclass(frozen=True)
class Written:
    """What the two wrote, and what must not be in it."""

    api: str
    worker: str
    secrets: dict[str, str]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisServer,
    module_redis_url: str,
    s3_settings: S3Settings,
    worker_settings: NewSettings,
    call: Source,
) -> Iterator[Written]:
    directory = tmp_path_factory.mktemp("secrets")
    sections = {
        "log": LogSettings(level="DEBUG"),
        "api": ApiSettings(keys=(SecretStr(KEY),)),
        "flower": FlowerSettings(password=SecretStr("flower-password-of-ours-5")),
        "metrics": MetricsSettings(token=SecretStr("metrics-token-of-ours-6"), port=0),
        "triggers": TriggersSettings(tokens=(SecretStr(TOKEN),)),
        "tracing": TracingSettings(headers=SecretStr("authorization=Bearer%20tracing-header-of-ours-7")),
        # There is nobody at this address
        "webhooks": WebhooksSettings(
            urls=("http://127.0.0.1:9/hooks/path-of-ours-8?token=query-of-ours-9",),
            secrets=(SecretStr(f"whsec_{SIGNS}"),),
            allow_private=True,
        ),
    }
    settings: Settings = worker_settings(module_redis_url).model_copy(update=sections)
    secrets = {
        "redis": redis_server.password,
        "s3 access key": s3_settings.access_key.get_secret_value(),
        "s3 secret key": s3_settings.secret_key.get_secret_value(),
        "api key": KEY,
        "token": TOKEN,
        "webhooks": SIGNS,
        "stranger": SENT_IN_VAIN,
        **{
            name: f"{name}-of-ours"
            for name in ("flower-password", "metrics-token", "tracing-header", "path", "query")
        },
    }
    environment = process_environment(settings, PYTHONPROFILEIMPORTTIME="1", PYTHONWARNINGS="always")
    mine = {name: value for name, value in environment.items() if name.startswith(("WARMLINE_", "PYTHON"))}
    del mine["WARMLINE_API_PORT"]  # it takes a free one
    worker = WorkerProcess(settings, directory / "worker.log", variables=mine)
    with (
        worker,
        running_api(directory, module_redis_url, s3_settings, **mine) as api,
    ):
        worker.wait_warm()
        headers = {"authorization": f"Bearer {KEY}"}
        _ask(api.url, call, worker, headers)
        yield Written(api=api.log.read_text(), worker=worker.log_text(), secrets=secrets)


def _ask(url: str, call: Source, worker: WorkerProcess, headers: dict[str, str]) -> None:
    """What is well, and what is not."""
    for key in (call.key, "no/such.wav"):
        job = {"source": {"bucket": call.bucket, "key": key}}
        accepted = httpx.post(f"{url}/v1/jobs", json=job, headers=headers, trust_env=False, timeout=60)
        worker.wait_finished(accepted.json()["id"])
    signed = httpx.post(
        f"{url}/v1/uploads", json={"filename": "a.wav"}, headers=headers, trust_env=False, timeout=60
    )
    assert signed.status_code < 500
    for wrong in ({"authorization": f"Bearer {SENT_IN_VAIN}"}, {}):
        httpx.get(f"{url}/v1/jobs?token={SENT_IN_VAIN}", headers=wrong, trust_env=False, timeout=60)
    httpx.post(f"{url}/v1/events/s3", auth=("warmline", TOKEN), content=b"{", trust_env=False, timeout=60)


def test_no_secret_is_in_any_log(written: Written) -> None:
    for text in (written.api, written.worker):
        seen = [what for what, secret in written.secrets.items() if secret in text]
        assert seen == []
    assert "botocore" in written.worker  # it wrote all that it could
    assert "[hidden]" in written.worker


def test_every_line_is_in_the_one_shape(written: Written) -> None:
    for text in (written.api, written.worker):
        lines = [line for line in text.splitlines() if not line.startswith("import time:")]
        assert len(lines) > 10
        for line in lines:
            fields = json.loads(line)
            assert {"timestamp", "level", "action", "process"} <= fields.keys(), line
    finished = [json.loads(line) for line in written.worker.splitlines() if '"job_finished"' in line]
    assert {"job_id", "batch_id", "worker", "attempt"} <= finished[0].keys()


def test_nothing_that_could_send_traces_is_loaded(written: Written) -> None:
    # FastAPI and redis-py import what else they find of OpenTelemetry, whoever uses them.
    ours = ("warmline.telemetry.recording", "opentelemetry.exporter")
    for text in (written.api, written.worker):
        imported = re.findall(r"^import time:.*\| +(\S+)$", text, re.MULTILINE)
        assert "warmline.telemetry.tracing" in imported
        assert [name for name in imported if name.startswith(ours)] == []
