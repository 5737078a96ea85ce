"""Figures over a batch's calls: by agent, queue or whatever their metadata say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from fastapi import APIRouter, Query, Security

from api.auth import bearer_in_openapi
from api.dependencies import Provided
from api.openapi import problems
from api.schemas import JobId
from warmline.calls.batch_reports import BatchShelf
from warmline.calls.stored_reports import StoredReport, Unreadable, read_reports
from warmline.exports.aggregates import Aggregate, Grouping, aggregate
from warmline.jobs.errors import (
    BatchNotFound,
    BatchTooLarge,
    ObjectForbidden,
    StoreUnavailable,
    TransientError,
)

router = APIRouter(prefix="/v1/batches", tags=["batches"], dependencies=[Security(bearer_in_openapi)])

MAX_CALLS: Final = 5_000  # some ten seconds' work
MAX_GROUPS: Final = 1_000
MAX_SECONDS: Final = 30.0  # proxies give up after 60


class AggregatesBusy(TransientError):
    """The API is summing up another batch; ask again in a few seconds."""

    code = "aggregates_busy"
    title = "Another batch is being summed up"


@router.get(
    "/{batch_id}/aggregate",
    summary="Sum up a batch",
    responses=problems(BatchNotFound, BatchTooLarge, AggregatesBusy, StoreUnavailable, ObjectForbidden),
)
def get(
    batch_id: JobId,
    services: Provided,
    by: Annotated[
        str,
        Query(
            min_length=1,
            max_length=300,
            description="1 to 4, comma-separated: day, batch, category, role, model, or metadata keys; NAME=KEY "
            "gives a key another name",
            examples=["agent,role"],
        ),
    ],
    date: Annotated[
        str,
        Query(
            max_length=100, description="what a call's day is: analysed_at, key (its first date), metadata:NAME"
        ),
    ] = "analysed_at",
) -> Aggregate:
    """Of the reports that there are so far. Of a batch too large for an answer, `warmline aggregate --batch`."""
    grouping = Grouping.parse(by, date)
    state = services.ledger.batch(batch_id)
    if state.succeeded > MAX_CALLS:
        raise BatchTooLarge(
            f"The batch has {state.succeeded:,} reports, and over HTTP {MAX_CALLS:,} at most are summed up; "
            f"use `warmline aggregate --batch {batch_id} --by {by}`."
        )
    with _alone(services.summing):
        shelf = BatchShelf(services.ledger, services.store, batch_id, versions=False)
        return aggregate(_in_time(read_reports(shelf)), grouping, max_groups=MAX_GROUPS)


@contextmanager
def _alone(turn: threading.Lock) -> Iterator[None]:
    """One at a time: it keeps the interpreter busy, which all other requests want too. Raises AggregatesBusy."""
    if not turn.acquire(blocking=False):
        raise AggregatesBusy
    try:
        yield
    finally:
        turn.release()


def _in_time(
    reports: Iterable[StoredReport | Unreadable], seconds: float = MAX_SECONDS
) -> Iterator[StoredReport | Unreadable]:
    """The same, as long as there is time. A store that does not answer makes every report a long wait."""
    deadline, unreadable = time.monotonic() + seconds, 0
    for read, report in enumerate(reports, start=1):
        yield report
        unreadable += isinstance(report, Unreadable)
        if time.monotonic() > deadline:
            if 2 * unreadable > read:
                raise StoreUnavailable
            raise BatchTooLarge(
                f"In {seconds:.0f} s {read:,} reports were read, and there are more; use `warmline aggregate`."
            )
