"""A small stack under Prometheus' eyes: Redis, S3 behind a proxy, the API, a worker, a receiver of webhooks."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from config.settings import JobsSettings, MetricsSettings, S3Settings, Settings, WebhooksSettings, to_variables
from tests.api_process import ApiProcess, running_api
from tests.faulty_proxy import FaultyProxy
from tests.integration.worker_process import WorkerProcess
from tests.monitoring.prometheus_server import Prometheus, running_prometheus
from tests.ports import choose_port
from tests.servers import running_redis, wait_until
from tests.webhook_receiver import SECRET, Receiver, running_receiver
from warmline.jobs.records import Source
from warmline.jobs.submission import submit_job

TOKEN = "a-token-of-the-tests"
STALLED_SECONDS = 2.0
SCRAPED_SECONDS = 60.0  # for something to be seen: other tests and other people may use the machine


@dataclass(frozen=True, kw_only=True)
class WatchedStack:
    """What runs, and who watches it."""

    prometheus: Prometheus
    api: ApiProcess
    worker: WorkerProcess
    receiver: Receiver
    proxy: FaultyProxy
    settings: Settings
    began: float  # when all of them ran, in seconds of the epoch
    stop_redis: Callable[[], None]

    def metrics_pages(self) -> dict[str, str]:
        """What Prometheus reads: process -> text."""
        urls = {"api": self.api.url, "worker": f"http://127.0.0.1:{self.settings.metrics.port}"}
        return {name: self.metrics_page(url) for name, url in urls.items()}

    def metrics_page(self, url: str) -> str:
        """One of them."""
        answer = self.get(f"{url}/metrics", Authorization=f"Bearer {TOKEN}")
        assert answer.status_code == 200, answer.text
        return answer.text

    def get(self, url: str, **headers: str) -> httpx.Response:
        """Whatever is answered."""
        return self.prometheus.client.get(url, headers=headers)

    def submit(self, source: Source, lane: str = "live") -> str:
        """Accepts a job and returns its id."""
        return submit_job(self.worker.ledger, source, lane=lane).job.id  # type: ignore[arg-type]

    def wait_seen(self, expr: str, wanted: Callable[[float], bool], what: str) -> float:
        """The figure, once Prometheus has one as it should be; NaN is what there is none of."""
        seen = [math.nan]

        def as_wanted() -> bool:
            seen[0] = self.prometheus.number(expr)
            return wanted(seen[0])

        wait_until(as_wanted, what, seconds=SCRAPED_SECONDS, interval_seconds=0.1)
        return seen[0]

    def wait_alert(self, name: str) -> None:
        """Returns when the alert fires."""
        wait_until(
            lambda: self.prometheus.alerts().get(name) == "firing",
            f"{name} fires; what does: {sorted(self.prometheus.alerts())}",
            seconds=SCRAPED_SECONDS,
            interval_seconds=0.1,
        )

    def wait_no_alert(self, name: str) -> None:
        """Returns when the alert fires no more."""
        wait_until(
            lambda: name not in self.prometheus.alerts(),
            f"{name} is over",
            seconds=SCRAPED_SECONDS,
            interval_seconds=0.1,
        )


def families(page: str) -> dict[str, str]:
    """The metrics on a page: name as in queries, without a histogram's _bucket and the like -> type."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def samples(page: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Every series on a page: its name and its labels."""
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", page, re.MULTILINE):
        yield name, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))


@contextmanager
def running_watched_stack(
    directory: Path, make: Callable[..., Settings], s3: S3Settings
) -> Iterator[WatchedStack]:
    """Runs all of it while the block lasts; inside it the worker is warm and everything has been scraped.

    `make` makes a worker's settings from a Redis' URL, as the tests' fixture does.
    """
    with ExitStack() as stack:
        redis_stack = stack.enter_context(ExitStack())
        redis = redis_stack.enter_context(running_redis(directory))
        receiver = stack.enter_context(running_receiver())
        proxy = stack.enter_context(FaultyProxy(s3.endpoint_url))
        base = make(redis.url(), model="mini", s3=s3.model_copy(update={"endpoint_url": proxy.address}))
        settings = base.model_copy(
            update={
                "metrics": MetricsSettings(port=choose_port(), token=SecretStr(TOKEN)),
                "worker": base.worker.model_copy(update={"stalled_seconds": STALLED_SECONDS}),
                "jobs": JobsSettings(max_attempts=3, retry_seconds=0.2, lease_seconds=5),
                "webhooks": WebhooksSettings(
                    urls=(receiver.url,), secrets=(SecretStr(SECRET),), allow_private=True, max_attempts=1
                ),
            }
        )
        worker = stack.enter_context(WorkerProcess(settings, directory / "worker.log"))
        api = stack.enter_context(running_api(directory, redis.url(), settings.s3, **_of_the_api(settings)))
        targets = {
            "warmline-api": [api.url.removeprefix("http://")],
            "warmline-worker": [f"127.0.0.1:{settings.metrics.port}"],
        }
        prometheus = stack.enter_context(running_prometheus(directory / "prometheus", targets, TOKEN))
        worker.wait_warm()
        watched = WatchedStack(
            prometheus=prometheus,
            api=api,
            worker=worker,
            receiver=receiver,
            proxy=proxy,
            settings=settings,
            began=time.time(),
            stop_redis=redis_stack.close,
        )
        watched.wait_seen("sum(up)", lambda up: up == len(targets), "Prometheus reaches the API and the worker")
        yield watched


def _of_the_api(settings: Settings) -> Mapping[str, str]:
    """The variables that are not as they would be without any."""
    plain = to_variables(Settings(redis=settings.redis, s3=settings.s3))
    return {name: text for name, text in to_variables(settings).items() if text != plain[name]}
