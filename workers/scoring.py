"""One attempt at a job: claim it, fetch the call, analyse it, publish the report, tell the ledger how it went.

Knows nothing of Celery, and sends nothing: what is to be tried again, the ledger sends again. What may pass is
tried again, what cannot be mended fails at once, and a report is published once: in S3 under a key that the
object's identity, the options and the model decide. Everything is written under the attempt's number, so what
comes from an attempt whose lease another one has by now is refused.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from config.settings import Settings
from warmline.calls.analyze import Analyst, analyze_call
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.embeddings import EmbeddingWriter
from warmline.calls.report import Report, SourceFacts
from warmline.jobs.errors import LedgerUnavailable, StoreUnavailable, TransientError, WarmlineError
from warmline.jobs.faults import classify
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Failure, Job, JobState, JobStatus, Progress, Refusal, ReportLocation
from warmline.objects.store import ObjectFacts, ObjectStore
from warmline.telemetry.tracing import Tracing, current, span
from workers.drain import DrainFlag
from workers.keeper import Keeper
from workers.lease import Cancelled, Draining, Lease, Stopped
from workers.processes import is_alive
from workers.publishing import Publisher
from workers.pulse import Pulse, Sign
from workers.scratch import Scratch
from workers.spans import attempt_span, describe_attempt
from workers.store_outage import MOST_SECONDS, wait_out
from workers.tally import AttemptSeen, Tally

if TYPE_CHECKING:
    from warmline.emotion.engine import Engine

log = structlog.get_logger()

SUPERSEDED = "superseded"  # an attempt's outcome: the job had ended, or was another attempt's
RETRIED, HANDED_BACK = "retried", "handed_back"  # those after which there is another attempt
LEDGER_PATIENCE_SECONDS = 60.0  # a finished analysis is not thrown away because Redis restarts

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a job has come to: where its report is, and its JSON when Redis is to keep it."""

    location: ReportLocation
    body: str | None
    report: Report | None  # None: an earlier attempt had published it
    store_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class End:
    """How an attempt ended. The ledger has been told; what it was told is the record."""

    fault: WarmlineError | None = None  # what went wrong
    comes_again: bool = False  # the ledger will send the job again

    @property
    def code(self) -> str:
        """The word for it where the attempt did not do all that was to be done; else empty."""
        return self.fault.code if self.fault is not None else HANDED_BACK if self.comes_again else ""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where one child works: everything an attempt needs."""

    worker: str  # the worker's name; the child's pid is added
    engine: Engine
    ledger: Ledger
    store: ObjectStore
    scratch: Scratch
    settings: Settings
    categories: CategoryRules | None = None  # None: there is no WARMLINE_CATEGORIES_FILE
    drain: DrainFlag = field(default_factory=DrainFlag)
    outage_seconds: float = MOST_SECONDS  # how long a store that does not answer is waited for before the next job
    ledger_patience_seconds: float = LEDGER_PATIENCE_SECONDS
    keeper: Keeper = field(default_factory=Keeper)
    sign: Sign = field(default_factory=lambda: Pulse().of_child(0))  # by which the parent sees that it comes on
    tally: Tally = field(default_factory=Tally)
    tracing: Tracing = field(default_factory=Tracing)

    @property
    def name(self) -> str:
        """This process, as the ledger knows it: the holder of its leases."""
        return f"{self.worker}/{os.getpid()}"

    @property
    def analyst(self) -> Analyst:
        """What analyses the calls of its jobs."""
        return Analyst(
            engine=self.engine,
            audio=self.settings.audio,
            analysis=self.settings.analysis,
            categories=self.categories,
        )

    def attempt(self, job: Job) -> End:
        """Works on a job until it has ended or is somebody else's; its message is done with then, whatever came.

        Raises LedgerUnavailable when the job could not be claimed, and Draining when the worker ends: then the
        message has to be delivered again.
        """
        bound = structlog.contextvars.bound_contextvars(job_id=job.id, batch_id=job.batch_id, worker=self.name)
        with bound, self.sign:
            if self.drain.is_set():
                raise Draining
            claimed = self.ledger.claim(job, self.name)
            if isinstance(claimed, Refusal):
                self._step_back(job, claimed)
                return End()
            attempt = structlog.contextvars.bound_contextvars(attempt=claimed.attempt)
            with attempt, attempt_span(self.tracing, claimed):
                end = self._work(claimed)
            if isinstance(end.fault, StoreUnavailable):
                wait_out(self.store, self.drain, most_seconds=self.outage_seconds, on_wait=self.sign.come_on)
            return end

    def _work(self, state: JobState) -> End:
        """While the lease is kept."""
        log.info("job_started", uri=state.job.source.uri)
        started = time.monotonic()
        try:
            with self._lease(state) as lease:
                return self._run(state, lease, started)
        except LedgerUnavailable as error:
            # It is somebody's again when the lease is over.
            log.error("job_left_to_its_lease", error=error.message)  # noqa: TRY400
            current().fail(error.code, error.message)
            return End(fault=error, comes_again=True)

    def _lease(self, state: JobState) -> Lease:
        return Lease(
            self.ledger,
            state,
            keeper=self.keeper,
            sign=self.sign,
            drain=self.drain,
            settings=self.settings.jobs,
        )

    def _step_back(self, job: Job, refusal: Refusal) -> None:
        """The job is not ours. Where a process of this worker held it and died, the ledger is told so."""
        if refusal.reason == "leased" and refusal.holder is not None:
            worker, _, pid = refusal.holder.rpartition("/")
            if worker == self.worker and not is_alive(int(pid)):
                self.ledger.lost(job.id, refusal.holder)
                log.warning("job_of_dead_process", holder=refusal.holder)
                return
            log.info("job_stepped_back", holder=refusal.holder)
            return
        log.info("job_skipped", reason=refusal.reason)

    def _run(self, state: JobState, lease: Lease, started: float) -> End:
        """From the claim to the end. Raises LedgerUnavailable."""
        try:
            scored = self._score(state, lease)
        except Stopped as stopped:
            return End(comes_again=self._stop(state, stopped, started) == HANDED_BACK)
        except WarmlineError as error:
            fault = error
        except Exception as error:
            fault = classify(error)
            # With the traceback, whatever it is: where one of ours was due, another library's came through.
            log.exception("job_crashed", code=fault.code)
        else:
            self._end_well(state, scored, started)
            return End()
        outcome = self._end_badly(state, lease, fault, started)
        return End(fault=fault, comes_again=outcome == RETRIED)

    def _score(self, state: JobState, lease: Lease) -> Scored:
        job = state.job
        fetch_started = time.monotonic()
        lease.tell(Progress(stage="fetch"))
        store_started = 0.0
        with self.scratch.file() as path:
            with span("fetch"):
                facts = self.store.head(job.source)
                lease.limit.grow_by_size(facts.size_bytes)
                lease.check()
                publisher = Publisher(self.store, self.settings, job, facts, self.engine.info.model_hash)
                if state.attempt > 1 and (body := publisher.published()) is not None:
                    return Scored(location=publisher.location, body=body, report=None)
                self.store.fetch(job.source, path, expected=facts, on_chunk=lambda _: lease.check())
            lease.limit.arrived()
            fetch_seconds = time.monotonic() - fetch_started
            with publisher.embeddings_beside(path, self.engine.embedding_dimensions) as embeddings:
                report = self._analyse(job, path, facts, lease, fetch_seconds, embeddings)
                lease.limit.lift()
                store_started = time.monotonic()
                windows = sum(len(channel.windows) for channel in report.channels)
                lease.tell(Progress(stage="store", windows_done=windows, windows_total=windows))
                if embeddings is not None:
                    with span("store embeddings"):
                        publisher.publish_embeddings(embeddings.path, lease)
        with span("store"):
            body = publisher.publish(report, lease)
        store_seconds = time.monotonic() - store_started
        return Scored(location=publisher.location, body=body, report=report, store_seconds=store_seconds)

    def _analyse(
        self,
        job: Job,
        path: Path,
        facts: ObjectFacts,
        lease: Lease,
        fetch_seconds: float,
        embeddings: EmbeddingWriter | None,
    ) -> Report:
        return analyze_call(
            path,
            self.analyst,
            source=SourceFacts(
                uri=job.source.uri,
                bucket=job.source.bucket,
                key=job.source.key,
                etag=facts.etag,
                version_id=facts.version_id,
                size_bytes=facts.size_bytes,
            ),
            options=job.options,
            job=job,
            fetch_seconds=fetch_seconds,
            watcher=lease,
            embeddings=embeddings,
        )

    def _end_well(self, state: JobState, scored: Scored, started: float) -> None:
        ours = self._patiently(
            lambda: self.ledger.succeed(state.job.id, state.attempt, scored.location, scored.body)
        )
        outcome = ("succeeded" if scored.report else "settled") if ours else SUPERSEDED
        self._count(attempt_seen(state, started, outcome, scored=scored))
        if not ours:
            log.warning("attempt_superseded", attempt=state.attempt)
        elif scored.report is None:
            log.info("job_settled", attempt=state.attempt, reason="an earlier attempt had published the report")
        else:
            log.info(
                "job_finished",
                attempt=state.attempt,
                seconds=round(time.monotonic() - started, 3),
                audio_seconds=scored.report.source.duration_seconds,
                windows=sum(len(channel.windows) for channel in scored.report.channels),
                rtfx=scored.report.provenance.rtfx,
            )

    def _stop(self, state: JobState, stopped: Stopped, started: float) -> str:
        """Returns the outcome."""
        job_id, attempt = state.job.id, state.attempt
        match stopped:
            case Cancelled():
                ours, outcome = self._patiently(lambda: self.ledger.cancelled(job_id, attempt)), "cancelled"
            case Draining():
                ours, outcome = self._patiently(lambda: self.ledger.hand_back(job_id, attempt)), HANDED_BACK
            case _:
                ours, outcome = False, ""
        self._count(attempt_seen(state, started, outcome if ours else SUPERSEDED))
        log.info(f"job_{outcome}" if ours else "attempt_superseded", attempt=attempt)
        return outcome if ours else SUPERSEDED

    def _end_badly(self, state: JobState, lease: Lease, error: WarmlineError, started: float) -> str:
        """Another attempt for what may pass, if the ledger grants one; else the job has failed. The outcome."""
        lease.limit.lift()
        current().fail(error.code, error.message)
        job_id, attempt, jobs = state.job.id, state.attempt, self.settings.jobs
        failure = Failure(code=error.code, message=error.message)
        facts = {"attempt": attempt, "code": error.code, "error": error.message}
        if isinstance(error, TransientError):
            retried = sum(past.outcome == "retried" for past in state.attempts)
            wait = min(retry_seconds(jobs.retry_seconds, retried + 1), jobs.max_retry_seconds)
            status = self._patiently(lambda: self.ledger.retry(job_id, attempt, failure, delay_seconds=wait))
            outcome = SUPERSEDED if status is None else RETRIED if status is JobStatus.QUEUED else status.value
            if outcome == RETRIED:
                log.warning("job_retried", wait_seconds=round(wait, 2), **facts)
            elif outcome == "dead":
                log.error("job_dead", **facts)
            elif outcome == "cancelled":
                log.info("job_cancelled", attempt=attempt)  # asked for while it ran
        else:
            ours = self._patiently(lambda: self.ledger.fail(job_id, attempt, failure))
            outcome = "failed" if ours else SUPERSEDED
            if ours:
                log.warning("job_failed", **facts)
        self._count(attempt_seen(state, started, outcome, code=error.code))
        if outcome == SUPERSEDED:
            log.warning("attempt_superseded", attempt=attempt)
        return outcome

    def _count(self, seen: AttemptSeen) -> None:
        """An attempt is over: for the metrics and its trace."""
        self.tally.tell_attempt(seen)
        describe_attempt(seen)

    def _patiently(self, write: Callable[[], _T]) -> _T:
        """Writes to the ledger, waiting for it if need be. Raises LedgerUnavailable when it stays away."""
        deadline = time.monotonic() + self.ledger_patience_seconds
        wait = 0.25
        while True:
            try:
                return write()
            except LedgerUnavailable as error:
                if time.monotonic() + wait > deadline:
                    raise
                log.warning("ledger_awaited", error=error.message)
                self.sign.come_on()
                time.sleep(wait)
                wait = min(2 * wait, 5.0)


def retry_seconds(first: float, failures: int) -> float:
    """How long to wait after so many failures: doubled each time, a quarter more or less at random.

    The chance keeps jobs that failed together (a store that restarted) from coming back together.
    """
    return first * 2.0 ** (failures - 1) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


def attempt_seen(
    state: JobState, started: float, outcome: str, *, code: str = "", scored: Scored | None = None
) -> AttemptSeen:
    """What is counted of an attempt that is over. `started` is when it was claimed, by the monotonic clock."""
    waited = None
    if state.attempt == 1 and state.started_at is not None:
        waited = max(0.0, (state.started_at - state.queued_at).total_seconds())
    seen = AttemptSeen(
        lane=state.job.lane, outcome=outcome, code=code, seconds=time.monotonic() - started, wait_seconds=waited
    )
    report = scored.report if scored is not None else None
    if scored is None or report is None:
        return seen
    return seen.model_copy(
        update={
            "stage_seconds": {**report.provenance.stage_seconds, "store": round(scored.store_seconds, 4)},
            "audio_seconds": report.source.duration_seconds,
            "speech_seconds": sum(channel.speech_seconds for channel in report.channels),
            "rtfx": report.provenance.rtfx,
        }
    )
