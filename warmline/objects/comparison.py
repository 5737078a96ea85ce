"""Which calls have a report, by listings alone: page by page, so that memory does not grow with their number.

Calls and reports cannot be merged as two sorted listings. A report's key escapes and shortens its call's, which
changes the order, and stores on file systems list folder by folder instead of by bytes. So the reports that a
page of calls should have are asked for by what their keys begin with, which is the same in every store. Where a
prefix holds much more than what was asked for, it is divided by its next character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import structlog

from config.settings import S3Settings
from warmline.jobs.records import Options, Source
from warmline.objects.report_keys import report_key
from warmline.objects.store import ListedCall, ObjectStore

log = structlog.get_logger()

PAGE = 1000  # what one request lists
MANY = 50  # keys for which three requests are a fair price before they are divided


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A call, the key that its report has or would have, and whether it is there."""

    call: ListedCall
    report_key: str
    reported: bool


OptionsOf = Callable[[Source], Options | None]


def compare(
    store: ObjectStore, settings: S3Settings, bucket: str, prefix: str, options_of: OptionsOf, model_hash: str
) -> Iterator[list[Compared]]:
    """The calls below a prefix that have options, a page at a time. Raises what the store's listings raise."""
    calls = store.list_calls(bucket, prefix)
    while page := list(islice(calls, PAGE)):
        expected: dict[str, ListedCall] = {}
        for call in page:
            options = options_of(call.source)
            if options is None:
                continue
            try:
                key = report_key(
                    call.source, options, etag=call.etag, model_hash=model_hash, prefix=settings.results_prefix
                )
            except ValueError as error:
                log.warning("call_not_reconciled", uri=call.source.uri, error=str(error))
            else:
                expected[key] = call
        there = present(store, sorted(expected))
        yield [Compared(call=call, report_key=key, reported=key in there) for key, call in expected.items()]


def present(store: ObjectStore, wanted: Sequence[str], *, page: int = PAGE) -> set[str]:
    """Those of the report keys, which are sorted, that are there. `page` is what a request lists."""
    there: set[str] = set()
    groups = [list(wanted)] if wanted else []
    while groups:
        group = groups.pop()
        prefix = _common_beginning(group[0], group[-1])  # of a sorted list: of all
        missing, most = set(group), page * (3 if len(group) >= MANY else 1)
        for count, key in enumerate(store.list_report_keys(prefix)):
            if count >= most:
                groups.extend(_divide([key for key in group if key in missing], at=len(prefix)))
                break
            if key in missing:
                missing.remove(key)
                there.add(key)
                if not missing:
                    break
    return there


def _divide(wanted: Sequence[str], *, at: int) -> Iterator[list[str]]:
    """By their character at this place. A key that ends there is a group of its own."""
    for _, part in groupby(wanted, lambda key: key[at : at + 1]):
        yield list(part)


def _common_beginning(one: str, other: str) -> str:
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:place]
    return min(one, other, key=len)
