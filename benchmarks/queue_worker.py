"""What runs in the worker processes of `queue_price`: each queue's own worker, and a job that does nothing.

    python -m benchmarks.queue_worker warmline|celery|rq|rq-fork|dramatiq

The settings come from the environment. Warmline's is the real worker, model and all, save that its desk makes a
report out of nothing instead of fetching and scoring a call.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from config.logging import configure_logging
from config.settings import Settings, load_settings

if TYPE_CHECKING:
    from celery import Celery

CHILDREN = 2
TASK = "benchmark.nothing"
QUEUE = "nothing"


def nothing(call: dict[str, Any]) -> None:
    """The job of the peers: a call's address comes in, and that is all."""


def celery_app(settings: Settings) -> Celery:
    """Bare Celery with the product's own settings (acks_late, prefetch 1, JSON, events) and one task."""
    from warmline.jobs.queue import make_celery

    app = make_celery(settings)
    app.task(name=TASK)(nothing)
    return app


def run_celery(settings: Settings) -> int:
    """Two children of bare Celery, with the flags of Warmline's own worker."""
    from warmline.jobs.queue import QUEUES

    worker = celery_app(settings).Worker(
        concurrency=CHILDREN,
        queues=[QUEUES["bulk"]],
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        heartbeat_interval=settings.worker.heartbeat_seconds,
    )
    worker.start()
    return int(worker.exitcode or 0)


def run_rq(settings: Settings, *, fork: bool) -> int:
    """One RQ worker: `Worker` forks for each job, `SimpleWorker` runs them in its own process."""
    from redis import Redis
    from rq import Queue, SimpleWorker, Worker
    from rq.serializers import JSONSerializer

    connection = Redis.from_url(settings.redis.url.get_secret_value())
    kind = Worker if fork else SimpleWorker
    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    kind([queue], connection=connection, serializer=JSONSerializer).work(logging_level="WARNING")
    return 0


def run_dramatiq(settings: Settings) -> int:
    """One worker process of Dramatiq with one thread."""
    from dramatiq import Worker

    broker, _ = dramatiq_actor(settings)
    worker = Worker(broker, worker_threads=1)
    worker.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    worker.stop()
    return 0


def dramatiq_actor(settings: Settings) -> tuple[Any, Any]:
    """Its broker, and the actor that does nothing."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker: Any = RedisBroker(url=settings.redis.url.get_secret_value())  # type: ignore[no-untyped-call]
    return broker, dramatiq.actor(broker=broker, queue_name=QUEUE)(nothing)


def run_warmline() -> int:
    """The real worker; in this process alone, its children have a desk where nothing is scored."""
    import workers.app
    from benchmarks.queue_desk import IdleChild

    vars(workers.app)["WarmChild"] = IdleChild
    return workers.app.main([])


def main() -> int:
    """Runs until it is told to end."""
    match sys.argv[1]:
        case "warmline":
            return run_warmline()
        case kind:
            settings = load_settings()
            configure_logging(settings, process="worker")
            match kind:
                case "celery":
                    return run_celery(settings)
                case "dramatiq":
                    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
                    return run_dramatiq(settings)
                case "rq" | "rq-fork":
                    return run_rq(settings, fork=kind == "rq-fork")
    print(f"queue_worker: there is no queue {sys.argv[1]}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
