"""Times as S3 writes them, read quickly: botocore's own way takes five sixths of the time that a listing takes."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.session import Session
from botocore.utils import parse_timestamp


def read_timestamps_quickly(session: Session) -> None:
    """Has the clients of this session do so."""
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=timestamp)


def timestamp(value: Any) -> datetime:
    """2026-11-22T23:11:11.000Z, as listings have it, or `Sun, 22 Nov 2026 23:11:11 GMT`, as headers do.

    botocore reads whatever else there is.
    """
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(AttributeError, TypeError, ValueError):  # a number is none of both
            quick = read(value)
            if quick.tzinfo:
                return quick
    return parse_timestamp(value)
