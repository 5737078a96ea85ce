"""Where a job's report is put, once; and whether an earlier attempt at this job has put it there."""

from __future__ import annotations

import structlog
from pydantic import ValidationError

from config.settings import Settings
from warmline.calls.report import Report
from warmline.jobs.errors import ObjectNotFound
from warmline.jobs.records import Job, ReportLocation
from warmline.objects.report_keys import report_key
from warmline.objects.store import ObjectFacts, ObjectStore
from workers.lease import Lease

log = structlog.get_logger()


class Publisher:
    """Of one job's report."""

    def __init__(
        self, store: ObjectStore, settings: Settings, job: Job, facts: ObjectFacts, model_hash: str
    ) -> None:
        self._store = store
        self._job = job
        results, s3 = settings.general.results, settings.s3
        bucket = key = None
        if results in {"s3", "both"}:
            bucket = s3.results_bucket
            key = report_key(
                job.source,
                job.options,
                etag=facts.etag,
                version_id=facts.version_id,
                model_hash=model_hash,
                prefix=s3.results_prefix,
            )
        self.location = ReportLocation(in_redis=results in {"redis", "both"}, bucket=bucket, key=key)

    def published(self) -> str | None:
        """The report of this very job, where an attempt that died afterwards has put it into S3; else None.

        What is returned is for the ledger: "" where Redis keeps no reports.
        """
        if self.location.key is None:
            return None
        try:
            body = self._store.get_report(self.location)
            report = Report.model_validate_json(body)
        except (ObjectNotFound, ValidationError):
            return None
        if report.job_id != self._job.id:
            return None  # the same question, asked by another job
        return body.decode() if self.location.in_redis else ""

    def publish(self, report: Report, lease: Lease) -> str:
        """Puts it into S3, where reports go there, if the job is still ours; raises Stopped if not.

        What is returned is for the ledger: "" where Redis keeps no reports.
        """
        body = report.model_dump_json()
        if self.location.key is not None:
            lease.confirm()
            if not self._store.put_report(self.location.key, body.encode()):
                log.info("report_was_there", key=self.location.key)
        return body if self.location.in_redis else ""
