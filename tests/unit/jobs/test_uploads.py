"""Uploads in a real Redis: one job for each, the order of a key's events, a pace that holds back and lets go."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.settings import Settings
from tests.servers import wait_until
from tests.unit.jobs.conftest import claim, take_messages, worker
from warmline.jobs import keys
from warmline.jobs.errors import NotAudio, ObjectForbidden, ObjectNotFound, ObjectTooLarge
from warmline.jobs.feeder import Feeder
from warmline.jobs.queue import QUEUES
from warmline.jobs.records import Failure, Job, JobState, JobStatus, Source
from warmline.jobs.submission import submit_job
from warmline.jobs.upload_ledger import BURST_MS, Entry, UploadJob, UploadLedger, upload_job_id

ENTERED, HELD, KNOWN, OLDER, FULL = Entry
CALL = Source(bucket="calls", key="2026/a call.wav")

NewUpload = Callable[..., UploadJob]


@pytest.fixture
def ledger(settings: Settings) -> Iterator[UploadLedger]:
    with closing(UploadLedger.connect(settings.redis, settings.jobs)) as ledger:
        yield ledger


def upload(
    etag: str = "a", sequencer: str | None = None, *, source: Source = CALL, lane: str = "bulk", **fields: Any
) -> UploadJob:
    job = Job.model_validate(
        {
            "id": upload_job_id(source.bucket, source.key, etag),
            "source": source,
            "lane": lane,
            "created_at": datetime.now(UTC),
        }
    )
    return UploadJob(job=job, sequencer=sequencer, **({"rule": "r"} | fields))


def enter(ledger: UploadLedger, *uploads: UploadJob) -> list[Entry]:
    return ledger.enter_uploads(uploads, remember_seconds=60)


def end(ledger: UploadLedger, asked: UploadJob, code: str) -> None:
    state = claim(ledger, asked.job)
    assert ledger.fail(asked.job.id, state.attempt, Failure(code=code, message="It failed."))


def test_an_upload_has_one_job_however_often_it_is_told_of(ledger: UploadLedger, raw: Any) -> None:
    assert enter(ledger, upload(), upload(), upload("b")) == [ENTERED, KNOWN, ENTERED]
    assert enter(ledger, upload()) == [KNOWN]
    assert raw.llen(keys.singles("bulk")) == 2
    # Nor when it runs, nor when it has ended
    state = claim(ledger, upload().job)
    assert enter(ledger, upload()) == [KNOWN]
    ledger.cancelled(state.job.id, state.attempt)
    assert enter(ledger, upload()) == [KNOWN]


def test_many_that_bring_the_same_upload_at_once_make_one_job(settings: Settings, raw: Any) -> None:
    def bring(_: int) -> list[Entry]:
        with closing(UploadLedger.connect(settings.redis, settings.jobs)) as ledger:
            return enter(ledger, *(upload(f"{n}") for n in range(20)))

    with ThreadPoolExecutor(8) as pool:
        entries = Counter(entry for found in pool.map(bring, range(8)) for entry in found)
    assert entries == {ENTERED: 20, KNOWN: 140}
    assert raw.llen(keys.singles("bulk")) == 20


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["05", "06"], [ENTERED, ENTERED]),
        (["06", "05"], [ENTERED, OLDER]),
        (["0F", "0F01"], [ENTERED, ENTERED]),  # of unlike length
        (["0F", "0010"], [ENTERED, OLDER]),
        (["0010", "9"], [ENTERED, ENTERED]),
        (["9", "0010"], [ENTERED, OLDER]),
        (["9", "90"], [ENTERED, ENTERED]),  # as good as the same
        (["0a", "0B"], [ENTERED, ENTERED]),  # of unlike case
        (["0B", "0a"], [ENTERED, OLDER]),
    ],
)  # fmt: skip
def test_an_older_upload_of_a_key_is_dropped(
    ledger: UploadLedger, order: list[str], expected: list[Entry]
) -> None:
    assert enter(ledger, *(upload(f"etag {text}", text) for text in order)) == expected


def test_order_counts_within_one_key_only(ledger: UploadLedger) -> None:
    other = Source(bucket="calls", key="another.wav")
    elsewhere = Source(bucket="recordings", key=CALL.key)
    assert enter(ledger, upload("a", "9"), upload("a", "5", source=other), upload("a", "4", source=elsewhere)) == [
        ENTERED, ENTERED, ENTERED,
    ]  # fmt: skip


def test_a_rewrite_of_known_content_still_makes_what_came_between_older(ledger: UploadLedger) -> None:
    # A, then B, then A again; the event of B comes last
    assert enter(ledger, upload("a", "1"), upload("a", "3"), upload("b", "2")) == [ENTERED, KNOWN, OLDER]


def test_what_was_seen_of_a_key_is_forgotten_in_time(ledger: UploadLedger, raw: Any) -> None:
    enter(ledger, upload("a", "9"))
    (name,) = raw.keys(f"{keys.LATEST}*")
    assert 0 < raw.ttl(name) <= 60


def test_past_the_backlog_an_upload_is_refused_and_can_be_brought_again(settings: Settings, raw: Any) -> None:
    jobs = settings.jobs.model_copy(update={"max_backlog": 2})
    with closing(UploadLedger.connect(settings.redis, jobs)) as ledger:
        paced = [
            upload(f"{n}", "5", jobs_per_minute=60, source=Source(bucket="calls", key=f"{n}")) for n in range(4)
        ]
        # What is held back waits, too
        assert enter(ledger, *paced[:3]) == [ENTERED, ENTERED, FULL]
        assert not raw.exists(keys.job(paced[2].job.id))
        assert enter(ledger, paced[1]) == [KNOWN]
        ledger.cancel(paced[0].job.id)
        assert enter(ledger, paced[2], paced[3]) == [HELD, FULL]
        ledger.cancel(paced[2].job.id)
        assert enter(ledger, paced[3]) == [HELD]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (ObjectNotFound.code, ENTERED),
        (ObjectForbidden.code, ENTERED),
        (NotAudio.code, KNOWN),
        (ObjectTooLarge.code, KNOWN),
    ],
)
def test_content_that_is_uploaded_once_more_runs_again_where_that_can_mend_it(
    ledger: UploadLedger, code: str, outcome: Entry
) -> None:
    # Given a call that was gone before it could be fetched
    enter(ledger, upload("a", "1"))
    end(ledger, upload("a", "1"), code)
    # Then the same event is the same upload, and a later one is another
    assert enter(ledger, upload("a", "1"), upload("a", "2")) == [KNOWN, outcome]
    state = ledger.get(upload("a").job.id)
    assert state.status is (JobStatus.QUEUED if outcome is ENTERED else JobStatus.FAILED)
    counts = Counter(found.status for found in ledger.list())
    assert sum(counts.values()) == 1


def test_without_a_sequencer_the_time_of_writing_tells_whether_it_was_uploaded_once_more(
    ledger: UploadLedger,
) -> None:
    enter(ledger, upload())
    end(ledger, upload(), ObjectNotFound.code)
    now = datetime.now(UTC)
    assert enter(ledger, upload(), upload(written_at=now - timedelta(seconds=5))) == [KNOWN, KNOWN]
    assert enter(ledger, upload(written_at=now + timedelta(seconds=1))) == [ENTERED]


def test_a_dead_letter_runs_again_when_its_call_is_uploaded_once_more(ledger: UploadLedger, raw: Any) -> None:
    enter(ledger, upload("a", "1"))
    for _ in range(3):
        state = claim(ledger, upload("a").job)
        ledger.retry(state.job.id, state.attempt, Failure(code="x", message="y"), delay_seconds=0)
    assert ledger.get(state.job.id).status is JobStatus.DEAD
    assert enter(ledger, upload("a", "1"), upload("a", "2")) == [KNOWN, ENTERED]
    renewed: JobState = ledger.get(state.job.id)
    assert (renewed.status, renewed.attempts, renewed.failure) == (JobStatus.QUEUED, (), None)
    assert (raw.zcard(keys.jobs("dead")), raw.zcard(keys.jobs("queued"))) == (0, 1)


def test_a_pace_holds_back_what_comes_too_fast(ledger: UploadLedger, raw: Any) -> None:
    # Given ten uploads at once under a rule of two jobs a second, with what a second's burst allows
    before_ms = time.time() * 1000
    entries = enter(ledger, *(upload(f"{n}", jobs_per_minute=120) for n in range(10)))
    assert entries == [ENTERED] * 3 + [HELD] * 7
    # Then the rest is due half a second after one another, and says so
    due = [score for _, score in raw.zrange(keys.HELD, 0, -1, withscores=True)]
    assert [round(b - a) for a, b in itertools.pairwise(due)] == pytest.approx([500] * 6, abs=1)
    assert 1499 <= due[0] - before_ms < 5000
    last = ledger.get(upload("9").job.id)
    assert last.status is JobStatus.QUEUED
    assert last.retry_at is not None
    assert last.retry_at.timestamp() * 1000 == pytest.approx(due[-1], abs=1)


def test_each_rule_has_its_own_pace_and_others_have_none(ledger: UploadLedger) -> None:
    enter(ledger, *(upload(f"{n}", jobs_per_minute=60) for n in range(5)))
    assert enter(ledger, upload("x", rule="other", jobs_per_minute=60)) == [ENTERED]
    assert enter(ledger, upload("y", rule="live")) == [ENTERED]


def test_a_pace_of_many_a_minute_is_kept_exactly(ledger: UploadLedger, raw: Any) -> None:
    enter(ledger, *(upload(f"{n}", jobs_per_minute=7000) for n in range(200)))
    due = [score for _, score in raw.zrange(keys.HELD, 0, -1, withscores=True)]
    assert (due[-1] - due[0]) / (len(due) - 1) == pytest.approx(60_000 / 7000, rel=0.02)


def test_a_pace_that_nobody_needs_any_more_is_forgotten(ledger: UploadLedger, raw: Any) -> None:
    enter(ledger, upload(jobs_per_minute=600))
    assert 0 < raw.pttl(f"{keys.PACE}r") <= 100 + BURST_MS


def test_what_is_due_gets_into_its_lane_and_out_to_a_worker(
    ledger: UploadLedger, settings: Settings, raw: Any
) -> None:
    # Given a feeder that runs, and a warm worker with room for all
    ledger.beat(worker("w", 10), ttl_seconds=30)
    feeder = Feeder(settings)
    feeder.start()
    try:
        started = time.monotonic()
        uploads = [upload(f"{n}", jobs_per_minute=600, lane="live" if n % 2 else "bulk") for n in range(15)]
        assert enter(ledger, *uploads).count(HELD) <= 4  # fewer where they come slowly
        sent: Counter[str] = Counter()

        def all_are_sent() -> bool:
            for lane, queue in QUEUES.items():
                sent[lane] += len(raw.rpop(f"{keys.BROKER}{queue}", 100) or ())
            return sent.total() == 15

        wait_until(all_are_sent, "all are sent")
    finally:
        feeder.stop()
    # Then each went to its own lane, in the time that the pace gives, and nobody waits any more
    assert sent == {"bulk": 8, "live": 7}
    assert time.monotonic() - started >= 1.3
    last = ledger.get(uploads[-1].job.id)
    assert last.retry_at is None
    assert (last.queued_at - last.job.created_at).total_seconds() > 1  # it waits since it was due, not before
    assert raw.zcard(keys.HELD) == 0


def test_live_jobs_and_batches_pass_what_is_held_back(ledger: UploadLedger, settings: Settings, raw: Any) -> None:
    ledger.beat(worker("w", 2), ttl_seconds=30)
    enter(ledger, *(upload(f"{n}", jobs_per_minute=1) for n in range(100)))
    alone = submit_job(ledger, CALL, lane="bulk")
    feeder = Feeder(settings)
    feeder.step()
    feeder.stop()
    assert take_messages(raw, QUEUES["bulk"]) == [upload("0").job.id, alone.job.id]


def test_what_is_held_back_can_be_cancelled(ledger: UploadLedger, raw: Any) -> None:
    uploads = [upload(f"{n}", jobs_per_minute=60) for n in range(4)]
    assert enter(ledger, *uploads)[-1] is HELD
    assert ledger.cancel(uploads[-1].job.id).status is JobStatus.CANCELLED
    assert uploads[-1].job.id not in str(raw.zrange(keys.HELD, 0, -1))
    assert raw.hget(keys.WAITING, "bulk") == "2"  # the others' counter is as it was
