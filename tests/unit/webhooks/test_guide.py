"""docs/webhooks.md: what is to be copied from it runs, and what it shows is so."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from config.settings import WebhooksSettings
from tests.ports import choose_port
from tests.servers import skip_or_fail, wait_until
from tests.webhook_receiver import SECRET, running_receiver
from warmline.webhooks.events import Event
from warmline.webhooks.posting import make_receivers
from warmline.webhooks.retries import GROWTH
from warmline.webhooks.signing import Signer

GUIDE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def shell(script: str, **variables: str) -> str:
    if shutil.which("openssl") is None or shutil.which("curl") is None:
        skip_or_fail("openssl and curl are not installed")
    environment = {**os.environ, **variables}
    done = subprocess.run(
        ["/bin/sh", "-eu", "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()


@contextmanager
def receiver_of_the_guide() -> Iterator[str]:
    (code,) = blocks("python")
    port = choose_port()
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace("9000", str(port))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "WARMLINE_WEBHOOKS_SECRETS": SECRET},
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_until(lambda: is_there(url), "the guide's receiver answers")
        yield url
    finally:
        process.kill()
        assert process.stdout is not None
        print(process.stdout.read())
        process.stdout.close()
        process.wait()


def is_there(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 501  # it takes POST alone
    except httpx.TransportError:
        return False


def test_its_receiver_takes_what_warmline_posts_once_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    async def post(url: str, secret: str) -> int | None:
        settings = WebhooksSettings(urls=(url,), secrets=(SecretStr(secret),), allow_private=True)
        (receiver,) = make_receivers(settings).values()
        answer = await receiver.post("msg_1", Event.test().model_dump_json())
        await receiver.close()
        return answer.status_code

    with receiver_of_the_guide() as url:
        assert [asyncio.run(post(url, SECRET)) for _ in range(2)] == [204, 204]
        assert asyncio.run(post(url, f"whsec_{'QUFB' * 8}")) == 401
    assert capsys.readouterr().out.count("webhook.test") == 1


def test_openssl_signs_as_we_do() -> None:
    script = next(block for block in blocks("sh") if "openssl" in block and "curl" not in block)
    body = '{"type":"webhook.test","data":{"key":"Grüße.wav"}}'
    headers = Signer([SecretStr(SECRET)]).headers("msg_1", datetime.now(UTC), body)
    signature = shell(script, SECRET=SECRET, ID="msg_1", TIMESTAMP=headers["webhook-timestamp"], BODY=body)
    assert headers["webhook-signature"] == f"v1,{signature}"


def test_curl_posts_what_a_receiver_verifies() -> None:
    script = next(block for block in blocks("sh") if "curl" in block)
    with running_receiver() as receiver:
        assert shell(script, SECRET=SECRET, RECEIVER=receiver.url) == "200"
        assert receiver.taken[0].event["type"] == "webhook.test"


def test_its_events_are_as_ours() -> None:
    events = [Event.model_validate_json(block) for block in blocks("json")]
    assert [event.type for event in events] == ["job.succeeded", "job.failed", "batch.finished"]
    for name in WebhooksSettings().events:
        assert f"| `{name}` |" in GUIDE


def test_its_waits_are_as_ours() -> None:
    settings = WebhooksSettings()
    waits = [
        min(settings.retry_seconds * GROWTH**n, settings.max_retry_seconds)
        for n in range(settings.max_attempts - 1)
    ]
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", GUIDE, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(2, settings.max_attempts + 1))
    for n, (_, wait, after) in enumerate(rows):
        assert seconds(wait) == pytest.approx(waits[n], abs=60 if waits[n] > 3600 else 0)
        assert seconds(after) == pytest.approx(sum(waits[: n + 1]), abs=120 if waits[n] > 3600 else 0)


def seconds(text: str) -> int:
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)", text))
