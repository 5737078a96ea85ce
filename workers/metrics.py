"""What a worker counts for Prometheus: its children's attempts and requests, and how well it is itself.

All of it is kept in the parent, in one registry that is made for it: children only tell (`workers.tally`). Labels
are words of a fixed list, error codes among them; never an id, a key, or anything else that comes from outside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from warmline.jobs.errors import PermanentError, TransientError, WarmlineError
from warmline.jobs.records import ChildState, WorkerState
from warmline.telemetry.counters import StoreRequests, WebhookPosts, new_registry
from workers.tally import AttemptSeen, Seen, StoreSeen, Tally

LANES: Final = ("live", "bulk")
STAGES: Final = ("fetch", "decode", "speech", "score", "store")
OUTCOMES: Final = (
    "succeeded", "settled", "failed", "retried", "dead", "cancelled", "handed_back", "superseded",
)  # fmt: skip
# How an attempt ends with an error. Codes of other modules than the tree are counted from their first event on.
ENDS_WITH: Final = (("failed", PermanentError), ("retried", TransientError), ("dead", TransientError))
LONG_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
WAIT_SECONDS: Final = (0.01, 0.1, 1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
LOAD_SECONDS: Final = (0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300, 600)
TIMES: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 40, 80, 160)


def codes_of(kind: type[WarmlineError]) -> Iterator[str]:
    """The codes of an error's kinds, as far as `warmline.jobs.errors` has them: the same in every process."""
    for each in kind.__subclasses__():
        if each.__module__ == WarmlineError.__module__:
            yield each.code
            yield from codes_of(each)


class WorkerMetrics:
    """One worker's. The event loop counts, and the page's threads read."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._known: set[int] = set()  # children whose load has been counted
        self._models: set[tuple[str, str, str, str, str]] = set()
        self._respawns = 0
        self._draining = False
        self._turned_at = time.monotonic()
        self._reading = threading.Lock()
        registry = self.registry = new_registry()
        self._attempts = Counter(
            "warmline_jobs",
            "Attempts at jobs that are over, by how they ended and the error's code.",
            ("lane", "outcome", "code"),
            registry=registry,
        )
        self._job_seconds = Histogram(
            "warmline_job_seconds",
            "From the claim of a job to its end.",
            ("lane",),
            buckets=LONG_SECONDS,
            registry=registry,
        )
        self._wait_seconds = Histogram(
            "warmline_job_wait_seconds",
            "Since a job could be taken until it was, the first time.",
            ("lane",),
            buckets=WAIT_SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "warmline_stage_seconds",
            "A call's wall seconds in a stage; decode and speech run beside score.",
            ("stage",),
            buckets=LONG_SECONDS,
            registry=registry,
        )
        self._audio_seconds = Counter(
            "warmline_audio_seconds", "Length of the calls that were analysed.", registry=registry
        )
        self._speech_seconds = Counter(
            "warmline_speech_seconds", "Speech in them, of all channels.", registry=registry
        )
        self._rtfx = Histogram(
            "warmline_rtfx",
            "Seconds of a call per wall second of its analysis.",
            buckets=TIMES,
            registry=registry,
        )
        self._load_seconds = Histogram(
            "warmline_model_load_seconds",
            "From a child's fork until its model is warm.",
            buckets=LOAD_SECONDS,
            registry=registry,
        )
        self._store = StoreRequests(registry)
        self._posts = WebhookPosts(registry)
        self._respawned = Counter(
            "warmline_child_respawns", "Children that died and were replaced.", registry=registry
        )
        self._jobs_lost = Counter(
            "warmline_jobs_lost", "Jobs whose child died while it ran them.", registry=registry
        )
        self._leases_lost = Counter(
            "warmline_leases_lost", "Attempts whose job was ended or given away meanwhile.", registry=registry
        )
        self._dropped = Counter(
            "warmline_observations_dropped", "What children told and was not counted.", registry=registry
        )
        self._warm = Gauge("warmline_warm_children", "Children that can take a job now.", registry=registry)
        self._planned = Gauge("warmline_planned_children", "Children there should be.", registry=registry)
        self._busy = Gauge("warmline_busy_children", "Children that have a job now.", registry=registry)
        self._turn_age = Gauge(
            "warmline_worker_last_turn_seconds", "Since the worker's event loop last turned.", registry=registry
        )
        self._info = Gauge(
            "warmline_worker_info",
            "1 for each model that is warm here.",
            ("version", "model", "engine", "device", "precision"),
            registry=registry,
        )
        self._turn_age.set_function(self.turn_age_seconds)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Each series is there before its first event: `rate` sees only what comes after a series' first value."""
        for lane in LANES:
            self._job_seconds.labels(lane)
            self._wait_seconds.labels(lane)
            for outcome in OUTCOMES:
                self._attempts.labels(lane, outcome, "")
            for outcome, kind in ENDS_WITH:
                for code in codes_of(kind):
                    self._attempts.labels(lane, outcome, code)
        for stage in STAGES:
            self._stage_seconds.labels(stage)

    def turn_age_seconds(self) -> float:
        """How long ago the worker's event loop last turned. It turns every second, unless it is stuck.

        0 while the worker ends as it was told to: then there is no event loop any more.
        """
        return 0.0 if self._draining else time.monotonic() - self._turned_at

    def turn(self) -> None:
        """From the event loop, again and again."""
        self._turned_at = time.monotonic()
        self._take_in()

    def _take_in(self) -> None:
        """Counts what children told since the last time."""
        with self._reading:
            seen, dropped = self.tally.read()
        if dropped:
            self._dropped.inc(dropped)
        for one in seen:
            self._count(one)

    def see(self, worker: WorkerState) -> None:
        """From the heartbeat: how the worker is."""
        self._planned.set(worker.children)
        self._warm.set(len(worker.warm))
        self._busy.set(worker.busy)
        self._respawned.inc(max(0, worker.respawns - self._respawns))
        self._respawns = worker.respawns
        self._draining = worker.draining
        models = {
            (worker.version, child.model, child.engine, child.device, child.precision) for child in worker.warm
        }
        for model in models:
            self._info.labels(*model).set(1)
        for gone in self._models - models:
            self._info.remove(*gone)
        self._models = models
        self._count_loads(worker.warm)

    def lost(self) -> None:
        """A child died, and it had a job."""
        self._jobs_lost.inc()

    def delivered(self, outcome: str) -> None:
        """A webhook was posted: delivered, retried, given_up. From any thread."""
        self._posts.seen(outcome)

    def page(self) -> bytes:
        """All of it in Prometheus' text form. From any thread, and up to date also while no event loop turns."""
        self._take_in()
        return generate_latest(self.registry)

    def _count_loads(self, children: tuple[ChildState, ...]) -> None:
        for child in children:
            if child.pid not in self._known:
                self._load_seconds.observe(child.load_seconds)
        self._known = {child.pid for child in children}

    def _count(self, seen: Seen) -> None:
        match seen:
            case AttemptSeen():
                self._count_attempt(seen)
            case StoreSeen():
                self._store.seen(seen.operation, seen.outcome, seen.seconds)

    def _count_attempt(self, seen: AttemptSeen) -> None:
        self._attempts.labels(seen.lane, seen.outcome, seen.code).inc()
        self._job_seconds.labels(seen.lane).observe(seen.seconds)
        if seen.wait_seconds is not None:
            self._wait_seconds.labels(seen.lane).observe(seen.wait_seconds)
        if seen.outcome == "superseded":
            self._leases_lost.inc()
        for stage, seconds in seen.stage_seconds.items():
            self._stage_seconds.labels(stage).observe(seconds)
        if seen.audio_seconds is not None:
            self._audio_seconds.inc(seen.audio_seconds)
        if seen.speech_seconds is not None:
            self._speech_seconds.inc(seen.speech_seconds)
        if seen.rtfx is not None:
            self._rtfx.observe(seen.rtfx)
