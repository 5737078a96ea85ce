"""What API and workers count alike: requests to the object store, and posts to webhook receivers.

Each series begins at 0, for a counter that appears with its first event never shows that event as an increase.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STORE_OPERATIONS: Final = ("HeadObject", "GetObject", "PutObject")  # of every job; others appear when they happen
STORE_OUTCOMES: Final = ("ok", "not_found", "precondition", "throttled", "refused", "error")
POST_OUTCOMES: Final = ("delivered", "retried", "given_up")


def new_registry() -> CollectorRegistry:
    """One for a process' own metrics. Without the series of when each counter began, which nobody asks for."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()


class StoreRequests:
    """Requests to the object store. Threads may share it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "warmline_s3_requests",
            "Requests to the object store, with the client's own retries.",
            ("operation", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "warmline_s3_request_seconds",
            "Until the head of the store's answer was there.",
            ("operation",),
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        for operation in STORE_OPERATIONS:
            self._seconds.labels(operation)
            for outcome in STORE_OUTCOMES:
                self._requests.labels(operation, outcome)

    def seen(self, operation: str, outcome: str, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(operation, outcome).inc()
        self._seconds.labels(operation).observe(seconds)


class WebhookPosts:
    """Posts to webhook receivers. Threads may share it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._posts = Counter(
            "warmline_webhook_attempts",
            "Posts to webhook receivers: delivered, retried later, given up.",
            ("outcome",),
            registry=registry,
        )
        for outcome in POST_OUTCOMES:
            self._posts.labels(outcome)

    def seen(self, outcome: str) -> None:
        """One was made."""
        self._posts.labels(outcome).inc()
