"""What Prometheus reads from the API: how the whole fleet stands, and what this process did itself.

The ledger is asked at each scrape, so every replica tells the same of the fleet: take the maximum of them. While
Redis does not answer, `warmline_redis_up` is 0 and nothing else is said of the fleet: a 0 would look like an empty
queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.glance import FleetGlance
from warmline.jobs.backlog import Backlog
from warmline.jobs.conditions import FleetLedger, FleetState
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import LedgerUnavailable
from warmline.telemetry.counters import StoreRequests, WebhookPosts, new_registry

log = structlog.get_logger()

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"  # a method or an address that there is not
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ENDED: Final = ("succeeded", "failed", "cancelled", "dead")
OUTCOMES: Final = ("succeeded", "failed", "retried", "lost", "handed_back", "cancelled", "dead")


class ApiMetrics:
    """One API process'. Threads may share it."""

    def __init__(self, fleet: FleetFigures) -> None:
        registry = self._registry = new_registry()
        registry.register(fleet)
        self.store = StoreRequests(registry)
        self.posts = WebhookPosts(registry)
        self._requests = Counter(
            "warmline_http_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "warmline_http_request_seconds",
            "Until an answer was sent.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )

    def answered(self, scope: Any, status: int, seconds: float) -> None:
        """A request was answered. `scope` is ASGI's, after the route was found."""
        route = getattr(scope.get("route"), "path", OTHER)
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self._registry)


class FleetFigures(Collector):
    """How the fleet stands, in Prometheus' words."""

    def __init__(self, glance: FleetGlance, fleet: FleetLedger, deliveries: DeliveryLedger) -> None:
        self._glance = glance
        self._fleet = fleet
        self._deliveries = deliveries

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on Redis."""
        return []

    def collect(self) -> list[Metric]:
        """Asks the ledger."""
        try:
            state = self._glance.state()
            figures = [*_work(state.backlog), *_workers(state), *self._ends(), *self._others()]
        except LedgerUnavailable as error:
            log.warning("metrics_without_redis", error=error.message)
            return [_gauge("redis_up", "1 when Redis answers.", 0)]
        return [_gauge("redis_up", "1 when Redis answers.", 1), *figures]

    def _ends(self) -> Iterator[Metric]:
        counts = self._fleet.counts()
        ended = CounterMetricFamily(
            "warmline_jobs_ended", "Jobs that have ended since this Redis began.", labels=["status"]
        )
        for status in ENDED:
            ended.add_metric([status], counts.get(f"job:{status}", 0))
        attempts = CounterMetricFamily(
            "warmline_attempts_ended", "Attempts that are over since this Redis began.", labels=["outcome"]
        )
        for outcome in OUTCOMES:
            attempts.add_metric([outcome], counts.get(f"attempt:{outcome}", 0))
        yield from (ended, attempts)

    def _others(self) -> Iterator[Metric]:
        webhooks = self._deliveries.state()
        deliveries = GaugeMetricFamily(
            "warmline_webhook_deliveries", "Deliveries that wait, and those given up.", labels=["status"]
        )
        deliveries.add_metric(["pending"], webhooks.pending)
        deliveries.add_metric(["failed"], webhooks.failed)
        used, limit = self._fleet.memory_bytes()
        yield deliveries
        yield _gauge("redis_memory_bytes", "What Redis uses.", used)
        yield _gauge("redis_memory_limit_bytes", "What it may use; 0: all there is.", limit)


def _work(backlog: Backlog) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "warmline_queue_jobs", "Jobs that a free child would take at once.", labels=["lane"]
    )
    oldest = GaugeMetricFamily(
        "warmline_queue_oldest_seconds", "How long the oldest of them has waited.", labels=["lane"]
    )
    running = GaugeMetricFamily("warmline_running_jobs", "Jobs that a child works on.", labels=["lane"])
    for name, lane in backlog.lanes.items():
        waiting.add_metric([name], lane.waiting)
        oldest.add_metric([name], lane.oldest_seconds or 0.0)
        running.add_metric([name], lane.running)
    waiting.add_metric(["retry"], backlog.retrying)
    oldest.add_metric(["retry"], backlog.oldest_retry_seconds or 0.0)
    yield from (waiting, oldest, running)
    yield _gauge("delayed_jobs", "Jobs that wait for the time of their next attempt.", backlog.delayed)
    yield _gauge("held_jobs", "Jobs that are held back by their trigger's pace.", backlog.held)
    yield _gauge("dead_letters", "Jobs that were given up and are kept.", backlog.dead)


def _workers(state: FleetState) -> Iterator[Metric]:
    workers = GaugeMetricFamily("warmline_workers", "Workers by how they are.", labels=["condition"])
    for condition, count in state.counts.items():
        workers.add_metric([condition.value], count)
    yield workers
    backlog = state.backlog
    children = GaugeMetricFamily(
        "warmline_worker_children", "Children of the workers that are alive.", labels=["state"]
    )
    for name, count in (
        ("planned", backlog.children),
        ("warm", backlog.warm_children),
        ("busy", backlog.busy_children),
    ):
        children.add_metric([name], count)
    yield children


def _gauge(name: str, sentence: str, value: float) -> Metric:
    return GaugeMetricFamily(f"warmline_{name}", sentence, value=value)
