"""Reconciling: every call below a prefix is to have its report. S3 is the truth, whatever the ledger remembers.

What has a report is done, what waits or runs is left alone, and for the rest a job is entered. Jobs that wait or
run although their own report is there are settled. Calls are compared page by page; what is kept of the jobs in
flight is eight bytes for each.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Protocol

import structlog

from config.settings import RedisSettings, Settings
from warmline.jobs.errors import (
    BacklogFull,
    InvalidRequest,
    LedgerUnavailable,
    ObjectNotFound,
    ReconciliationRunning,
    WarmlineError,
)
from warmline.jobs.faults import classify
from warmline.jobs.reconcile_ledger import ReconcileLedger
from warmline.jobs.reconciliation import Counts, ReconcileStatus, Reconciliation, Wanted, job_id_for
from warmline.jobs.records import Failure, Job, JobStatus, Options, ReportLocation, Source, WorkerState
from warmline.objects.comparison import Compared, compare
from warmline.objects.store import ListedCall, ObjectStore

log = structlog.get_logger()

MAX_TO_SETTLE = 100_000  # jobs in flight whose report is there, in one run; the next run sees to the rest
RENEW_JOBS = 20_000  # jobs in flight that are looked at between two renewals of the lease


class Interrupted(Exception):
    """The process ends, or another reconciliation has taken over because this one was held up."""


def warm_model_hashes(workers: Iterable[WorkerState]) -> set[str]:
    """The models that are warm, by hash: part of their reports' keys."""
    return {child.model_hash for worker in workers for child in worker.warm if child.model_hash}


class UploadRules(Protocol):
    """What is to become of uploads: `triggers.intake.Intake`."""

    def options_for(self, source: Source) -> Options | None:
        """Those of the rule for an object; None where there is none."""

    def accept_listed(self, calls: Sequence[ListedCall]) -> Mapping[str, int]:
        """Enters a job for each that has none; how many were entered, held, known and so on."""


class Reconciler:
    """Runs reconciliations, one at a time among all processes."""

    def __init__(
        self, settings: Settings, *, front: RedisSettings | None = None, rules: UploadRules | None = None
    ) -> None:
        """Connects to nothing yet. `front`: how `begin` and `find` reach Redis; people wait for these.

        `rules` are for reconciliations that are asked for by rules.
        """
        self._settings = settings
        self._rules = rules
        self._ledger = ReconcileLedger.connect(settings.redis, settings.jobs)
        self._front = ReconcileLedger.connect(front or settings.redis, settings.jobs)
        self._closing = threading.Event()
        self._work: _Work | None = None

    def close(self) -> None:
        """Interrupts what runs here, so that others may begin, and closes the connections."""
        self._closing.set()
        work = self._work
        if work is not None:
            with suppress(LedgerUnavailable):  # then its lease ends by itself
                self._ledger.end(work.run.model_copy(update={"status": ReconcileStatus.INTERRUPTED}))
        self._ledger.close()
        self._front.close()

    def find(self, run_id: str) -> Reconciliation:
        """How far a reconciliation is. Raises ReconciliationNotFound."""
        return self._front.reconciliation(run_id)

    def start(self, wanted: Wanted, model_hash: str) -> Reconciliation:
        """Begins in a thread of its own. Raises as `begin` does."""
        run = self.begin(wanted, model_hash)
        threading.Thread(target=self.carry_out, args=[run], name="reconciliation", daemon=True).start()
        return run

    def begin(self, wanted: Wanted, model_hash: str) -> Reconciliation:
        """A reconciliation that is to be carried out now.

        Raises ReconciliationRunning, BucketNotAllowed, InvalidRequest where reports are in Redis alone.
        """
        if self._settings.general.results == "redis":
            raise InvalidRequest(
                "WARMLINE_RESULTS=redis: no reports are put into S3, and calls are compared with those."
            )
        if wanted.by_rules and self._rules is None:
            raise InvalidRequest("There are no rules for uploads here.")
        with closing(ObjectStore(self._settings.s3)) as store:
            store.check_allowed(wanted.bucket)
        run = Reconciliation(
            id=uuid.uuid4().hex, wanted=wanted, model_hash=model_hash, started_at=datetime.now(UTC)
        )
        if not self._front.hold(run):
            raise ReconciliationRunning
        return run

    def carry_out(self, run: Reconciliation) -> Reconciliation:
        """Reconciles, and says in the ledger how far it is and how it ended. Raises nothing."""
        failure: Failure | None = None
        rules = self._rules if run.wanted.by_rules else None
        work = self._work = _Work(self._settings, self._ledger, run, self._closing, rules)
        try:
            work.do()
        except Interrupted:
            log.warning("reconciliation_interrupted", reconciliation=run.id)
            return work.run.model_copy(update={"status": ReconcileStatus.INTERRUPTED})
        except Exception as error:
            cause = classify(error)
            if not isinstance(error, WarmlineError):
                log.exception("reconciliation_crashed", reconciliation=run.id)
            failure = Failure(code=cause.code, message=cause.message)
        finally:
            self._work = None
        ended = work.run.model_copy(
            update={
                "status": ReconcileStatus.FAILED if failure else ReconcileStatus.FINISHED,
                "finished_at": datetime.now(UTC),
                "failure": failure,
            }
        )
        facts = ended.counts.model_dump() | ({"code": failure.code, "error": failure.message} if failure else {})
        uri = f"s3://{run.wanted.bucket}/{run.wanted.prefix}"
        (log.warning if failure else log.info)("reconciled", reconciliation=run.id, uri=uri, **facts)
        with suppress(LedgerUnavailable):  # then it counts as interrupted
            self._ledger.end(ended)
        return ended


class _Work:
    """One reconciliation."""

    def __init__(
        self,
        settings: Settings,
        ledger: ReconcileLedger,
        run: Reconciliation,
        closing: threading.Event,
        rules: UploadRules | None,
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._ledger = ledger
        self.run = run
        self._wanted = run.wanted
        self._closing = closing

    def do(self) -> None:
        self._renew()
        # What is in flight first: what ends meanwhile has its report by the time that reports are listed.
        in_flight = self._in_flight()
        to_settle: dict[str, str] = {}
        wanted, s3 = self._wanted, self._settings.s3
        with closing(ObjectStore(s3)) as store:
            for page in compare(store, s3, wanted.bucket, wanted.prefix, self._options_of, self.run.model_hash):
                reported = [found for found in page if found.reported]
                absent = [found for found in page if not found.reported]
                waiting = [found for found in absent if _is_among(in_flight, found.call.source.key)]
                self._count(found=len(page), reported=len(reported), in_ledger=len(waiting))
                passed_by = {id(found) for found in waiting}
                self._enter([found for found in absent if id(found) not in passed_by])
                for found in reported:
                    if len(to_settle) < MAX_TO_SETTLE and _is_among(in_flight, found.call.source.key):
                        to_settle[found.call.source.key] = found.report_key
                self._renew()
            if to_settle:
                self._settle(store, to_settle)

    def _in_flight(self) -> array[int]:
        """What is asked already and has not ended: digests of keys, sorted."""
        found: array[int] = array("Q")
        for count, (job, _) in enumerate(self._ledger.in_flight()):
            if count % RENEW_JOBS == 0:
                self._renew()
            if self._is_ours(job):
                found.append(_digest(job.source.key))
        return array("Q", sorted(found))

    def _is_ours(self, job: Job) -> bool:
        # Whatever version it names: an upload's job names its own, and an older one's is another run's to find.
        source, wanted = job.source, self._wanted
        return (
            source.bucket == wanted.bucket
            and source.key.startswith(wanted.prefix)
            and job.options == self._options_of(source)
        )

    def _options_of(self, source: Source) -> Options | None:
        return self._wanted.options if self._rules is None else self._rules.options_for(source)

    def _enter(self, absent: Sequence[Compared]) -> None:
        if not absent:
            return
        if self._rules is not None:
            counts = self._rules.accept_listed([found.call for found in absent])
            enqueued = counts.get("entered", 0) + counts.get("held", 0)
            self._count(enqueued=enqueued, in_ledger=len(absent) - enqueued)
            return
        now = datetime.now(UTC)
        jobs = [
            Job(
                id=job_id_for(found.report_key),
                source=found.call.source,
                options=self._wanted.options,
                lane=self._wanted.lane,
                created_at=now,
            )
            for found in absent
        ]
        etags = (found.call.etag for found in absent)
        outcomes = self._ledger.enter(list(zip(jobs, etags, strict=True)))
        replayed = 0
        if self._wanted.retry_failed:
            for job, outcome in zip(jobs, outcomes, strict=True):
                if outcome in {JobStatus.FAILED, JobStatus.DEAD}:
                    self._ledger.replay(job.id)
                    replayed += 1
        entered, refused = outcomes.count("entered"), outcomes.count("full")
        self._count(enqueued=entered, replayed=replayed, in_ledger=len(jobs) - entered - replayed - refused)
        if refused:
            raise BacklogFull

    def _settle(self, store: ObjectStore, report_keys: dict[str, str]) -> None:
        """Ends the jobs in flight whose own report is there: its JSON names them."""
        for count, (job, has_hash) in enumerate(self._ledger.in_flight()):
            if count % RENEW_JOBS == 0:
                self._renew()
            report_key = report_keys.get(job.source.key) if has_hash and self._is_ours(job) else None
            if report_key is None:
                continue
            location = ReportLocation(bucket=self._settings.s3.results_bucket, key=report_key)
            with suppress(ObjectNotFound, ValueError):  # gone, or no report of ours
                report = json.loads(store.get_report(location))
                if report.get("job_id") == job.id and self._ledger.settle(job, location):
                    log.info("job_settled", job_id=job.id, reason="its report is in S3")
                    self._count(settled=1)

    def _count(self, **more: int) -> None:
        counts: Counts = self.run.counts.plus(**more)
        self.run = self.run.model_copy(update={"counts": counts})

    def _renew(self) -> None:
        if self._closing.is_set() or not self._ledger.hold(self.run):
            raise Interrupted


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _is_among(digests: array[int], key: str) -> bool:
    digest = _digest(key)
    place = bisect_left(digests, digest)
    return place < len(digests) and digests[place] == digest
