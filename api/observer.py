"""Looks at the whole service for the dashboard: once a second at most, and every ten seconds for its curves.

Its price is the same for a thousand jobs and for a million: counters, a few of the newest jobs, and their reports
as far as Redis keeps them, each read once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final, Self

import structlog
from pydantic import ValidationError

from api.dependencies import REDIS_SECONDS, Services
from api.overview_schemas import (
    BatchLine,
    CallLine,
    EmotionLine,
    History,
    Look,
    Overview,
    Rates,
    Sample,
    WebhooksLine,
    WorkerLine,
    emotions_of,
)
from warmline.calls.brief_reports import BriefReport
from warmline.calls.palette import LOOKS
from warmline.jobs.backlog import Backlog
from warmline.jobs.conditions import FleetLedger, WorkerCondition
from warmline.jobs.errors import LedgerUnavailable, WarmlineError
from warmline.jobs.records import BatchState, JobState, JobStatus

log = structlog.get_logger()

SAMPLE_SECONDS: Final = 10.0
SAMPLES: Final = 360  # an hour
RATE_SECONDS: Final = 300.0  # what "in the last minutes" means
KEPT_SECONDS: Final = 1.0  # how old an answer may be: ten open pages cost as much as one
NEWEST: Final = 12  # jobs of a kind that are shown
BATCHES: Final = 50  # the newest, of which those that are not finished are shown
MOST_REPORT_BYTES: Final = 256 * 1024  # a longer report is not read for its line
KEPT_EMOTIONS: Final = 200  # calls


class Observer:
    """Threads may share it; `start` has it sample until `stop`."""

    def __init__(self, services: Services, fleet: FleetLedger) -> None:
        self._services = services
        self._fleet = fleet
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._ended: dict[str, deque[tuple[float, int]]] = {}  # batch id -> how many of its jobs had ended when
        self._emotions: OrderedDict[str, list[EmotionLine]] = OrderedDict()
        self._reading = threading.Lock()
        self._answer: bytes | WarmlineError = b""
        self._answered_at = -KEPT_SECONDS
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample_for_ever, name="observer", daemon=True)

    @classmethod
    def of(cls, services: Services) -> Self:
        """With a connection of its own, which waits for Redis no longer than the others here."""
        settings = services.settings
        redis = settings.redis.model_copy(
            update={"timeout_seconds": min(settings.redis.timeout_seconds, REDIS_SECONDS)}
        )
        return cls(services, FleetLedger.connect(redis, settings.jobs))

    def start(self) -> None:
        """From now on there are samples."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and closes the connection."""
        self._stopped.set()
        self._fleet.close()

    def overview(self) -> bytes:
        """An `Overview` as JSON. Raises LedgerUnavailable."""
        with self._reading:
            if time.monotonic() - self._answered_at >= KEPT_SECONDS:
                try:
                    self._answer = self._look().model_dump_json().encode()
                except LedgerUnavailable as error:
                    self._answer = error  # those who wait here need not find it out one after another
                self._answered_at = time.monotonic()
            if isinstance(self._answer, WarmlineError):
                raise self._answer
            return self._answer

    # The curves

    def _sample_for_ever(self) -> None:
        while not self._stopped.is_set():
            try:
                self._sample()
            except LedgerUnavailable as error:
                log.debug("not_sampled", error=error.message)  # others say so, and louder
            except Exception:
                log.exception("not_sampled")
            self._stopped.wait(SAMPLE_SECONDS)

    def _sample(self) -> None:
        sample = _sample_of(self._fleet.backlog(), self._fleet.counts())
        batches = self._unfinished()
        with self._reading:
            self._samples.append(sample)
            ended = {state.id: self._ended.get(state.id) or deque(maxlen=_RATE_SAMPLES) for state in batches}
            for state in batches:
                ended[state.id].append((sample.at, state.ended))
            self._ended = ended

    # One look

    def _look(self) -> Overview:
        ledger, settings = self._services.ledger, self._services.settings
        fleet = self._fleet.fleet(stalled_seconds=settings.worker.stalled_seconds)
        counts = self._fleet.counts()
        now = _sample_of(fleet.backlog, counts)
        failed = ledger.last_ended(JobStatus.FAILED, NEWEST)
        dead = ledger.last_ended(JobStatus.DEAD, NEWEST)
        finished = _last_to_end(ledger.last_ended(JobStatus.SUCCEEDED, NEWEST))
        self._learn_emotions([line.id for line in finished])
        for line in finished:
            line.emotions = self._emotions.get(line.id, [])
        return Overview(
            at=datetime.now(UTC),
            version=version("warmline"),
            status=fleet.status,
            backlog=fleet.backlog,
            ended={status: counts.get(f"job:{status.value}", 0) for status in JobStatus if status.finished},
            rates=self._rates(now),
            running=[CallLine.of(state) for state in ledger.list(status=JobStatus.RUNNING, limit=NEWEST)],
            failures=_last_to_end((*failed, *dead)),
            finished=finished,
            batches=[BatchLine.of(state, self._pace(state, now.at)) for state in self._unfinished()],
            workers=[_worker_line(found) for found in fleet.workers],
            webhooks=self._webhooks(),
            history=History(every_seconds=SAMPLE_SECONDS, samples=[*self._samples, now]),
            looks={label: Look(letter=look.letter, colour=look.colour) for label, look in LOOKS.items()},
            source_bucket=settings.s3.source_buckets[0] if settings.s3.source_buckets else "",
        )

    def _unfinished(self) -> list[BatchState]:
        return [state for state in self._services.ledger.batches(BATCHES) if not state.finished]

    def _rates(self, now: Sample) -> Rates:
        past = next((one for one in self._samples if now.at - one.at <= RATE_SECONDS), now)
        seconds = max(0.0, now.at - past.at)
        minutes = seconds / 60
        failed = max(0, now.failed - past.failed)  # another Redis may count anew
        finished = max(0, now.succeeded - past.succeeded) + failed
        if minutes == 0:
            return Rates(seconds=0, finished_per_minute=0, failed_per_minute=0)
        return Rates(
            seconds=round(seconds, 1),
            finished_per_minute=round(finished / minutes, 2),
            failed_per_minute=round(failed / minutes, 2),
        )

    def _pace(self, batch: BatchState, now: float) -> float:
        """How many of its jobs end in a second."""
        past = self._ended.get(batch.id)
        if not past:
            return 0.0
        at, ended = past[0]
        return (batch.ended - ended) / (now - at) if now > at else 0.0

    def _webhooks(self) -> WebhooksLine | None:
        state = self._services.deliveries.state()
        if not state.events:
            return None
        return WebhooksLine(
            delivering=state.delivering,
            waiting=state.waiting,
            pending=state.pending,
            delivered=state.delivered,
            failed=state.failed,
            dropped=state.dropped,
            endpoints=len(state.endpoints),
            disabled=sum(endpoint.disabled_at is not None for endpoint in state.endpoints),
        )

    def _learn_emotions(self, job_ids: Sequence[str]) -> None:
        """Reads the reports of calls that are not known yet, as far as Redis keeps them and they are short."""
        new = [job_id for job_id in job_ids if job_id not in self._emotions]
        if not new:
            return
        known = self._services.deliveries.ended_jobs(new)
        short = [i for i, job in zip(new, known, strict=True) if 0 < job.report_bytes <= MOST_REPORT_BYTES]
        texts = dict(zip(short, self._services.deliveries.reports(short) if short else (), strict=True))
        for job_id in new:
            self._emotions[job_id] = _emotions_in(texts.get(job_id))
        while len(self._emotions) > KEPT_EMOTIONS:
            self._emotions.popitem(last=False)


_RATE_SAMPLES = int(RATE_SECONDS / SAMPLE_SECONDS)


def _sample_of(backlog: Backlog, counts: Mapping[str, int]) -> Sample:
    return Sample(
        at=round(time.time(), 1),
        waiting=backlog.waiting + backlog.delayed + backlog.held,
        running=backlog.running,
        succeeded=counts.get("job:succeeded", 0),
        failed=counts.get("job:failed", 0) + counts.get("job:dead", 0),
    )


def _emotions_in(text: str | None) -> list[EmotionLine]:
    try:
        return emotions_of(BriefReport.model_validate_json(text)) if text else []
    except ValidationError:
        return []  # another version's


def _last_to_end(states: Sequence[JobState]) -> list[CallLine]:
    """In a line each, the last one first."""
    ended = sorted(states, key=lambda state: state.finished_at or state.queued_at, reverse=True)
    return [CallLine.of(state) for state in ended[:NEWEST]]


def _worker_line(found: WorkerCondition) -> WorkerLine:
    worker = found.worker
    child = worker.warm[0] if worker.warm else None
    return WorkerLine(
        name=worker.name,
        condition=found.condition,
        reason=found.reason,
        silent_seconds=found.silent_seconds,
        children=worker.children,
        warm=len(worker.warm),
        busy=worker.busy,
        lanes=list(worker.lanes),
        model=child and child.model,
        mini=bool(child and child.mini),
        engine=child and child.engine,
        device=child and child.device,
        precision=child and child.precision,
        version=worker.version,
        started_at=worker.started_at,
        respawns=worker.respawns,
    )
