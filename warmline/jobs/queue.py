"""Celery, as Warmline uses it: the only place of its settings, and of the queues' and the task's names.

A message carries a whole job. So a plain Celery client can send one too, without Warmline installed:

    app.send_task("warmline.analyze", args=[{"id": uuid4().hex, "source": {...}, "created_at": ...}],
                  queue="warmline.live")

The broker is Redis (or Valkey) in the same database as the ledger, under a prefix of its own.
"""

from __future__ import annotations

import base64
import json
import ssl
import uuid
from collections.abc import Callable
from typing import Any, Self

from celery import Celery
from kombu.entity import Queue

from config.settings import Settings, SettingsError
from warmline.jobs import keys
from warmline.jobs.records import Job, Lane

TASK = "warmline.analyze"
QUEUES: dict[Lane, str] = {"live": "warmline.live", "bulk": "warmline.bulk"}
RETRY_QUEUE = "warmline.retry"  # every worker takes from it, so that what failed does not hold up what is new
UNACKED = f"{keys.BROKER}unacked"  # kombu's hash of the messages that workers have taken and not acknowledged

# A property of the messages that `Messages` writes: their jobs are in the ledger, which has sent them.
IN_LEDGER = "in_ledger"

RESTORE_SECONDS = 5  # how often a worker looks for messages whose visibility timeout is over


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
        # Celery takes their names too; Flower wants them like this.
        task_queues=[_queue(name) for name in (*QUEUES.values(), RETRY_QUEUE)],
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


def _queue(name: str) -> Queue:
    return Queue(name, routing_key=name)  # type: ignore[no-untyped-call]


_MESSAGES: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "event_serializer": "json",
    "enable_utc": True,
    "timezone": "UTC",
    "task_default_queue": QUEUES["live"],
    "task_create_missing_queues": False,
    "task_ignore_result": True,  # the ledger has the results
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
}
_WORKERS: dict[str, Any] = {
    "worker_pool": "prefork",
    "worker_prefetch_multiplier": 1,
    "worker_send_task_events": True,  # for Flower
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    # A job goes on while Redis is away; its child would have to load the model again.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A Redis that is out of memory refuses to take a message back: the worker reconnects instead of ending.
    "broker_channel_error_retry": True,
    "worker_enable_prefetch_count_reduction": False,  # workers/supervision.py counts what is taken
}


class Messages:
    """Writes jobs as the messages that Celery's workers take. Threads may share it."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Messages for the workers of these settings. Raises SettingsError."""
        return cls(make_celery(settings))

    def write(self, job: Job, queue: str) -> str:
        """What kombu's Redis transport would push for this job: Celery's task protocol 2 in kombu's envelope.

        It is built here, and not sent by Celery, so that one script can push it and enter into the ledger that it
        was pushed: there is no moment at which only one of the two is true.
        """
        message = self._app.amqp.as_task_v2(
            job.id,
            TASK,
            args=[job.model_dump(mode="json")],
            kwargs={},
            argsrepr=shown_as(job.lane),
            ignore_result=True,
        )
        body = json.dumps(message.body).encode()
        envelope = {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": message.headers,
            "properties": {
                **message.properties,
                "delivery_mode": 2,  # persistent
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
                IN_LEDGER: True,
            },
        }
        return json.dumps(envelope)


def shown_as(lane: object) -> str:
    """What Celery's events, and with them Flower, tell of a job: its lane. Keys and metadata are its owner's."""
    return f"{lane} lane" if isinstance(lane, str) and lane in QUEUES else "hidden"


def job_id_of_message(message: str) -> str | None:
    """The job that a message in a queue is about; None for what is no message of ours."""
    return _job_id(message, lambda envelope: envelope)


def job_id_of_unacked(entry: str) -> str | None:
    """The job of an entry of UNACKED, where kombu keeps [message, exchange, routing key]; None as above."""
    return _job_id(entry, lambda parts: parts[0])


def _job_id(text: str, envelope_of: Callable[[Any], Any]) -> str | None:
    try:
        task_id = envelope_of(json.loads(text))["headers"]["id"]
    except (ValueError, TypeError, LookupError):
        return None
    return task_id if isinstance(task_id, str) else None
