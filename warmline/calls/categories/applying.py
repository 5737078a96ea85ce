"""Rules applied to all that is stored: the results bucket and what Redis keeps, resumed by being run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from config.settings import Settings
from warmline.calls.categories.backfill import Change, Outcome
from warmline.calls.categories.remembered import NOTE_NAME, Remembered
from warmline.calls.categories.rewriters import Rewriting
from warmline.calls.categories.rewriting import rewrite_kept
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.stored_reports import BucketShelf, ReportRef
from warmline.jobs.errors import WarmlineError
from warmline.jobs.kept_reports import KeptReports
from warmline.objects.plain_reports import PlainReports

NOTE_SECONDS = 60.0  # how often what is done is remembered while a run goes on

Tell = Callable[[Outcome], None]


def apply_to_bucket(
    settings: Settings, rules: CategoryRules, prefix: str, tell: Tell, *, dry_run: bool, processes: int = 0
) -> None:
    """Rewrites the reports below a prefix of the results bucket; those that carry these matches stay as they are.

    `tell` is called with each one's outcome, here. Raises what listing them raises, and InternalError when a
    process of this dies; what was done until then is remembered, and running it again goes on from there.
    """
    with closing(PlainReports(settings.s3)) as store:
        remembered = Remembered(rules, store.get_note(NOTE_NAME))

        def unknown() -> Iterator[ReportRef]:
            for ref in BucketShelf(store, settings.s3.results_bucket, prefix).refs():
                names = remembered.find(ref)
                if names is None:
                    yield ref
                else:
                    remembered.add(ref.place, ref.version, names)
                    tell(Outcome(place=ref.place, change=Change.REMEMBERED, before=names, after=names))

        def note(*, complete: bool) -> None:
            if not dry_run:
                with suppress(WarmlineError):  # the next run is slower, and that is all
                    store.put_note(NOTE_NAME, remembered.note(complete=complete))

        complete, noted_at = False, time.monotonic()
        rewriting = Rewriting(settings=settings.s3, rules=rules, dry_run=dry_run)
        try:
            for outcome in rewriting.over(unknown(), store, processes=processes):
                if outcome.version and outcome.change in {Change.WRITTEN, Change.CURRENT}:
                    remembered.add(outcome.place, outcome.version, outcome.after)
                tell(outcome)
                if time.monotonic() - noted_at > NOTE_SECONDS:
                    note(complete=False)
                    noted_at = time.monotonic()
            complete = prefix == settings.s3.results_prefix
        finally:
            note(complete=complete)


def apply_to_redis(settings: Settings, rules: CategoryRules, prefix: str, tell: Tell, *, dry_run: bool) -> None:
    """Rewrites the reports that Redis keeps; with a prefix those whose place in S3 is below it, else all.

    Raises LedgerUnavailable.
    """
    with closing(KeptReports.connect(settings.redis, settings.jobs)) as kept:
        for outcome in rewrite_kept(
            kept, rules, bucket=settings.s3.results_bucket, prefix=prefix, dry_run=dry_run
        ):
            tell(outcome)
