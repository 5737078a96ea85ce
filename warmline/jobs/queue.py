"""Celery, as Warmline uses it: the only place of its settings, and of the queues' and the task's names.

A message carries a whole job. So a plain Celery client can send one too, without Warmline installed:

    app.send_task("warmline.analyze", args=[{"id": uuid4().hex, "source": {...}, "created_at": ...}],
                  queue="warmline.live")

The broker is Redis (or Valkey) in the same database as the ledger, under a prefix of its own.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from celery import Celery
from kombu.exceptions import KombuError
from redis import RedisError

from config.settings import Settings, SettingsError
from warmline.jobs import keys
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.records import Job, Lane

TASK = "warmline.analyze"
QUEUES: dict[Lane, str] = {"live": "warmline.live", "bulk": "warmline.bulk"}

RESTORE_SECONDS = 5  # how often a worker looks for messages whose visibility timeout is over
SEND_RETRIES = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}


def make_celery(settings: Settings) -> Celery:
    """The Celery application of API and workers. Raises SettingsError when the environment overrides it."""
    url = settings.redis.url.get_secret_value()
    visibility = {"visibility_timeout": settings.jobs.visibility_timeout_seconds}
    app = Celery("warmline", set_as_current=False)
    app.conf.update(
        broker_url=url,
        # kombu checks no certificate of its own accord; in the address, ssl_ca_certs and the like say otherwise.
        broker_use_ssl=(
            {"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss:") and "ssl_" not in url else None
        ),
        broker_transport_options={
            **visibility,
            "global_keyprefix": keys.BROKER,
            # By default kombu looks every 100 s, whatever the timeout.
            "unacked_restore_interval": RESTORE_SECONDS,
            "unacked_restore_throttle": 1,
            "socket_timeout": settings.redis.timeout_seconds,
            "socket_connect_timeout": settings.redis.timeout_seconds,
            "socket_keepalive": True,
        },
        broker_connection_timeout=settings.redis.timeout_seconds,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives any outage of Redis
        # There is no result backend; who configures one in the environment must not get another timeout by it.
        result_backend_transport_options=visibility,
        **visibility,
        **_MESSAGES,
        **_WORKERS,
        worker_proc_alive_timeout=settings.worker.load_timeout_seconds,
    )
    if app.conf.broker_read_url != url or app.conf.broker_write_url != url:
        raise SettingsError(
            "CELERY_BROKER_URL (or CELERY_BROKER_READ_URL, CELERY_BROKER_WRITE_URL) is set and would win over "
            "WARMLINE_REDIS_URL; unset it"
        )
    return app


_MESSAGES: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "event_serializer": "json",
    "enable_utc": True,
    "timezone": "UTC",
    "task_queues": {name: {"routing_key": name} for name in QUEUES.values()},
    "task_default_queue": QUEUES["live"],
    "task_create_missing_queues": False,
    "task_ignore_result": True,  # the ledger has the results
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_publish_retry": True,
    "task_publish_retry_policy": SEND_RETRIES,
}
_WORKERS: dict[str, Any] = {
    "worker_pool": "prefork",
    "worker_prefetch_multiplier": 1,
    "worker_send_task_events": True,  # for Flower
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    # A job goes on while Redis is away; its child would have to load the model again.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_enable_prefetch_count_reduction": False,  # workers/supervision.py counts what is taken
}


class JobQueue:
    """Sends jobs to the workers. Threads may share it."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """A queue at the address in the settings. Connects at first use. Raises SettingsError."""
        return cls(make_celery(settings))

    def open(self) -> None:
        """Connects, so that the first job does not wait for it. Raises LedgerUnavailable."""
        with _redis_takes(), self._app.producer_or_acquire() as producer:
            for queue in self._app.amqp.queues.values():
                producer.maybe_declare(queue)
            # Built at first use, by imports.
            _ = self._app.amqp.send_task_message, self._app.amqp.router, self._app.AsyncResult, self._app.backend

    def send(self, jobs: Sequence[Job], *, delay_seconds: float = 0.0) -> None:
        """Sends the jobs in this order, each to its lane, to be taken in `delay_seconds` at the earliest.

        Raises LedgerUnavailable when Redis does not take them; how many it took is then unknown.
        """
        with _redis_takes(), self._app.producer_or_acquire() as producer, producer.batch():
            for job in jobs:
                self._app.send_task(
                    TASK,
                    args=[job.model_dump(mode="json")],
                    argsrepr=f"({job.source.uri})",  # what Flower shows; metadata are nobody's business there
                    task_id=job.id,
                    queue=QUEUES[job.lane],
                    countdown=delay_seconds or None,
                    producer=producer,
                    ignore_result=True,
                )

    def close(self) -> None:
        """Closes the connections."""
        self._app.close()


@contextmanager
def _redis_takes() -> Iterator[None]:
    try:
        yield
    except (KombuError, RedisError, OSError) as error:
        raise LedgerUnavailable(f"Redis did not take the jobs: {error}; check WARMLINE_REDIS_URL.") from error
