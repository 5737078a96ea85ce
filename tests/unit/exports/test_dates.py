"""Which day a call is of."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from tests.unit.exports.conftest import call
from warmline.exports.dates import day_of, find_date
from warmline.jobs.errors import InvalidRequest

MAY = date(2026, 5, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-05-01", MAY),
        ("inbound/2026/05/01/call-7.wav", MAY),
        ("year=2026/month=05/day=01/call.wav", MAY),
        ("20260501T101500Z", MAY),
        ("rec_20260501101500.wav", MAY),
        ("20260501_0815_4711.wav", MAY),
        ("2026-05-01T23:30:00-07:00", MAY),  # as its writer meant it
        ("2026-02-30/2026-05-01.wav", MAY),
        ("call-12026050112.wav", None),
        ("2026/05/call-001.wav", None),
        ("20260501123.wav", None),
        ("2026-05/01", None),
        ("", None),
    ],
)
def test_the_first_date_in_a_text(text: str, found: date | None) -> None:
    assert find_date(text) == found


def test_where_the_day_is_looked_for() -> None:
    late = datetime(2026, 7, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    report = call(0, analysed_at=late, metadata={"began": "2026-05-09 18:00"})

    assert day_of("analysed_at")(report) == date(2026, 7, 2) == late.astimezone(UTC).date()
    assert day_of("key")(report) == MAY
    assert day_of("metadata:began")(report) == date(2026, 5, 9)
    assert day_of("metadata:ended")(report) is None
    for bad in ("", "yesterday", "metadata:"):
        with pytest.raises(InvalidRequest):
            day_of(bad)
