"""The road from an event to a job: which rule applies, which object it is, whether it is known.

An event is a hint that a key has changed. Where it does not say enough (no ETag, nothing that tells old from new,
or a rule that wants the object's metadata), the store is asked what is there now, and that is what the job is for.
Whoever brings the events may bring them again: an upload has one job, whose id the object's identity decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

import structlog

from config.settings import Settings
from warmline.jobs.errors import BacklogFull, ObjectNotFound, PermanentError
from warmline.jobs.records import Failure, Job, Options, Source
from warmline.jobs.upload_ledger import Entry, UploadJob, UploadLedger, upload_job_id
from warmline.objects.events import Upload
from warmline.objects.store import ListedCall, ObjectStore
from warmline.telemetry.tracing import current, span
from warmline.triggers.rules import Match, Rules

log = structlog.get_logger()

LOOKS_AT_ONCE = 8  # requests to the store at a time, for the objects of one message


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of some uploads: a word for each of them, counted."""

    # entered, held (it waits for its rule's pace), known, older (than what was seen of this key), ignored (no rule
    # wants it), gone (deleted since), refused (see failures)
    counts: Mapping[str, int] = field(default_factory=dict)
    job_ids: tuple[str, ...] = ()  # of the new jobs
    failures: tuple[Failure, ...] = ()  # of those that no attempt can mend


class Intake:
    """Makes jobs of uploads. Threads may share it."""

    def __init__(self, settings: Settings, rules: Rules, ledger: UploadLedger, store: ObjectStore) -> None:
        self._settings = settings
        self._rules = rules
        self._ledger = ledger
        self._store = store
        self._lookers = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="look")

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """With a ledger and a store of its own; connects to nothing yet. Raises SettingsError for bad rules."""
        ledger = UploadLedger.connect(settings.redis, settings.jobs)
        return cls(settings, Rules.load(settings), ledger, ObjectStore(settings.s3))

    def close(self) -> None:
        """Closes the connections."""
        self._lookers.shutdown(cancel_futures=True)
        self._ledger.close()
        self._store.close()

    def accept(self, uploads: Iterable[Upload]) -> Outcome:
        """Enters a job for each upload that a rule wants and that has none.

        Raises LedgerUnavailable, StoreUnavailable and BacklogFull: then some may have their jobs and others not,
        and all are to be brought again.
        """
        counts: Counter[str] = Counter()
        failures: list[Failure] = []
        wanted: list[UploadJob] = []
        for found in self._lookers.map(self._look, uploads):
            match found:
                case UploadJob():
                    wanted.append(found)
                case Failure():
                    counts["refused"] += 1
                    failures.append(found)
                case word:
                    counts[word] += 1
        entries = self._enter(wanted)
        counts.update(entry.value for entry in entries)
        if Entry.FULL in entries:
            raise BacklogFull
        new = [
            asked.job.id
            for asked, entry in zip(wanted, entries, strict=True)
            if entry in {Entry.ENTERED, Entry.HELD}
        ]
        return Outcome(counts=dict(counts), job_ids=tuple(new), failures=tuple(failures))

    def accept_listed(self, calls: Iterable[ListedCall]) -> Mapping[str, int]:
        """As `accept`, for what a listing found; returns its counts."""
        return self.accept(as_upload(call) for call in calls).counts

    def options_for(self, source: Source) -> Options | None:
        """Those of the rule for an object; None where there is none."""
        match = self._rules.match(source)
        return None if match is None else match.rule.options

    def _enter(self, wanted: Sequence[UploadJob]) -> Sequence[Entry]:
        if not wanted:
            return ()
        with span("submit uploads", "producer", {"messaging.batch.message_count": len(wanted)}):
            entries = self._ledger.enter_uploads(
                [_in_trace(asked, current().traceparent) for asked in wanted],
                remember_seconds=self._settings.triggers.remember_seconds,
            )
        for asked, entry in zip(wanted, entries, strict=True):
            job = asked.job
            log.info("upload_taken", outcome=entry.value, job_id=job.id, uri=job.source.uri, rule=asked.rule)
        return entries

    def _look(self, upload: Upload) -> UploadJob | Failure | str:
        """The job for an upload, why there is none, or the word for it."""
        try:
            self._store.check_allowed(upload.source.bucket)
            match = self._rules.match(upload.source)
            return self.job_for(upload, match) if match is not None else "ignored"
        except ObjectNotFound:
            return "gone"
        except PermanentError as error:
            log.warning("upload_refused", uri=upload.source.uri, code=error.code, error=error.message)
            return Failure(code=error.code, message=error.message)

    def job_for(self, upload: Upload, match: Match) -> UploadJob:
        """The job that a rule makes of an upload; it is not entered. Raises what the store raises."""
        rule, source = match.rule, upload.source
        metadata, written_at = upload.metadata, None
        etag, written = upload.etag, source.version_id or upload.sequencer
        if written is None or not (etag or source.version_id) or (rule.needs_metadata and metadata is None):
            seen = self._store.describe(source)
            metadata, etag, written_at = seen.metadata, seen.etag, seen.last_modified
            # "null" names what a bucket holds from before it had versions.
            version_id = None if seen.version_id == "null" else seen.version_id
            source = source.model_copy(update={"version_id": version_id})
            written = seen.version_id or str(written_at.timestamp())
        tags = self._store.tags(source) if rule.needs_tags else {}
        identity = etag or f"version {source.version_id}"
        job = Job(
            id=upload_job_id(source.bucket, source.key, f"{identity} {written}" if rule.rerun else identity),
            source=source,
            options=rule.options,
            metadata=match.metadata(metadata or {}, tags),
            lane=rule.lane,
            created_at=datetime.now(UTC),
        )
        return UploadJob(
            job=job,
            sequencer=upload.sequencer,
            written_at=written_at,
            rule=rule.name,
            jobs_per_minute=rule.jobs_per_minute,
        )


def _in_trace(asked: UploadJob, traceparent: str | None) -> UploadJob:
    if traceparent is None:
        return asked
    return replace(asked, job=asked.job.model_copy(update={"traceparent": traceparent}))


def as_upload(call: ListedCall) -> Upload:
    """An object that a listing found, as if somebody had told of it."""
    return Upload(
        source=call.source,
        dialect="listing",
        name="listed",
        etag=call.etag or None,
        size_bytes=call.size_bytes,
        happened_at=call.last_modified,
    )
