"""A batch summed up over HTTP, its reports in Redis and in S3. Workers are played through the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from api.routers.aggregates import AggregatesBusy, _alone, _in_time
from tests.made_reports import made_side, make_report
from warmline.calls.batch_reports import BatchShelf
from warmline.calls.report import Report
from warmline.calls.stored_reports import StoredReport, Unreadable, read_reports
from warmline.jobs import keys
from warmline.jobs.errors import BatchTooLarge, StoreUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, ReportLocation
from warmline.objects.store import ObjectStore

Succeed = Callable[..., ReportLocation]


def report_of(state: JobState, agent: str, emotion: str) -> Report:
    return make_report(
        made_side("agent", windows=[(0, 5000, {"neutral": 0.9})]),
        made_side("customer", windows=[(5000, 10_000, {emotion: 0.6})]),
        duration_ms=10_000,
        metadata={"agent": agent},
        job_id=state.job.id,
        batch_id=state.job.batch_id,
    )


@pytest.fixture
def batch(client: httpx.Client, ledger: Ledger) -> tuple[str, list[JobState]]:
    """A batch of four jobs."""
    jobs = [{"source": {"bucket": "calls", "key": f"call-{n}.wav"}} for n in range(4)]
    batch_id = client.post("/v1/batches", json={"jobs": jobs}).json()["id"]
    return batch_id, list(ledger.list(batch_id=batch_id))


@pytest.fixture
def succeed(ledger: Ledger, store: ObjectStore, s3_prefix: str) -> Succeed:
    """Ends a job with a report that is in Redis, in S3 or in both."""

    def end(state: JobState, report: Report, where: str) -> ReportLocation:
        claimed = ledger.claim(state.job, "w")
        assert isinstance(claimed, JobState)
        in_s3: dict[str, Any] = {}
        if where != "redis":
            in_s3 = {"bucket": "reports", "key": f"{s3_prefix}{state.job.id}@0.json"}
            store.put_report(in_s3["key"], report.model_dump_json().encode())
        location = ReportLocation(in_redis=where != "s3", **in_s3)
        text = report.model_dump_json() if location.in_redis else None
        assert ledger.succeed(state.job.id, claimed.attempt, location, text)
        return location

    return end


def test_a_batch_is_summed_up_wherever_its_reports_are(
    client: httpx.Client, batch: tuple[str, list[JobState]], succeed: Succeed
) -> None:
    batch_id, states = batch
    address = f"/v1/batches/{batch_id}/aggregate"
    assert client.get(address, params={"by": "agent"}).json() == {
        "by": ["agent"], "calls": 0, "groups": [], "unreadable": 0, "unreadable_places": [],
    }  # fmt: skip

    succeed(states[0], report_of(states[0], "ann", "angry"), "redis")
    succeed(states[1], report_of(states[1], "ann", "happy"), "s3")
    succeed(states[2], report_of(states[2], "bob", "happy"), "both")

    found = client.get(address, params={"by": "agent"}).json()
    assert found["calls"] == 3
    ann, bob = found["groups"]
    assert (ann["group"], ann["calls"], ann["talk_share"]) == ({"agent": "ann"}, 2, 1.0)
    assert ann["roles"][1]["scores"]["angry"] == pytest.approx((0.6 + 0.05) / 2)
    assert bob["roles"][1]["dominant"] == "happy"
    by_day = client.get(address, params={"by": "day,role", "date": "key"}).json()
    assert [group["group"]["day"] for group in by_day["groups"]] == [None, None]


def test_what_is_gone_is_told_of(
    client: httpx.Client,
    batch: tuple[str, list[JobState]],
    succeed: Succeed,
    redis_url_of_api: str,
) -> None:
    batch_id, states = batch
    for state in states[:2]:
        succeed(state, report_of(state, "ann", "angry"), "redis")
    with redis.Redis.from_url(redis_url_of_api) as connection:
        connection.delete(keys.report(states[0].job.id))

    found = client.get(f"/v1/batches/{batch_id}/aggregate", params={"by": "batch"}).json()
    assert (found["calls"], found["unreadable"]) == (1, 1)
    assert "expired in Redis" in found["unreadable_places"][0]


def test_what_cannot_be_summed_up_is_a_problem(
    client: httpx.Client,
    stranger: httpx.Client,
    batch: tuple[str, list[JobState]],
    redis_url_of_api: str,
) -> None:
    batch_id, _ = batch
    address = f"/v1/batches/{batch_id}/aggregate"

    def code(address: str, **params: str) -> tuple[int, str]:
        answer = client.get(address, params=params)
        return answer.status_code, answer.json()["code"]

    assert stranger.get(address, params={"by": "agent"}).status_code == 401
    assert code(f"/v1/batches/{'f' * 32}/aggregate", by="agent") == (404, "batch_not_found")
    assert code(address) == (422, "invalid_request")
    assert code(address, by="a,b,c,d,e") == (422, "invalid_request")
    assert code(address, by="x" * 301) == (422, "invalid_request")
    assert code(address, by="day", date="yesterday") == (422, "invalid_request")
    with redis.Redis.from_url(redis_url_of_api) as connection:
        connection.hset(keys.batch(batch_id), "succeeded", 5001)
    answer = client.get(address, params={"by": "agent"})
    assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")
    assert f"warmline aggregate --batch {batch_id}" in answer.json()["detail"]


def test_one_batch_is_summed_up_at_a_time() -> None:
    turn = threading.Lock()
    with _alone(turn), pytest.raises(AggregatesBusy), _alone(turn):
        pass
    with _alone(turn):
        pass


def test_summing_up_ends_in_time() -> None:
    gone = Unreadable(place="x", version="", reason="the store does not answer")
    read = StoredReport(place="x", version="", report=make_report(duration_ms=1000))
    assert list(_in_time([read, gone])) == [read, gone]
    with pytest.raises(BatchTooLarge, match="1 reports were read, and there are more"):
        list(_in_time([read, read], seconds=-1))
    with pytest.raises(StoreUnavailable):
        list(_in_time([gone, gone], seconds=-1))


def test_the_reports_of_a_batch_have_versions(
    ledger: Ledger, store: ObjectStore, batch: tuple[str, list[JobState]], succeed: Succeed, s3_prefix: str
) -> None:
    batch_id, states = batch
    places = ["redis", "s3", "both"]
    located = [succeed(s, report_of(s, "ann", "angry"), where) for s, where in zip(states, places, strict=False)]

    refs = list(BatchShelf(ledger, store, batch_id).refs())

    assert [ref.place for ref in refs] == [
        f"redis:{states[0].job.id}", *(location.uri for location in located[1:]),
    ]  # fmt: skip
    assert all(ref.version for ref in refs)
    # Rules that are applied anew change a report in S3, and its version.
    assert located[2].key is not None
    store._client().put_object(
        Bucket="reports",
        Key=located[2].key,
        Body=report_of(states[2], "ann", "surprised").model_dump_json().encode(),
    )
    again = list(BatchShelf(ledger, store, batch_id).refs())
    assert [a == b for a, b in zip(refs, again, strict=True)] == [True, True, False]
    found = list(read_reports(BatchShelf(ledger, store, batch_id, versions=False)))
    assert not any(isinstance(each, Unreadable) for each in found)
    assert isinstance(found[2], StoredReport)
    assert found[2].report.channels[1].summary.top == "surprised"
    # One that is gone from S3 and still in Redis is found there.
    store._client().delete_object(Bucket="reports", Key=located[2].key)
    assert list(BatchShelf(ledger, store, batch_id).refs())[2].place == f"redis:{states[2].job.id}"
