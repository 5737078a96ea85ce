"""Compose smoke: what `docker compose up --wait` starts, started here, used as a user would, and stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
from mypy_boto3_s3.client import S3Client
from standardwebhooks import Webhook

from deploy.make_secrets import ACCESS_KEY, make_secrets
from tests.compose.compose_file import ROOT, ComposeFile
from tests.compose.local_services import LocalStack
from tests.ports import choose_port
from tests.servers import require_server, wait_until
from tests.webhook_receiver import Receiver, running_receiver
from warmline.local.seaweedfs import GRPC_OFFSET, seaweedfs_binary
from warmline.local.valkey import valkey_binary

CALL = ROOT / "samples" / "calls" / "call-001-billing.wav"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compose") / "secrets"
    make_secrets(directory)
    return directory


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Somebody who is told when jobs end."""
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, secrets: Path, receiver: Receiver) -> Iterator[LocalStack]:
    require_server(valkey_binary)
    require_server(seaweedfs_binary)
    ports: dict[str, str] = {}
    for name in ("API_PORT", "S3_PORT", "FLOWER_PORT"):
        taken = {int(port) + offset for port in ports.values() for offset in (0, GRPC_OFFSET)}
        ports[name] = str(choose_port(offsets=(0, GRPC_OFFSET), taken=taken))
    file = ComposeFile.read({**ports, "SECRETS_DIR": str(secrets)})
    settings = {"WARMLINE_WEBHOOKS_URLS": receiver.url, "WARMLINE_WEBHOOKS_ALLOW_PRIVATE": "true"}
    with LocalStack(file, tmp_path_factory.mktemp("stack"), env_file=settings).running() as running:
        yield running
        running.stop()


def secret(secrets: Path, name: str) -> str:
    return (secrets / name).read_text().strip()


@pytest.fixture(scope="module")
def api(stack: LocalStack, secrets: Path) -> Iterator[httpx.Client]:
    key = {"Authorization": f"Bearer {secret(secrets, 'api_keys')}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{stack.port('api')}", headers=key, trust_env=False, timeout=60
    ) as client:
        yield client


@pytest.fixture(scope="module")
def s3(stack: LocalStack, secrets: Path) -> S3Client:
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{stack.port('s3')}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret(secrets, "s3_secret_key"),
        region_name="us-east-1",
    )
    return client


def finished_jobs(api: httpx.Client, count: int) -> list[dict[str, str]]:
    """All jobs, when there are so many and each has ended."""
    found: list[dict[str, str]] = []

    def have_ended() -> bool:
        found[:] = api.get("/v1/jobs").raise_for_status().json()["jobs"]
        return len(found) == count and all(job["status"] not in {"queued", "running"} for job in found)

    wait_until(have_ended, f"{count} jobs have ended", interval_seconds=0.1)
    return found


@pytest.mark.slow
def test_an_upload_becomes_a_report(
    stack: LocalStack, api: httpx.Client, s3: S3Client, receiver: Receiver, secrets: Path
) -> None:
    # Given what `up --wait` leaves: every service healthy. When a recording is put into the bucket
    s3.upload_file(str(CALL), "calls", "monday/billing.wav")
    # Then the store announces it, it is scored, and its report is where reports are
    (job,) = finished_jobs(api, 1)
    assert job["status"] == "succeeded"
    report = api.get(f"/v1/jobs/{job['id']}/report").raise_for_status().json()
    assert report["source"]["key"] == "monday/billing.wav"
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="reports").get("Contents", [])]
    assert any(key.endswith(".json") and not key.startswith(".") for key in keys)
    # And one that is uploaded with a presigned request goes the same way
    made = api.post("/v1/uploads", json={"name": "friday.wav", "size_bytes": CALL.stat().st_size})
    upload = made.raise_for_status().json()
    assert upload["url"].startswith(f"http://127.0.0.1:{stack.port('s3')}/")
    sent = httpx.request(
        upload["method"],
        upload["url"],
        headers=upload["headers"],
        content=CALL.read_bytes(),
        trust_env=False,
        timeout=60,
    )
    assert sent.is_success, sent.text
    assert {job["status"] for job in finished_jobs(api, 2)} == {"succeeded"}
    # And whoever warmline.env names is told, and can tell by whom
    wait_until(lambda: receiver.types == ["job.succeeded"] * 2, f"two events, not {receiver.types}")
    for taken in receiver.taken:
        Webhook(secret(secrets, "webhooks_secrets")).verify(taken.body, taken.headers)


@pytest.mark.slow
def test_who_watches_sees_it_and_nobody_else(stack: LocalStack, api: httpx.Client, secrets: Path) -> None:
    assert api.get("/health").json()["status"] == "healthy"
    token = {"Authorization": f"Bearer {secret(secrets, 'metrics_token')}"}
    for name, metric in (("api", "warmline_redis_up 1.0"), ("worker", "warmline_warm_children")):
        page = f"http://127.0.0.1:{stack.port(name)}/metrics"
        assert metric in httpx.get(page, headers=token, trust_env=False, timeout=60).raise_for_status().text
        assert httpx.get(page, trust_env=False, timeout=60).status_code == httpx.codes.UNAUTHORIZED
    assert (
        httpx.get(api.base_url.join("/v1/jobs"), trust_env=False, timeout=60).status_code
        == httpx.codes.UNAUTHORIZED
    )
    flower = f"http://127.0.0.1:{stack.port('flower')}/"
    assert httpx.get(flower, trust_env=False, timeout=60).status_code == httpx.codes.UNAUTHORIZED
    asked = httpx.get(flower, auth=("warmline", secret(secrets, "flower_password")), trust_env=False, timeout=60)
    assert asked.is_success


@pytest.mark.slow
def test_no_secret_is_in_a_log_or_on_a_command_line(stack: LocalStack, secrets: Path) -> None:
    kept = {path.name: path.read_text().strip() for path in secrets.iterdir() if path.suffix == ""}
    assert len(kept) >= 8
    shown = {name: service.log.read_text(errors="replace") for name, service in stack.services.items()}
    for name, service in stack.services.items():
        assert service.process is not None
        if service.process.poll() is None:
            family = [psutil.Process(service.process.pid)]
            family += family[0].children(recursive=True)
            shown[f"{name}'s command lines"] = "\n".join(" ".join(each.cmdline()) for each in family)
    assert [(place, name) for place, text in shown.items() for name, value in kept.items() if value in text] == []
    # And our own processes say nothing that somebody should look into
    for name in ("api", "worker"):
        lines = [json.loads(line) for line in shown[name].splitlines() if line.startswith("{")]
        assert lines
        assert [line for line in lines if line["level"] not in {"info", "debug"}] == []


@pytest.mark.slow
def test_all_of_them_end_in_their_time_and_what_they_keep_is_there_again(
    stack: LocalStack,
) -> None:
    began = time.monotonic()
    stack.stop()
    assert time.monotonic() - began < sum(each.service.stop_seconds for each in stack.services.values())
    kept = stack.directory / "volumes"
    assert list((kept / "redis").rglob("*.aof"))
    assert list((kept / "s3").rglob("*.dat"))
    assert list((kept / "flower").iterdir())


def test_a_misspelled_variable_is_noticed(tmp_path: Path, secrets: Path) -> None:
    # Given a file in which somebody mistyped what one service is told
    file = ComposeFile.read({"SECRETS_DIR": str(secrets), "API_PORT": str(choose_port())})
    api = file.services["api"]
    api.node["environment"]["WARMLINE_API_KEY_FILE"] = api.node["environment"].pop("WARMLINE_API_KEYS_FILE")
    api.node.pop("depends_on")
    file.services = {"api": api}
    # When it is started, then it ends, and says why
    with (
        pytest.raises(pytest.fail.Exception, match="WARMLINE_API_KEY_FILE is not a setting"),
        LocalStack(file, tmp_path / "stack").running(),
    ):
        pass
