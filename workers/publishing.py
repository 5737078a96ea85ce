"""Where a job's report is put, once, and its embeddings; whether an earlier attempt has put the report there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from config.settings import Settings
from warmline.calls.embeddings import EmbeddingWriter
from warmline.calls.report import Report
from warmline.calls.report_reading import NotAReport, read_report
from warmline.jobs.errors import ObjectNotFound
from warmline.jobs.records import Job, ReportLocation
from warmline.objects.report_keys import embeddings_key, report_key
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
        results, s3, embedding = settings.general.results, settings.s3, job.options.embedding
        in_s3 = results in {"s3", "both"}
        key = None
        if in_s3 or embedding != "none":
            key = report_key(
                job.source,
                job.options,
                etag=facts.etag,
                version_id=facts.version_id,
                model_hash=model_hash,
                prefix=s3.results_prefix,
            )
        self._bucket = s3.results_bucket
        self._embedding = embedding
        # In S3 even where reports are in Redis alone, which is no place for megabytes.
        self._embeddings_key = None if key is None or embedding == "none" else embeddings_key(key, embedding)
        self.location = ReportLocation(
            in_redis=results in {"redis", "both"},
            bucket=s3.results_bucket if in_s3 else None,
            key=key if in_s3 else None,
        )

    @contextmanager
    def embeddings_beside(self, path: Path, dimensions: int) -> Iterator[EmbeddingWriter | None]:
        """A writer for the windows' embeddings, beside this file, if the job asks for them; else None.

        Raises InvalidRequest where Parquet is asked for and cannot be written.
        """
        if self._embeddings_key is None or self._embedding == "none":
            yield None
            return
        file = path.with_name(f"embeddings.{self._embedding}")
        uri = f"s3://{self._bucket}/{self._embeddings_key}"
        with EmbeddingWriter(file, file_format=self._embedding, dimensions=dimensions, uri=uri) as writer:
            yield writer

    def publish_embeddings(self, path: Path, lease: Lease) -> None:
        """Puts the file where the report says that it is; before the report. Raises Stopped as `publish` does.

        Another attempt puts the same file there again.
        """
        if self._embeddings_key is not None:
            lease.confirm()
            self._store.put_embeddings(self._embeddings_key, path)

    def published(self) -> str | None:
        """The report of this very job, where an attempt that died afterwards has put it into S3; else None.

        What is returned is for the ledger: "" where Redis keeps no reports.
        """
        if self.location.key is None:
            return None
        try:
            body = self._store.get_report(self.location)
            report = read_report(body)
        except (ObjectNotFound, NotAReport):
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
