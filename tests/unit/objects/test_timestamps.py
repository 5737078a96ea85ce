"""S3's times, read quickly, are what botocore reads."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import Session
from botocore.utils import parse_timestamp

from warmline.objects.timestamps import read_timestamps_quickly


class Remembers:
    """In place of the factory of a session's parsers: keeps what it is told."""

    def set_parser_defaults(self, **defaults: Any) -> None:
        self.defaults = defaults


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T23:11:11.000Z",
        "2026-11-22T23:11:11Z",
        "2026-11-22T23:11:11.123+02:00",
        "Sun, 22 Nov 2026 23:11:11 GMT",
        "2026-11-22T23:11:11",
        "1763853071",
    ],
)
def test_a_time_is_read_as_botocore_reads_it(text: str) -> None:
    session, factory = Session(), Remembers()
    session.register_component("response_parser_factory", factory)
    read_timestamps_quickly(session)
    assert factory.defaults["timestamp_parser"](text) == parse_timestamp(text)
