"""From endings to deliveries: each ending that the ledger wrote down becomes one delivery for each receiver.

Every receiver has a place of its own in the stream of endings. One that has a great many deliveries to wait for is
left where it is, and what ends meanwhile stays in the stream, in a tenth of the memory.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Final

import structlog

from config.settings import Settings
from warmline.jobs.deliveries import Delivery, EndedJob, Ending
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import TransientError, WarmlineError
from warmline.jobs.records import ReportLocation
from warmline.objects.store import ObjectStore
from warmline.webhooks.events import Event, Summary, event_of

log = structlog.get_logger()

CHUNK_ENDINGS: Final = 100
MOST_PENDING: Final = 100_000  # of one receiver
MAX_REPORT_BYTES: Final = 4 * 1024**2  # a longer report is not looked into
MOST_BYTES: Final = 16 * 1024**2  # of reports that are read at once
STORE_THREADS: Final = 4
STORE_SECONDS: Final = 4.0
STORE_REST_SECONDS: Final = 30.0  # for which a store that does not answer is not asked


class Intake:
    """Makes deliveries. One thread uses it at a time."""

    def __init__(self, settings: Settings, ledger: DeliveryLedger) -> None:
        """Connects to nothing yet."""
        self._s3 = settings.s3
        self._events = settings.webhooks.events
        self._ledger = ledger
        self._cursors: dict[str, str] = {}
        self._store_rests_until = 0.0

    def begin(self) -> None:
        """Reads where each receiver is. Raises LedgerUnavailable."""
        self._cursors = self._ledger.cursors()

    def take_in(self, token: str, pending: Mapping[str, int], disabled: Collection[str]) -> bool:
        """Makes deliveries of the next endings; True when there may be more of them.

        `pending` are the deliveries that each receiver waits for. A receiver that is disabled gets none. Raises
        LedgerUnavailable.
        """
        places: dict[str, list[str]] = defaultdict(list)
        for receiver_id, place in self._cursors.items():
            if pending.get(receiver_id, 0) < MOST_PENDING:
                places[place].append(receiver_id)
        more = False
        for place, receiver_ids in places.items():
            endings = self._ledger.endings_after(place, CHUNK_ENDINGS)
            if not endings:
                continue
            more = more or len(endings) == CHUNK_ENDINGS
            bodies = self._bodies([ending for ending in endings if ending.event in self._events])
            for receiver_id in receiver_ids:
                told = () if receiver_id in disabled else bodies
                made = [_delivery(ending, body, receiver_id) for ending, body in told]
                if not self._ledger.add(token, receiver_id, endings[-1].place, made):
                    return False
                self._cursors[receiver_id] = endings[-1].place
        return more

    def close(self) -> None:
        """Closes its connections to the store."""
        if "_store" in self.__dict__:
            self._store.close()

    def _bodies(self, endings: Sequence[Ending]) -> Sequence[tuple[Ending, str]]:
        jobs = [ending for ending in endings if ending.event.startswith("job.")]
        ended = dict(zip((ending.place for ending in jobs), self._ended(jobs), strict=True))
        summaries = self._summaries([(e, ended[e.place]) for e in jobs if e.event == "job.succeeded"])
        events = [event_of(e, ended.get(e.place), summaries.get(e.place)) for e in endings]
        return [(ending, body_of(event)) for ending, event in zip(endings, events, strict=True)]

    def _ended(self, jobs: Sequence[Ending]) -> Sequence[EndedJob]:
        return self._ledger.ended_jobs([ending.subject_id for ending in jobs])

    def _summaries(self, succeeded: Sequence[tuple[Ending, EndedJob]]) -> dict[str, Summary | None]:
        """By the ending's place."""
        here = [(e, job.report_bytes) for e, job in succeeded if 0 < job.report_bytes <= MAX_REPORT_BYTES]
        found: dict[str, Summary | None] = {}
        for endings in _lots(here):
            reports = self._ledger.reports([ending.subject_id for ending in endings])
            found |= {e.place: Summary.of(text) for e, text in zip(endings, reports, strict=True) if text}
        elsewhere = {
            ending.place: job.report
            for ending, job in succeeded
            if not job.report_bytes and job.report is not None and job.report.bucket is not None
        }
        if elsewhere and time.monotonic() >= self._store_rests_until:
            with ThreadPoolExecutor(STORE_THREADS) as threads:
                found |= dict(zip(elsewhere, threads.map(self._summary_in_store, elsewhere.values()), strict=True))
        return found

    def _summary_in_store(self, location: ReportLocation) -> Summary | None:
        """None where it cannot be had: the event matters more."""
        if time.monotonic() < self._store_rests_until:
            return None
        try:
            report = self._store.get_report(location)
        except WarmlineError as error:
            if isinstance(error, TransientError):
                self._store_rests_until = time.monotonic() + STORE_REST_SECONDS
            log.warning("webhook_without_summary", uri=location.uri, code=error.code)
            return None
        return Summary.of(report) if len(report) <= MAX_REPORT_BYTES else None

    @cached_property
    def _store(self) -> ObjectStore:
        patience = {"timeout_seconds": min(STORE_SECONDS, self._s3.timeout_seconds)}
        return ObjectStore(self._s3.model_copy(update=patience), attempts=1)


def body_of(event: Event) -> str:
    """An event as it is posted."""
    return event.model_dump_json()


def _lots(reports: Sequence[tuple[Ending, int]]) -> Iterator[list[Ending]]:
    """Endings whose reports, of these lengths, may be read at once."""
    lot: list[Ending] = []
    total = 0
    for ending, size_bytes in reports:
        if lot and total + size_bytes > MOST_BYTES:
            yield lot
            lot, total = [], 0
        lot.append(ending)
        total += size_bytes
    if lot:
        yield lot


def _delivery(ending: Ending, body: str, receiver_id: str) -> Delivery:
    return Delivery(
        id=ending.delivery_id(receiver_id),
        event=ending.event,
        subject_id=ending.subject_id,
        created_at=ending.at,
        body=body,
    )
