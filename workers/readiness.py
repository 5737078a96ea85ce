"""How a worker gets warm before it takes a job, stays so, and says so in Redis.

One of Celery's boot steps does it. The gate, a step of the worker, starts when the children are forked and ends
when all of them are warm; only then does Celery connect to the broker. Later it watches the children from the
event loop, and at the end it sees to it that there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from celery import bootsteps
from celery.worker import state as celery_state

from config.settings import Settings, WorkerSettings
from warmline.jobs.feeder import Feeder
from workers.announcements import Announcements
from workers.engine_hosts import EngineHosts
from workers.farewell import Farewell, kill_all
from workers.heart import Heart
from workers.liveness import Liveness
from workers.losses import Losses
from workers.metrics import WorkerMetrics
from workers.probes import METRICS_PATH, Probes, metrics_page
from workers.supervision import Children, first_death, pool_pids, stop_worker

if TYPE_CHECKING:
    from warmline.webhooks.deliverer import Deliverer

log = structlog.get_logger()

POLL_SECONDS = 0.2
WATCH_SECONDS = 1.0  # between two looks for engine hosts that died


class Gate:
    """Holds the worker back until its children are warm, and stops it when they cannot be."""

    def __init__(
        self,
        settings: Settings,
        children: Children,
        hosts: EngineHosts,
        heart: Heart,
        farewell: Farewell,
        metrics: WorkerMetrics,
    ) -> None:
        self._settings = settings
        self._children = children
        self._hosts = hosts
        self._heart = heart
        self._farewell = farewell
        self._losses = Losses(heart.ledger, children, on_lost=metrics.lost)
        self.metrics = metrics
        liveness = Liveness(
            heart, children, metrics.turn_age_seconds, beat_seconds=settings.worker.heartbeat_seconds
        )
        pages = {METRICS_PATH: metrics_page(metrics.page), **liveness.pages()}
        self._probes = Probes(settings.metrics, pages)
        self._failure: str | None = None
        self._feeder: Feeder | None = None
        self._deliverer = _make_deliverer(settings, metrics)
        self._worker: Any = None
        self._closed = False

    def warm_children(self) -> int:
        """How many can take a job now."""
        return len(self._children.warm)

    def before_fork(self, pool: Any) -> None:
        """Ends the worker where one more child would fail like the last."""
        self._children.look(pool_pids(pool))
        if self._worker is not None:
            self._losses.tell(self._worker.hostname)
        self._stop_on_failure()
        self._children.count_fork()

    def wait(self, worker: Any) -> None:
        """Returns when every child is warm. At the first start one that dies is enough to end the worker."""
        pool = worker.pool._pool
        self._children.plan(worker.concurrency)
        self._probes.start()  # not before: no thread is there while the first children are forked
        deadline = time.monotonic() + self._settings.worker.load_timeout_seconds
        while len(self._children.warm) < worker.concurrency:
            self._children.announcements.wait(POLL_SECONDS)
            self.metrics.turn()
            death = first_death(pool)
            self._look(pool)  # after that: what it said before it died is a better reason
            reason = self._children.failure or death
            if time.monotonic() > deadline:
                reason = reason or "not every child was warm within WARMLINE_WORKER_LOAD_TIMEOUT_SECONDS"
            if reason:
                kill_all(pool_pids(pool))
                self._give_up(reason)
            self._heart.beat_when_due(worker)
            try:
                celery_state.maybe_shutdown()  # SIGTERM came meanwhile
            except SystemExit:
                kill_all(pool_pids(pool))
                raise
        # They did start. Celery would ask once more, and end over a child that died since instead of replacing it.
        worker.pool.did_start_ok = lambda: True
        self._heart.beat(worker)
        self._worker = worker
        lanes = self._settings.worker.lanes
        log.info("worker_warm", worker=worker.hostname, children=worker.concurrency, lanes=lanes)
        self._feeder = Feeder(self._settings)
        self._feeder.start()
        if self._deliverer is not None:
            self._deliverer.start()

    def watch(self, worker: Any) -> None:
        """From the event loop, when a child said something and every now and then."""
        self.metrics.turn()
        changed = self._look(worker.pool._pool)
        if not self._heart.draining:
            planned = max(1, worker.concurrency - self._settings.worker.reserved_children)
            warm = [child.pid for child in self._children.warm]
            changed = self._heart.vitals.look(warm, planned=planned) or changed
        if changed:
            self._heart.beat(worker)
        self._losses.tell(worker.hostname)
        if not self._heart.draining:
            self._children.give_up_on_cold()
        self._stop_on_failure()
        self._heart.beat_when_due(worker)

    def drain(self, worker: Any) -> None:
        """No more jobs are taken; Celery waits next for those that run."""
        log.info("worker_draining", worker=worker.hostname)
        self._heart.draining = True
        self._children.expect_deaths()
        self._heart.beat(worker)
        pool = worker.pool._pool
        self._farewell.begin(lambda: pool_pids(pool))

    def end_cold_children(self, worker: Any) -> None:
        """A child that still loads has no job, and to wait for it can take minutes."""
        kill_all([pid for pid in pool_pids(worker.pool._pool) if not self._children.may_have_job(pid)])

    def close(self, worker: Any, then: Callable[[], None]) -> None:
        """Every child has ended, well or not. May be said twice; `then` is called once, at the end."""
        if self._closed:
            return
        self._closed = True
        self._farewell.end()
        self._probes.stop()
        self._children.look(())
        self._losses.tell(worker.hostname)
        if self._feeder is not None:
            self._feeder.stop()
            if self._deliverer is not None:
                self._deliverer.stop()
        self._heart.stop(worker, failure=self._failure)
        then()

    def _look(self, pool: Any) -> bool:
        ended_hosts = self._hosts.ended()
        self._children.note_deaths(len(ended_hosts))
        changed = self._children.look(pool_pids(pool))
        self._hosts.replace(ended_hosts)
        return changed

    def _stop_on_failure(self) -> None:
        if self._children.failure and not self._heart.draining:
            self._give_up(self._children.failure)

    def _give_up(self, reason: str) -> NoReturn:
        self._failure = reason
        self._children.expect_deaths()
        stop_worker(reason)


def _make_deliverer(settings: Settings, metrics: WorkerMetrics) -> Deliverer | None:
    """Where there is somebody to be told. Raises SettingsError."""
    if not settings.webhooks.urls:
        return None
    from warmline.webhooks.deliverer import Deliverer

    return Deliverer(settings, seen=metrics.delivered)


def make_step(gate: Gate, settings: WorkerSettings, announcements: Announcements) -> type[Any]:
    """The worker's step. Celery makes the object itself, so the class knows the gate."""

    class WarmGate(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            gate.wait(worker)

        def register_with_event_loop(self, worker: Any, hub: Any) -> None:
            hub.add_reader(announcements.fileno(), gate.watch, worker)
            hub.add_reader(gate.metrics.tally.fileno(), gate.metrics.turn)
            hub.call_repeatedly(min(WATCH_SECONDS, settings.heartbeat_seconds), gate.watch, worker)

        def close(self, worker: Any) -> None:
            gate.drain(worker)

        def stop(self, worker: Any) -> None:
            gate.end_cold_children(worker)

    return WarmGate
