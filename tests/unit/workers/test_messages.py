"""What is a job, and what is dropped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from warmline.jobs.records import Job, Source
from workers.messages import parse_job

JOB = Job(id="0" * 32, source=Source(bucket="calls", key="a.wav"), created_at=datetime(2026, 1, 1, tzinfo=UTC))
WIRE = JOB.model_dump(mode="json")


def test_a_job_is_read_as_it_was_sent() -> None:
    assert parse_job((WIRE,), {}) == JOB


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((WIRE, WIRE), {}),
        ((WIRE,), {"more": 1}),
        ((None,), {}),
        (("text",), {}),
        ((WIRE | {"id": "short"},), {}),
        ((WIRE | {"source": {"bucket": "calls", "key": ""}},), {}),
        ((WIRE | {"created_at": "yesterday"},), {}),
    ],
)
def test_anything_else_is_dropped_with_a_line_that_shows_no_content(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with capture_logs() as lines:
        assert parse_job(args, kwargs) is None
    (line,) = lines
    assert line["event"] == "bad_message_dropped"
    assert line["problems"]
    assert "a.wav" not in str(line)
