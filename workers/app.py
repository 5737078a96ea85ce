"""The worker: a parent that imports what is heavy, and children that are warm before they take a job.

`warmline-worker` runs it. `celery -A workers.app inspect ...` and Flower find the application under the name
`app`, which is built when it is first asked for.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import os
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.utils.log import get_multiprocessing_logger

from config.logging import configure_logging
from config.settings import Settings, SettingsError, load_settings
from warmline.calls.categories.rules import CategoryRules
from warmline.jobs.connection import refuse_newer_ledger
from warmline.jobs.errors import LedgerTooNew
from warmline.jobs.layout import TOO_NEW_EXIT
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES, RETRY_QUEUE, make_celery
from workers.announcements import Announcements
from workers.broker_writes import make_event_pace
from workers.drain import DrainFlag
from workers.engine_hosts import EngineHosts
from workers.farewell import Farewell
from workers.heart import Heart
from workers.lanes import LiveFirst, make_limit
from workers.lifecycle import WarmChild
from workers.metrics import WorkerMetrics
from workers.pulse import Pulse
from workers.readiness import Gate, make_step
from workers.scratch import Scratch
from workers.supervision import Children
from workers.tally import Tally
from workers.tasks import register_tasks
from workers.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmline.emotion.plan import Plan

BAD_SETTINGS = 2  # exit code

# What children would import at their first use.
HEAVY = ("workers.scoring", "av", "boto3", "soundfile")
HOLDS_MODEL = ("warmline.emotion.loading", "warmline.emotion.torch_engine")  # torch comes with the first of them
HAS_HOST = ("warmline.emotion.hosted_engine",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a worker until it is told to stop. Returns its exit code.

    0, 1 for a failure, 2 for bad settings, 3 for a ledger that a newer Warmline wrote.
    """
    _parse(arguments)
    try:
        settings = load_settings()
        configure_logging(settings, process="worker")
        refuse_newer_ledger(settings.redis)
        plan = _make_plan(settings)
        app = build_app(settings, plan)
    except SettingsError as error:
        print(f"warmline-worker: {error}", file=sys.stderr)
        return BAD_SETTINGS
    except LedgerTooNew as error:
        print(f"warmline-worker: {error.message}", file=sys.stderr)
        return TOO_NEW_EXIT
    # "You're running the worker with superuser privileges": no pickle is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = app.Worker(
        hostname=f"worker-{os.getpid()}@{socket.gethostname()}",
        concurrency=plan.all_children,
        queues=[*(QUEUES[lane] for lane in settings.worker.lanes), RETRY_QUEUE],
        loglevel=settings.log.level,
        quiet=True,  # no banner, lines of the log only
        without_gossip=True,  # workers have nothing to tell each other
        without_mingle=True,
        heartbeat_interval=settings.worker.heartbeat_seconds,  # Celery's own, for Flower
    )
    worker.start()
    signals.worker_shutdown.send(sender=worker)  # after SIGQUIT Celery does not say so itself
    return int(worker.exitcode or 0)


def _parse(arguments: Sequence[str] | None) -> None:
    """There is nothing to ask for: whoever tries Celery's own options is not to believe that they work."""
    argparse.ArgumentParser(
        prog="warmline-worker",
        description="Scores calls with a model that is warm before the first one. Settings: WARMLINE_MODEL, "
        "WARMLINE_WORKER_CHILDREN and others, see config/example.env; `warmline doctor --plan` shows the outcome.",
    ).parse_args(arguments)


def build_app(settings: Settings, plan: Plan | None = None) -> Celery:
    """The Celery application, and all that a worker needs hung on it. Raises SettingsError.

    Without a plan, a worker makes one for the children that Celery was told to have.
    """
    app = make_celery(settings)
    announcements, drain = Announcements(), DrainFlag()
    children = Children(announcements, replacement_timeout_seconds=settings.worker.replacement_timeout_seconds)
    tally, pulse = Tally(), Pulse()
    metrics = WorkerMetrics(tally)
    vitals = Vitals(pulse, settings.worker)
    heart = Heart(
        Ledger.connect(settings.redis, settings.jobs), children, vitals, settings.worker, on_beat=metrics.see
    )
    hosts = EngineHosts(settings, announcements, children)
    farewell = Farewell(drain, grace_seconds=settings.worker.grace_seconds)
    gate = Gate(settings, children, hosts, heart, farewell, metrics)
    app.steps["worker"].add(make_step(gate, settings.worker, announcements))
    app.steps["consumer"].add(make_limit(gate.warm_children, reserved=settings.worker.reserved_children))
    app.steps["consumer"].add(make_event_pace())
    app.conf.broker_transport_options["queue_order_strategy"] = f"{LiveFirst.__module__}:{LiveFirst.__name__}"
    child = WarmChild(settings, announcements, hosts, drain, tally, pulse)
    register_tasks(app, child.desk)
    _connect_signals(settings, plan, gate, child)
    signals.task_received.connect(vitals.on_message, weak=False)
    signals.worker_process_shutdown.connect(child.end, weak=False)
    return app


def _connect_signals(settings: Settings, plan: Plan | None, gate: Gate, child: WarmChild) -> None:
    """Celery's own names for the moments of a worker's life. What an exception raised there is worth: nothing."""

    @signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
    def setup_logging(**_: Any) -> None:
        # A receiver here keeps Celery from configuring the log itself.
        configure_logging(settings, process="worker")
        billiard_log = get_multiprocessing_logger()
        billiard_log.handlers[:], billiard_log.propagate = [], True
        if settings.log.level != "DEBUG":
            # Their lines on each job and child repeat ours, and show the job's metadata.
            for logger in (billiard_log, logging.getLogger("celery")):
                logger.setLevel(max(logging.WARNING, logging.getLevelName(settings.log.level)))

    @signals.celeryd_after_setup.connect(weak=False)  # type: ignore[untyped-decorator]
    def filter_warnings(**_: Any) -> None:
        # What worker_cancel_long_running_tasks_on_connection_loss will mean in Celery 6, at each connection loss.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)

    @signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def before_children(sender: Any, **_: Any) -> None:
        try:
            scratch = Scratch.open(settings.worker.scratch_dir)
            categories = CategoryRules.load(settings)
        except SettingsError as error:
            print(f"warmline-worker: {error}", file=sys.stderr)
            raise SystemExit(BAD_SETTINGS) from error
        made = plan or _make_plan(settings, in_all=sender.concurrency)
        child.prepare(scratch, made, worker=sender.hostname, categories=categories)
        _import_what_is_heavy(hosted=made.hosts > 0)

    @signals.worker_before_create_process.connect(weak=False)  # type: ignore[untyped-decorator]
    def before_each_child(sender: Any, **_: Any) -> None:
        gate.before_fork(sender)

    @signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def in_each_child(**_: Any) -> None:
        child.start()

    @signals.worker_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
    def after_children(sender: Any, **_: Any) -> None:
        gate.close(sender, then=child.clean_up)


def _import_what_is_heavy(*, hosted: bool) -> None:
    """Once, before the forks: children share the pages, and one that is replaced is back sooner.

    Nothing is run: threads that torch starts would not survive the fork, nor would a CUDA context.
    """
    for name in (*HEAVY, *(HAS_HOST if hosted else HOLDS_MODEL)):
        importlib.import_module(name)


def _make_plan(settings: Settings, *, in_all: int | None = None) -> Plan:
    """As the settings say; or for so many children in all, those for live jobs included, as Celery was told."""
    from warmline.emotion.plan import look_at_machine, plan_worker  # touches no GPU

    worker = settings.worker
    if in_all is not None:
        worker = worker.model_copy(update={"children": max(1, in_all - worker.reserved_children)})
    return plan_worker(settings.emotion, worker, look_at_machine())


@functools.cache
def _default_app() -> Celery:
    return build_app(load_settings())


def __getattr__(name: str) -> Celery:
    if name == "app":
        return _default_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
