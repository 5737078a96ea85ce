"""One attempt at a job: claim it, fetch the call, analyse it, publish the report, tell the ledger how it went.

Knows nothing of Celery. What may pass is tried again, what cannot be mended fails at once, and a report is
published once: in S3 under a key that the object's identity, the options and the model decide.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from config.settings import Settings
from warmline.calls.analyze import analyze_call
from warmline.calls.report import Report, SourceFacts
from warmline.jobs.errors import InternalError, LedgerUnavailable, OutOfMemory, TransientError, WarmlineError
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Failure, Job, JobState, Progress, ReportLocation
from warmline.objects.report_keys import report_key
from warmline.objects.store import ObjectFacts, ObjectStore
from workers.scratch import Scratch

if TYPE_CHECKING:
    from warmline.emotion.engine import Engine

log = structlog.get_logger()

PROGRESS_SECONDS = 0.5  # between two writes of a job's progress
LEDGER_PATIENCE_SECONDS = 60.0  # a finished analysis is not thrown away because Redis restarts

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where one child works: everything an attempt needs."""

    worker: str  # the worker's name; the child's pid is added
    engine: Engine
    ledger: Ledger
    store: ObjectStore
    scratch: Scratch
    settings: Settings

    def attempt(self, job: Job) -> float | None:
        """Works on a job until it has ended, or until there is reason to try it again.

        Returns None when there is nothing left to do, else the seconds to wait before the next attempt, for which
        its message has to be sent again. Raises LedgerUnavailable when the ledger could not be told what happened;
        then the message has to be delivered again.
        """
        with structlog.contextvars.bound_contextvars(job_id=job.id, batch_id=job.batch_id):
            state = self.ledger.claim(job, f"{self.worker}/{os.getpid()}")
            if state is None:
                log.info("job_skipped", reason="it has ended already")
                return None
            log.info("job_started", attempt=state.attempt, uri=job.source.uri)
            started = time.monotonic()
            try:
                report, location, body = self._work(job)
            except WarmlineError as error:
                return self._end_badly(state, error)
            except MemoryError:
                return self._end_badly(state, OutOfMemory("The worker ran out of memory; use fewer children."))
            except Exception:
                log.exception("job_crashed")
                return self._end_badly(state, InternalError())
            _patiently(lambda: self.ledger.succeed(job.id, location, body))
            log.info(
                "job_finished",
                attempt=state.attempt,
                seconds=round(time.monotonic() - started, 3),
                audio_seconds=report.source.duration_seconds,
                windows=sum(len(channel.windows) for channel in report.channels),
                rtfx=report.provenance.rtfx,
            )
            return None

    def _work(self, job: Job) -> tuple[Report, ReportLocation, str | None]:
        """The report, where it is, and its JSON when Redis is to keep it."""
        with self.scratch.file() as path:
            self._tell(job, Progress(stage="fetch"))
            fetch_started = time.monotonic()
            facts = self.store.fetch(job.source, path)
            fetch_seconds = time.monotonic() - fetch_started
            report = self._analyse(job, path, facts, fetch_seconds)
        windows = sum(len(channel.windows) for channel in report.channels)
        self._tell(job, Progress(stage="store", windows_done=windows, windows_total=windows))
        return (report, *self._publish(job, facts, report))

    def _analyse(self, job: Job, path: Path, facts: ObjectFacts, fetch_seconds: float) -> Report:
        return analyze_call(
            path,
            source=SourceFacts(
                uri=job.source.uri,
                bucket=job.source.bucket,
                key=job.source.key,
                etag=facts.etag,
                version_id=facts.version_id,
                size_bytes=facts.size_bytes,
            ),
            engine=self.engine,
            options=job.options,
            settings=self.settings.audio,
            job=job,
            fetch_seconds=fetch_seconds,
            on_progress=self._progress_writer(job),
        )

    def _progress_writer(self, job: Job) -> Callable[[int, int], None]:
        next_write = 0.0

        def write(done: int, total: int) -> None:
            nonlocal next_write
            if time.monotonic() < next_write:
                return
            next_write = time.monotonic() + PROGRESS_SECONDS
            self._tell(job, Progress(stage="score", windows_done=done, windows_total=total))

        return write

    def _tell(self, job: Job, progress: Progress) -> None:
        try:
            self.ledger.progress(job.id, progress)
        except LedgerUnavailable as error:
            log.warning("progress_not_written", error=error.message)  # the work goes on without

    def _publish(self, job: Job, facts: ObjectFacts, report: Report) -> tuple[ReportLocation, str | None]:
        results = self.settings.general.results
        body = report.model_dump_json()
        bucket = key = None
        if results in {"s3", "both"}:
            bucket = self.settings.s3.results_bucket
            key = report_key(
                job.source,
                job.options,
                etag=facts.etag,
                version_id=facts.version_id,
                model_hash=self.engine.info.model_hash,
                prefix=self.settings.s3.results_prefix,
            )
            if not self.store.put_report(key, body.encode()):
                log.info("report_was_there", key=key)
        in_redis = results in {"redis", "both"}
        return ReportLocation(in_redis=in_redis, bucket=bucket, key=key), body if in_redis else None

    def _end_badly(self, state: JobState, error: WarmlineError) -> float | None:
        """Another attempt for what may pass, while there are attempts left; else the job has failed."""
        job_id, jobs = state.job.id, self.settings.jobs
        if isinstance(error, TransientError) and state.attempt < jobs.max_attempts:
            wait = min(
                retry_seconds(jobs.retry_seconds, state.attempt),
                # A message that waits longer would be delivered to another worker meanwhile.
                jobs.visibility_timeout_seconds / 2,
            )
            _patiently(lambda: self.ledger.retry(job_id))
            log.warning("job_retried", code=error.code, error=error.message, wait_seconds=round(wait, 2))
            return wait
        _patiently(lambda: self.ledger.fail(job_id, Failure(code=error.code, message=error.message)))
        log.warning("job_failed", code=error.code, error=error.message, attempt=state.attempt)
        return None


def retry_seconds(first: float, attempt: int) -> float:
    """How long to wait after so many attempts: doubled each time, a quarter more or less at random.

    The chance keeps jobs that failed together (a store that restarted) from coming back together.
    """
    return first * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


def _patiently(write: Callable[[], _T]) -> _T:
    """Writes to the ledger, waiting for it if need be. Raises LedgerUnavailable when it stays away."""
    deadline = time.monotonic() + LEDGER_PATIENCE_SECONDS
    wait = 0.25
    while True:
        try:
            return write()
        except LedgerUnavailable as error:
            if time.monotonic() + wait > deadline:
                raise
            log.warning("ledger_awaited", error=error.message)
            time.sleep(wait)
            wait = min(2 * wait, 5.0)
