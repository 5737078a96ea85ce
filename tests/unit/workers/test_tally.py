"""What children tell their parent, over a real pipe from real forks."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from workers.line_pipe import PIPE_BUF, LinePipe
from workers.metrics import WorkerMetrics
from workers.tally import AttemptSeen, StoreSeen, Tally

CHILDREN, TOLD = 4, 300


def attempt(**fields: object) -> AttemptSeen:
    return AttemptSeen.model_validate({"lane": "live", "outcome": "succeeded", "seconds": 1.0} | fields)


def tell_much(tally: Tally) -> None:
    for number in range(TOLD):
        tally.tell_attempt(attempt(seconds=number, stage_seconds={"fetch": 0.1, "score": 0.2}))


def test_nothing_is_lost_of_what_children_tell_side_by_side() -> None:
    # Given children that tell as fast as they can
    tally = Tally()
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=tell_much, args=(tally,)) for _ in range(CHILDREN)]
    for child in children:
        child.start()
    # When the parent reads now and then
    seen, dropped = [], 0
    while any(child.is_alive() for child in children):
        more, missed = tally.read()
        seen, dropped = seen + more, dropped + missed
        time.sleep(0.001)
    more, missed = tally.read()
    # Then it has all of it, each whole
    assert dropped + missed == 0
    seconds = sorted(one.seconds for one in (*seen, *more) if isinstance(one, AttemptSeen))
    assert seconds == sorted(list(range(TOLD)) * CHILDREN)


def test_a_child_does_not_wait_for_a_parent_that_does_not_read() -> None:
    # Given a parent that never reads
    tally = Tally()
    began = time.monotonic()
    for _ in range(20_000):
        tally.tell_request("GetObject", "ok", 0.01)
    assert time.monotonic() - began < 20  # a full pipe would hold it for ever
    # When it reads after all
    seen, dropped = tally.read()
    # Then there is room again, and the next one says how many there was none for
    assert dropped == 0
    assert 0 < len(seen) < 20_000
    tally.tell_request("GetObject", "ok", 0.01)
    (last,), dropped = tally.read()
    assert last == StoreSeen(operation="GetObject", outcome="ok", seconds=0.01)
    assert len(seen) + dropped == 20_000
    tally.tell_request("GetObject", "ok", 0.01)
    assert tally.read()[1] == 0  # said once


def test_the_parent_counts_what_found_no_room() -> None:
    tally = Tally()
    metrics = WorkerMetrics(tally)
    for _ in range(20_000):
        tally.tell_request("GetObject", "throttled", 0.01)
    metrics.turn()
    tally.tell_request("GetObject", "throttled", 0.01)
    metrics.turn()
    page = metrics.page().decode()
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    counted = float(lines['warmline_s3_requests_total{operation="GetObject",outcome="throttled"}'])
    assert counted + float(lines["warmline_observations_dropped_total"]) == 20_001


def test_the_first_failure_of_each_kind_is_a_step_up_from_0() -> None:
    # Given a worker that has done nothing; then it tells of each way in which a job can fail
    tally = Tally()
    metrics = WorkerMetrics(tally)
    begun = jobs_counted(metrics)
    assert set(begun.values()) == {0.0}
    for code, outcome in (
        ("not_audio", "failed"), ("internal_error", "failed"), ("store_unavailable", "retried"),
        ("store_unavailable", "dead"), ("ledger_too_new", "retried"),  # of a kind of its own below another
    ):  # fmt: skip
        for lane in ("live", "bulk"):
            assert (lane, outcome, code) in begun
    # And of no way that there is not: what may pass is no failure, and what cannot be mended is not tried again
    assert ("live", "failed", "store_unavailable") not in begun
    assert ("live", "retried", "not_audio") not in begun
    # And when it fails, then no series is new
    tally.tell_attempt(attempt(outcome="failed", code="not_audio"))
    after = jobs_counted(metrics)
    assert after.keys() == begun.keys()
    assert after[attempt().lane, "failed", "not_audio"] == 1.0
    assert len(begun) < 200


def jobs_counted(metrics: WorkerMetrics) -> dict[tuple[str, str, str], float]:
    """(lane, outcome, code) -> how many attempts."""
    families = text_string_to_metric_families(metrics.page().decode())
    (jobs,) = [family for family in families if family.name == "warmline_jobs"]
    return {
        (sample.labels["lane"], sample.labels["outcome"], sample.labels["code"]): sample.value
        for sample in jobs.samples
        if sample.name == "warmline_jobs_total"
    }


def test_a_line_that_a_dying_child_left_half_written_spoils_no_other() -> None:
    tally = Tally()
    os.write(tally._pipe.write_fileno(), b'{"attempt":{"lane":"li\n')
    tally.tell_attempt(attempt())
    seen, _ = tally.read()
    assert seen == [attempt()]


def test_a_line_that_could_be_torn_is_refused() -> None:
    pipe = LinePipe.open()
    with pytest.raises(ValueError, match="PIPE_BUF"):
        pipe.write(b"x" * PIPE_BUF)


def test_an_event_loop_that_is_stuck_shows_in_the_metrics() -> None:
    metrics = WorkerMetrics(Tally())
    time.sleep(0.2)
    stuck = metrics.turn_age_seconds()
    assert stuck >= 0.2
    assert b"warmline_worker_last_turn_seconds 0." in metrics.page()
    metrics.turn()
    assert metrics.turn_age_seconds() < stuck
