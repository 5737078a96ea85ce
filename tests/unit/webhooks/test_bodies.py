"""What is told of a job and of a batch."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.made_reports import made_side, make_report
from warmline.jobs.deliveries import EndedJob, Ending
from warmline.jobs.records import Job, ReportLocation, Source
from warmline.webhooks.events import Summary, event_of
from warmline.webhooks.intake import MAX_REPORT_BYTES, MOST_BYTES, _lots

JOB = Job(
    id="a" * 32,
    source=Source(bucket="calls", key="2026/Grüße.wav"),
    metadata={"agent": "7"},
    lane="bulk",
    batch_id="b" * 32,
    created_at=datetime(2026, 11, 23, 5, 0, tzinfo=UTC),
)


def ending(event: str, more: str = "", subject_id: str = "a" * 32) -> Ending:
    return Ending(place="1795413600123-4", event=event, subject_id=subject_id, more=more)


def test_a_job_that_succeeded_with_its_report_in_a_few_lines() -> None:
    report = make_report(
        made_side("agent", windows=[(0, 4000, {"neutral": 0.8})]),
        made_side("customer", windows=[(5000, 9000, {"angry": 0.7})]),
        duration_ms=10_000,
    )
    location = ReportLocation(in_redis=True, bucket="reports", key="x.json")
    ended = EndedJob(job=JOB, report=location)
    event = json.loads(
        event_of(ending("job.succeeded"), ended, Summary.of(report.model_dump_json())).model_dump_json()
    )
    assert (event["type"], event["timestamp"]) == ("job.succeeded", "2026-11-23T06:00:00.123000Z")
    data = event["data"]
    assert (data["job_id"], data["batch_id"], data["status"], data["lane"]) == (
        "a" * 32, "b" * 32, "succeeded", "bulk",
    )  # fmt: skip
    assert data["source"] == {"bucket": "calls", "key": "2026/Grüße.wav", "version_id": None}
    assert (data["metadata"], data["failure"]) == ({"agent": "7"}, None)
    assert data["report"] == {"uri": "s3://reports/x.json", "path": f"/v1/jobs/{'a' * 32}/report"}
    summary = data["summary"]
    assert [(c["role"], c["emotion"]) for c in summary["channels"]] == [
        ("agent", "neutral"),
        ("customer", "angry"),
    ]
    assert summary["channels"][1]["confidence"] == pytest.approx(0.7)
    assert summary["duration_seconds"] == 10
    assert summary["categories"] == []
    assert "windows" not in json.dumps(event)


def test_a_job_that_failed_says_why() -> None:
    failure = {"code": "not_audio", "message": "The content is not audio."}
    ended = EndedJob(job=JOB, report=None)
    data = json.loads(event_of(ending("job.failed", json.dumps(failure)), ended, None).model_dump_json())["data"]
    assert (data["status"], data["failure"], data["report"]) == ("failed", failure, None)


def test_a_job_that_was_forgotten_meanwhile_is_told_by_its_id() -> None:
    forgotten = EndedJob(job=None, report=None)
    data = json.loads(event_of(ending("job.dead"), forgotten, None).model_dump_json())["data"]
    assert (data["job_id"], data["status"], data["source"], data["metadata"]) == ("a" * 32, "dead", None, None)


def test_a_batch_in_figures() -> None:
    event = event_of(ending("batch.finished", "10 5 2 2 1", "b" * 32), None, None)
    data = json.loads(event.model_dump_json())["data"]
    counts = {name: data[name] for name in ("total", "succeeded", "failed", "cancelled", "dead")}
    assert counts == {"total": 10, "succeeded": 5, "failed": 2, "cancelled": 2, "dead": 1}
    assert data["batch_id"] == "b" * 32


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"channels": 3}', "null", '{"provenance": []}', "\ud800"])
def test_what_is_no_report_has_no_summary(text: str) -> None:
    assert Summary.of(text.encode(errors="replace")) is None


def test_long_reports_are_read_a_few_at_a_time() -> None:
    sizes = [MAX_REPORT_BYTES] * 9 + [10] * 90
    made = [(ending("job.succeeded", subject_id=str(n)), size) for n, size in enumerate(sizes)]
    lots = list(_lots(made))
    assert [each.subject_id for lot in lots for each in lot] == [str(n) for n in range(99)]
    assert [sum(sizes[int(each.subject_id)] for each in lot) <= MOST_BYTES for lot in lots] == [True] * 3
    assert list(_lots([])) == []


def test_an_ending_has_one_delivery_for_an_endpoint_and_one_id_for_all() -> None:
    first, other = ending("job.dead").delivery_id("0" * 8), ending("job.dead").delivery_id("1" * 8)
    assert first == ending("job.dead").delivery_id("0" * 8)
    assert (first[:24], first[24:]) == (other[:24], "0" * 8)
    later = Ending(place="1795413600123-5", event="job.dead", subject_id="a" * 32, more="")
    assert later.delivery_id("0" * 8)[:24] != first[:24]
