"""The overview of a batch: which of its reports are looked at, and what is said of the others.

A batch may have a hundred thousand calls. At most SAMPLE reports are read, chosen at random, for at most
SECONDS; the picture says how many of how many. Of a report everything but its summaries is dropped as it is read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pydantic import ValidationError

from warmline.calls.brief_reports import BriefReport
from warmline.calls.stored_reports import READERS
from warmline.jobs.errors import ObjectNotFound
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import BatchState, JobState, JobStatus
from warmline.objects.store import ObjectStore
from warmline.pictures.drawing import counted
from warmline.pictures.overview import Overview

SAMPLE: Final = 400  # shares are right to five hundredths, nineteen times in twenty
SECONDS: Final = 10.0


def batch_overview_svg(
    ledger: Ledger, store: ObjectStore, batch_id: str, emotion: str = "", *, seconds: float = SECONDS
) -> str:
    """An SVG document. Raises BatchNotFound, LedgerUnavailable, what the store raises but ObjectNotFound.

    `emotion` decides which calls come first. Raises InvalidRequest for one that the reports do not have.
    """
    batch = ledger.batch(batch_id)
    states = ledger.sample(batch_id, JobStatus.SUCCEEDED, SAMPLE)
    overview = Overview(f"Batch {batch_id}", emotion)
    read = unreadable = 0
    for report in _read(ledger, store, states, time.monotonic() + seconds):
        read += 1
        if report is None:
            unreadable += 1
        else:
            overview.add(report)
    return overview.svg(*_notes(batch, len(states), read, unreadable))


def _notes(batch: BatchState, chosen: int, read: int, unreadable: int) -> Iterator[str]:
    counts = {
        "succeeded": batch.succeeded,
        "failed": batch.failed + batch.dead,
        "cancelled": batch.cancelled,
        "not ended yet": batch.queued + batch.running,
    }
    said = ", ".join(f"{count:,} {words}" for words, count in counts.items() if count)
    yield f"{counted(batch.total, 'job')}: {said}."
    if chosen < batch.succeeded:
        yield f"A sample: {chosen:,} of the {batch.succeeded:,} that succeeded, chosen at random."
    if read < chosen:
        yield f"Of these {read:,} could be read in the time that a picture may take."
    if unreadable:
        yield f"{counted(unreadable, 'report')} that expired or cannot be read."


def _read(
    ledger: Ledger, store: ObjectStore, states: Sequence[JobState], until: float
) -> Iterator[BriefReport | None]:
    """The jobs' reports in order, None for what cannot be read; ends early when the time is over."""
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="overview")
    try:
        for report in pool.map(lambda state: _report(ledger, store, state), states):
            yield report
            if time.monotonic() > until:
                return
    finally:
        pool.shutdown(cancel_futures=True)


def _report(ledger: Ledger, store: ObjectStore, state: JobState) -> BriefReport | None:
    """S3 comes first: there rules that are applied anew leave what they found."""
    body: bytes | None = None
    if state.report is not None and state.report.uri is not None:
        try:
            body = store.get_report(state.report)
        except ObjectNotFound:
            body = None
    if body is None:
        body = ledger.report(state.job.id)
    if body is None:
        return None
    try:
        return BriefReport.model_validate_json(body, extra="ignore")
    except ValidationError:
        return None
