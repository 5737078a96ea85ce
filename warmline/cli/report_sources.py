"""Which reports a command reads: a place of reports, or the reports of one batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from config.settings import Settings
from warmline.jobs.errors import InvalidRequest

if TYPE_CHECKING:
    from warmline.calls.stored_reports import Shelf


@contextmanager
def open_reports(settings: Settings, reports: str, batch: str, *, versions: bool = True) -> Iterator[Shelf]:
    """The shelf that `--reports` or `--batch` name; with neither, all reports of the results bucket.

    `versions=False` is for who reads every report whatever its version. Raises InvalidRequest, BatchNotFound.
    """
    from warmline.calls.batch_reports import BatchShelf
    from warmline.calls.stored_reports import open_shelf
    from warmline.jobs.ledger import Ledger
    from warmline.objects.store import ObjectStore  # boto3 takes 0.3 s to import

    if reports and batch:
        raise InvalidRequest("give --reports or --batch: a batch's reports are found through the ledger")
    with ExitStack() as stack:

        def store() -> ObjectStore:
            made = ObjectStore(settings.s3)
            stack.callback(made.close)
            return made

        if batch:
            ledger = Ledger.connect(settings.redis, settings.jobs)
            stack.callback(ledger.close)
            ledger.batch(batch)  # raises for one that is not there
            yield BatchShelf(ledger, store(), batch, versions=versions)
        else:
            s3 = settings.s3
            yield open_shelf(reports, store, bucket=s3.results_bucket, prefix=s3.results_prefix)
