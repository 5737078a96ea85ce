"""S3's times, read quickly, are what botocore reads."""

from __future__ import annotations

import pytest
from botocore.utils import parse_timestamp

from warmline.objects.timestamps import timestamp


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T23:11:11.000Z",
        "2026-11-22T23:11:11Z",
        "2026-11-22T23:11:11.123+02:00",
        "Sun, 22 Nov 2026 23:11:11 GMT",
        "2026-11-22T23:11:11",
        "1763853071",
        1763853071,
        "Sunday, 22-Nov-26 23:11:11 GMT",
    ],
)
def test_a_time_is_read_as_botocore_reads_it(text: str | int) -> None:
    assert timestamp(text) == parse_timestamp(text)
