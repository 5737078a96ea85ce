"""The reports of one batch: found through the ledger, so that those that are only in Redis are among them.

S3 is asked first where a report is in both: rules that are applied anew rewrite it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from warmline.calls.stored_reports import READERS, ReportRef
from warmline.jobs.errors import ObjectNotFound
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus, ReportLocation
from warmline.objects.store import ObjectStore

PAGE_JOBS = 500  # read from the ledger at once
REDIS = "redis:"  # before the job's id: the place of a report that is in Redis alone


class BatchShelf:
    """A shelf (see `warmline.calls.stored_reports`) of the reports that a batch's jobs have so far."""

    def __init__(self, ledger: Ledger, store: ObjectStore, batch_id: str, *, versions: bool = True) -> None:
        """`versions=False` spares a request to S3 for each report: for who reads them all whatever they are."""
        self._ledger = ledger
        self._store = store
        self._batch_id = batch_id
        self._versions = versions

    def refs(self) -> Iterator[ReportRef]:
        """See `Shelf`; in the order of submission, the last one first. Raises BatchNotFound, LedgerUnavailable."""
        before: str | None = None
        with ThreadPoolExecutor(READERS, thread_name_prefix="versions") as pool:
            while states := self._ledger.list(
                status=JobStatus.SUCCEEDED, batch_id=self._batch_id, limit=PAGE_JOBS, before=before
            ):
                before = states[-1].job.id
                yield from (ref for ref in pool.map(self._ref, states) if ref is not None)

    def body(self, ref: ReportRef) -> bytes:
        """See `Shelf`. Raises ObjectNotFound when the report has expired in Redis or is gone from S3."""
        if ref.place.startswith(REDIS):
            return self._from_redis(ref.place.removeprefix(REDIS))
        bucket, _, key = ref.place.removeprefix("s3://").partition("/")
        return self._store.get_report(ReportLocation(bucket=bucket, key=key))

    def _ref(self, state: JobState) -> ReportRef | None:
        location = state.report
        if location is None:
            return None
        in_redis = ReportRef(place=f"{REDIS}{state.job.id}", version=str(state.finished_at))
        if location.uri is None:
            return in_redis
        version = ""
        if self._versions:
            try:
                version = self._store.report_version(location)
            except ObjectNotFound:
                if location.in_redis:
                    return in_redis
        return ReportRef(place=location.uri, version=version)

    def _from_redis(self, job_id: str) -> bytes:
        body = self._ledger.report(job_id)
        if body is None:
            raise ObjectNotFound("The report has expired in Redis (WARMLINE_JOBS_RETENTION_SECONDS).")
        return body
