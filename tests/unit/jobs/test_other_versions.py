"""A ledger that other versions of Warmline have written, and go on writing, beside this one.

`tests/data/ledger-0.1.json` is what 0.1.0 left in a Redis (without times of expiry). The newer version is made of
it: every record has fields there that this version does not know.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.settings import Settings
from tests.unit.jobs.conftest import NewJob, claim, take_messages
from warmline.jobs import keys
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.feeder import Feeder
from warmline.jobs.ledger import Ledger
from warmline.jobs.queue import QUEUES
from warmline.jobs.reconcile_ledger import ReconcileLedger
from warmline.jobs.records import BatchItem, Job, JobStatus, Options, ReportLocation, Source, WorkerState
from workers.messages import parse_job

RECORDED = json.loads((Path(__file__).parents[2] / "data" / "ledger-0.1.json").read_text())
NAMES: dict[str, str] = RECORDED["names"]
FUTURE = {"from_the_future": {"deep": [1]}}
FREE = {"metadata", "scores", "change", "stage_seconds"}  # their names are others' own

Change = Callable[[str], str]


def load(raw: Any, change: Change = lambda text: text) -> None:
    """Puts the recorded keys into a Redis, each value changed."""
    for key, entry in RECORDED["keys"].items():
        kind, value = entry["type"], entry["value"]
        if kind == "string":
            raw.set(key, change(value))
        elif kind == "hash":
            raw.hset(key, mapping={name: change(text) for name, text in value.items()})
        elif kind == "list":
            raw.rpush(key, *map(change, value))
        elif kind == "zset":
            raw.zadd(key, dict(value))
        else:
            for place, row in value:
                raw.xadd(key, {name: change(text) for name, text in row.items()}, id=place)


def with_new_fields(text: str) -> str:
    """As a newer version would write it: every object has one field more, those in lines, calls, messages too."""
    if text.startswith("i{"):  # a packed call
        return f"i{with_new_fields(text[1:])}"
    if text.startswith('{"number"'):  # attempts, a line each
        return "".join(f"{with_new_fields_in(line)}\n" for line in text.splitlines())
    if text.startswith('{"body"'):
        envelope = json.loads(text)
        args, *rest = json.loads(base64.b64decode(envelope["body"]))
        envelope["body"] = base64.b64encode(json.dumps([[grown(args[0])], *rest]).encode()).decode()
        return json.dumps(envelope)
    return with_new_fields_in(text) if text.startswith("{") else text


def with_new_fields_in(text: str) -> str:
    return json.dumps(grown(json.loads(text)))


def grown(value: Any) -> Any:
    if isinstance(value, list):
        return [grown(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: below if name in FREE else grown(below) for name, below in value.items()} | FUTURE


def drop_new_fields(job: Job) -> Job:
    return Job.model_validate_json(job.model_dump_json(), extra="ignore")


@pytest.fixture(params=["older", "newer"])
def written_by(request: pytest.FixtureRequest, raw: Any) -> str:
    """The ledger as that version has written it."""
    load(raw, with_new_fields if request.param == "newer" else lambda text: text)
    if request.param == "newer":
        raw.hset(keys.job(NAMES["running"]), "unknown_to_us", "1")
        raw.set(f"{keys.PREFIX}unknown-to-us", "1")
    return str(request.param)


def test_every_job_is_understood(written_by: str, ledger: Ledger) -> None:
    states = {name: ledger.get(NAMES[name]) for name in ("waiting", *map(str, JobStatus)) if name in NAMES}
    assert {name: state.status.value for name, state in states.items()} == {"waiting": "queued"} | {
        name: name for name in ("running", "succeeded", "failed", "cancelled", "dead")
    }
    waiting = drop_new_fields(states["waiting"].job)
    assert waiting.source == Source(bucket="calls", key="2026/a call.wav", version_id="v1")
    assert waiting.options.granularity == "frame"
    assert waiting.options.hop_seconds == 0.5
    assert waiting.metadata == {"call_id": "4711"}
    progress, failure, report = (
        states["running"].progress, states["failed"].failure, states["succeeded"].report
    )  # fmt: skip
    assert progress is not None
    assert (progress.windows_done, progress.windows_total) == (3, 10)
    assert failure is not None
    assert failure.code == "not_audio"
    assert report is not None
    assert report.bucket == "reports"
    assert [attempt.outcome for attempt in states["dead"].attempts] == ["retried", "retried", "dead"]


def test_listings_batches_workers_and_the_rest_are_understood(
    written_by: str, ledger: Ledger, settings: Settings
) -> None:
    assert len(ledger.list()) == 12
    batch = ledger.batch(NAMES["batch"])
    assert (batch.total, batch.queued, batch.finished) == (4, 4, False)
    assert ledger.batch(NAMES["cancelled_batch"]).cancelled == 1
    own = next(state.job for state in ledger.list(batch_id=NAMES["batch"]) if state.job.source.version_id)
    assert own.options.granularity == "utterance"
    assert own.metadata == {"of": "all", "a": "b"}
    (worker,) = ledger.workers()
    assert (worker.name, len(worker.warm), worker.version) == ("worker-7@host", 1, "")
    reconciliation = ReconcileLedger.connect(settings.redis, settings.jobs).reconciliation(NAMES["reconciliation"])
    assert reconciliation.wanted.prefix == "2026/"
    deliveries = DeliveryLedger.connect(settings.redis, settings.jobs)
    assert deliveries.get(NAMES["delivery"]).tries[0].status_code == 503
    (endpoint,) = deliveries.endpoints().values()
    assert endpoint.pending == 1
    (ended,) = deliveries.ended_jobs([NAMES["succeeded"]])
    assert ended.job is not None


def test_its_jobs_go_on_to_their_end(written_by: str, ledger: Ledger, feeder: Feeder, raw: Any) -> None:
    """What another version has entered, sent and claimed, this one claims, cancels, replays and finishes."""
    ledger.cancel(NAMES["waiting"])
    assert ledger.lost_holder("worker-7@host/9") == NAMES["running"]
    ledger.replay(NAMES["dead"])
    # What was fed before this version came is in the queues
    fed = set(take_messages(raw, QUEUES["live"]) + take_messages(raw, QUEUES["bulk"]))
    while feeder.step():
        pass
    fed |= set(take_messages(raw, QUEUES["live"]) + take_messages(raw, "warmline.retry"))
    assert {NAMES["dead"], NAMES["running"]} <= fed
    for job_id in fed - {NAMES["waiting"]}:
        attempt = claim(ledger, job_id).attempt
        assert ledger.succeed(job_id, attempt, ReportLocation(in_redis=True), "{}")
    assert ledger.batch(NAMES["batch"]).succeeded == 4
    assert ledger.list(status=JobStatus.QUEUED) == ()


def test_what_a_newer_version_asked_comes_to_it_as_it_was(
    ledger: Ledger, feeder: Feeder, new_job: NewJob, raw: Any
) -> None:
    """This version hands a newer one's job and batch on: nothing that it does not know is lost on the way."""
    asked = json.loads(new_job(options=Options(granularity="frame")).model_dump_json())
    job = Job.read(json.dumps(grown(asked)))
    ledger.create(job)
    template = Job.read(json.dumps(grown(asked | {"id": NAMES["batch"], "batch_id": NAMES["batch"]})))
    item = BatchItem.read(json.dumps({"source": {"bucket": "calls", "key": "x.wav", "zone": "b"}}))
    ledger.create_batch(template, [item, BatchItem(source=Source(bucket="calls", key="y.wav"))])
    feeder.step()
    messages = raw.lrange(f"{keys.BROKER}{QUEUES['live']}", 0, -1)
    sent = [json.loads(base64.b64decode(json.loads(text)["body"]))[0][0] for text in messages]
    assert len(sent) == 3
    for each in sent:
        assert each["options"]["from_the_future"] == FUTURE["from_the_future"]
        assert each["from_the_future"] == FUTURE["from_the_future"]
    assert {each["source"].get("zone") for each in sent} == {None, "b"}
    assert ledger.get(job.id).job == job


def test_a_job_that_only_a_newer_version_can_do_is_left_to_it(
    new_job: NewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.messages.LEFT_SECONDS", 0.0)
    wire = json.loads(new_job().model_dump_json())
    for changed, unknown in (
        ({"options": wire["options"] | {"translate": True}}, "options.translate"),
        ({"source": wire["source"] | {"region": "eu"}}, "source.region"),
        (
            {"options": wire["options"] | {"exclude": [{"start_seconds": 1, "end_seconds": 2, "role": "agent"}]}},
            "options.exclude.role",
        ),
    ):
        with capture_logs() as lines:
            assert parse_job((wire | changed,), {}) is None
        assert lines[0]["event"] == "job_left_to_newer_worker"
        assert unknown in lines[0]["unknown"]
    # What a newer version knows of the job besides decides nothing here
    job = parse_job((wire | {"trace": "00-ab"},), {})
    assert job is not None
    assert job.unknown_fields() == ("trace",)


def test_what_this_version_writes_an_older_one_reads(new_job: NewJob, ledger: Ledger, raw: Any) -> None:
    """0.1 refuses a job with a field that it does not know: so a new one is written only where it is used."""
    job = new_job()
    ledger.create(job)
    theirs = json.loads(RECORDED["keys"][keys.job(NAMES["succeeded"])]["value"]["job"])
    ours = json.loads(raw.hget(keys.job(job.id), "job"))
    assert ours.keys() == theirs.keys()
    assert ours["source"].keys() == theirs["source"].keys()
    assert ours["options"].keys() == theirs["options"].keys()


def test_a_heartbeat_of_0_1_says_nothing_of_what_came_later() -> None:
    text = RECORDED["keys"][keys.worker("worker-7@host")]["value"]
    state = WorkerState.read(text)
    assert (state.version, state.busy, state.draining, state.started_at) == ("", 0, False, None)
