"""Pictures over HTTP: a job's timeline and a batch's overview. The workers' part is played through the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.routers.pictures import DrawingBusy, in_turn
from tests.made_reports import made_side, make_report
from tests.pictures_read import parsed, shapes, words
from warmline.calls.report import Report
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Failure, ReportLocation
from warmline.objects.store import ObjectStore
from warmline.pictures.batch_overview import batch_overview_svg

SVG = "image/svg+xml"
EVIL = '2026/<script>alert("1")</script>&]]>\'" onload=x.wav'


def report(key: str = "2026/05/call-001.wav", **more: Any) -> Report:
    """Ten seconds: the agent is neutral, then the customer is angry."""
    return make_report(
        made_side("agent", windows=[(0, 4000, {"neutral": 0.8, "sad": 0.1})]),
        made_side("customer", windows=[(5000, 9000, {"angry": 0.7})]),
        duration_ms=10_000,
        key=key,
        **more,
    )


def finish(ledger: Ledger, job_id: str, text: str | None, location: ReportLocation | None = None) -> None:
    """A worker's part: the job is claimed and has succeeded."""
    ledger.claim(ledger.get(job_id).job, "w")
    assert ledger.succeed(job_id, 1, location or ReportLocation(in_redis=True), text)


def submit_job(client: httpx.Client) -> str:
    answer = client.post("/v1/jobs", json={"source": {"bucket": "calls", "key": "a.wav"}})
    return str(answer.json()["id"])


@pytest.fixture
def submit_batch(client: httpx.Client) -> Callable[[int], tuple[str, list[str]]]:
    """Submits a batch of so many calls; returns its id and its jobs'."""

    def submit(calls: int) -> tuple[str, list[str]]:
        keys = [f"{n}.wav" for n in range(calls)]
        batch_id = client.post("/v1/batches", json={"bucket": "calls", "keys": keys}).json()["id"]
        rows = client.get(f"/v1/batches/{batch_id}/jobs").json()["jobs"]
        return batch_id, [row["id"] for row in reversed(rows)]

    return submit


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_finished_job_has_a_picture(client: httpx.Client, ledger: Ledger) -> None:
    job_id = submit_job(client)
    finish(ledger, job_id, report().model_dump_json())

    answer = client.get(f"/v1/jobs/{job_id}/timeline.svg")

    assert answer.headers["content-type"] == SVG
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "script" not in answer.headers["content-security-policy"]
    said = words(answer.text)
    assert {"call-001.wav", "agent", "customer", "neutral 0.80", "angry 0.70", "score of angry"} <= set(said)


def test_a_picture_that_the_client_has_is_not_sent_again(client: httpx.Client, ledger: Ledger) -> None:
    # Given a picture
    job_id = submit_job(client)
    finish(ledger, job_id, report().model_dump_json())
    address = f"/v1/jobs/{job_id}/timeline.svg"
    tag = client.get(address).headers["etag"]

    # Then it is sent to nobody who has it
    for known in (tag, f'"other", W/{tag}', "*"):
        again = client.get(address, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    # and to whoever has another one
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get(address, params={"emotion": "sad"}, headers={"If-None-Match": tag}).status_code == 200


def test_another_emotion_is_drawn_where_it_is_asked_for(client: httpx.Client, ledger: Ledger) -> None:
    job_id = submit_job(client)
    finish(ledger, job_id, report().model_dump_json())
    address = f"/v1/jobs/{job_id}/timeline.svg"
    assert "score of sad" in words(client.get(address, params={"emotion": "sad"}).text)
    assert refused(client.get(address, params={"emotion": "jolly"})) == (422, "invalid_request")
    assert refused(client.get(address, params={"emotion": "x" * 65})) == (422, "invalid_request")


def test_a_report_that_is_in_the_store_only_is_drawn(
    client: httpx.Client, ledger: Ledger, store: ObjectStore
) -> None:
    job_id = submit_job(client)
    key = f"calls/{job_id}@x.json"
    store.put_report(key, report("from-s3.wav").model_dump_json().encode())
    finish(ledger, job_id, None, ReportLocation(bucket="reports", key=key))
    assert "from-s3.wav" in words(client.get(f"/v1/jobs/{job_id}/timeline.svg").text)


def test_what_a_key_holds_stays_text(client: httpx.Client, ledger: Ledger) -> None:
    job_id = submit_job(client)
    finish(ledger, job_id, report(EVIL).model_dump_json())
    picture = client.get(f"/v1/jobs/{job_id}/timeline.svg").text
    assert {element.tag.rpartition("}")[2] for element in parsed(picture).iter()} <= shapes()
    assert "onload=x.wav" in picture  # as words
    assert not any("onload" in element.attrib for element in parsed(picture).iter())


def test_there_is_no_picture_without_a_report(client: httpx.Client, stranger: httpx.Client) -> None:
    job_id = submit_job(client)
    assert refused(client.get(f"/v1/jobs/{job_id}/timeline.svg")) == (409, "report_not_ready")
    assert refused(client.get(f"/v1/jobs/{'0' * 32}/timeline.svg")) == (404, "job_not_found")
    assert refused(client.get("/v1/jobs/x/timeline.svg")) == (422, "invalid_request")
    assert refused(stranger.get(f"/v1/jobs/{job_id}/timeline.svg")) == (401, "unauthorized")


def test_a_report_of_another_version_is_a_problem_and_no_crash(client: httpx.Client, ledger: Ledger) -> None:
    job_id = submit_job(client)
    finish(ledger, job_id, '{"version": "99"}')
    answer = client.get(f"/v1/jobs/{job_id}/timeline.svg")
    assert refused(answer) == (500, "internal_error")
    assert "another version" in answer.json()["detail"].lower()


# Batches


def test_a_batch_has_an_overview(
    client: httpx.Client,
    ledger: Ledger,
    store: ObjectStore,
    submit_batch: Callable[[int], tuple[str, list[str]]],
) -> None:
    # Given a batch: a report in Redis, one in S3, one that is gone, a failure, and a job that waits
    batch_id, jobs = submit_batch(5)
    finish(ledger, jobs[0], report("in-redis.wav").model_dump_json())
    key = f"calls/{jobs[1]}@x.json"
    store.put_report(key, report("in-s3.wav").model_dump_json().encode())
    finish(ledger, jobs[1], None, ReportLocation(bucket="reports", key=key))
    finish(ledger, jobs[2], None, ReportLocation(bucket="reports", key="calls/gone@x.json"))
    ledger.claim(ledger.get(jobs[3]).job, "w")
    ledger.fail(jobs[3], 1, Failure(code="not_audio", message="y"))

    # Then its picture shows what there is and says what there is not
    answer = client.get(f"/v1/batches/{batch_id}/overview.svg")
    assert answer.headers["content-type"] == SVG
    said = words(answer.text)
    assert f"Batch {batch_id}" in said
    assert "5 jobs: 3 succeeded, 1 failed, 1 not ended yet." in said
    assert "1 report that expired or cannot be read." in said
    assert {"2026/05/call-001.wav", "in-redis.wav", "in-s3.wav"} & set(said) == {"in-redis.wav", "in-s3.wav"}
    assert "highest angry" in said

    # and it is sent once
    tag = answer.headers["etag"]
    assert client.get(f"/v1/batches/{batch_id}/overview.svg", headers={"If-None-Match": tag}).status_code == 304
    sad = client.get(f"/v1/batches/{batch_id}/overview.svg", params={"emotion": "sad"})
    assert "highest sad" in words(sad.text)
    jolly = client.get(f"/v1/batches/{batch_id}/overview.svg", params={"emotion": "jolly"})
    assert refused(jolly) == (422, "invalid_request")


def test_an_overview_shows_what_rules_left_in_the_store(
    client: httpx.Client,
    ledger: Ledger,
    store: ObjectStore,
    submit_batch: Callable[[int], tuple[str, list[str]]],
) -> None:
    # Given a report that was rewritten in S3 after Redis got it
    batch_id, jobs = submit_batch(1)
    key = f"calls/{jobs[0]}@x.json"
    store.put_report(key, report("anew.wav").model_dump_json().encode())
    where = ReportLocation(in_redis=True, bucket="reports", key=key)
    finish(ledger, jobs[0], report("old.wav").model_dump_json(), where)
    # Then S3 has the say
    said = words(client.get(f"/v1/batches/{batch_id}/overview.svg").text)
    assert "anew.wav" in said
    assert "old.wav" not in said


def test_an_overview_ends_when_its_time_is_over(
    ledger: Ledger, store: ObjectStore, submit_batch: Callable[[int], tuple[str, list[str]]]
) -> None:
    batch_id, jobs = submit_batch(4)
    for job_id in jobs:
        finish(ledger, job_id, report(f"{job_id}.wav").model_dump_json())
    said = words(batch_overview_svg(ledger, store, batch_id, seconds=0))
    assert "Of these 1 could be read in the time that a picture may take." in said
    assert "1 call, 10 s of audio" in said


def test_few_pictures_are_drawn_at_once() -> None:
    drawing = threading.Semaphore(1)
    with in_turn(drawing), pytest.raises(DrawingBusy), in_turn(drawing, wait_seconds=0.01):
        pass
    # and one that failed leaves its place to the next
    with pytest.raises(ValueError, match="no"), in_turn(drawing):
        raise ValueError("no")
    with in_turn(drawing, wait_seconds=0.01):
        pass


def test_a_batch_without_reports_has_an_overview_that_says_so(
    client: httpx.Client, submit_batch: Callable[[int], tuple[str, list[str]]]
) -> None:
    batch_id, _ = submit_batch(2)
    said = words(client.get(f"/v1/batches/{batch_id}/overview.svg").text)
    assert {"no reports", "2 jobs: 2 not ended yet."} <= set(said)


def test_what_is_no_batch_has_none(client: httpx.Client, stranger: httpx.Client) -> None:
    address = f"/v1/batches/{'0' * 32}/overview.svg"
    assert refused(client.get(address)) == (404, "batch_not_found")
    assert refused(stranger.get(address)) == (401, "unauthorized")
