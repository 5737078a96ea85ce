"""What a worker's parent sees of how it gets on, from Celery's own books."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery.worker import state as celery_state

from config.settings import WorkerSettings
from tests.servers import wait_until
from workers.pulse import Pulse, Sign
from workers.vitals import Vitals

STALLED_SECONDS = 0.1
ROUNDED_SECONDS = 0.001
WARM = [os.getpid(), 1]  # two children


class Request:
    """As much of Celery's request as counts."""

    worker_pid: int | None = None  # of the child that has accepted it

    def __init__(self, queue: str) -> None:
        self.id, self.name = queue, "task"
        self.delivery_info = {"routing_key": queue}


@pytest.fixture(autouse=True)
def books() -> Iterator[None]:
    """Celery's books of this process, empty."""
    celery_state.reset_state()
    yield
    celery_state.reset_state()


@pytest.fixture
def pulse() -> Pulse:
    return Pulse()


@pytest.fixture
def vitals(pulse: Pulse) -> Vitals:
    return Vitals(pulse, WorkerSettings(stalled_seconds=STALLED_SECONDS))


def test_who_has_room_and_gets_nothing_is_hungry(vitals: Vitals) -> None:
    # Given a worker that has just become warm
    began = time.monotonic()
    assert not vitals.look(WARM, planned=1)
    first = vitals.hungry_seconds()
    assert set(first) == {"live", "bulk"}
    assert max(first.values()) < time.monotonic() - began + ROUNDED_SECONDS
    # When nothing comes, then its hunger grows, and is told once when it has become too long
    time.sleep(STALLED_SECONDS)
    assert vitals.look(WARM, planned=1)
    assert not vitals.look(WARM, planned=1)
    assert min(vitals.hungry_seconds().values()) >= STALLED_SECONDS
    # When a job of one lane comes, then that hunger is over, and that is told, too
    vitals.on_message(Request("warmline.live"))
    assert set(vitals.hungry_seconds()) == {"bulk"}
    assert (vitals.taken, vitals.last_taken_at is not None) == (1, True)
    vitals.on_message(Request("warmline.bulk"))
    assert vitals.hungry_seconds() == {}
    # And that for jobs that are tried again is its own
    assert (vitals.hungry_for_retries_seconds() or 0.0) >= STALLED_SECONDS
    vitals.look(WARM, planned=1)
    vitals.on_message(Request("warmline.retry"))
    assert vitals.hungry_for_retries_seconds() is None
    assert set(vitals.hungry_seconds()) == {"live", "bulk"}


def test_hunger_for_jobs_that_are_tried_again_alone_is_told(vitals: Vitals) -> None:
    vitals.look(WARM, planned=1)
    deadline = time.monotonic() + STALLED_SECONDS
    while time.monotonic() < deadline:
        vitals.on_message(Request("warmline.live"))
        vitals.on_message(Request("warmline.bulk"))
        time.sleep(STALLED_SECONDS / 5)
    vitals.on_message(Request("warmline.live"))
    vitals.on_message(Request("warmline.bulk"))
    assert vitals.look(WARM, planned=1)


def test_who_has_no_room_is_not_hungry(vitals: Vitals) -> None:
    # Given a bulk job in the only child for such jobs: there is room for live ones alone
    bulk, live = Request("warmline.bulk"), Request("warmline.live")
    celery_state.task_reserved(bulk)
    vitals.look(WARM, planned=1)
    assert set(vitals.hungry_seconds()) == {"live"}
    assert vitals.hungry_for_retries_seconds() is None
    # When a live job takes the other child, then there is room for none
    celery_state.task_reserved(live)
    vitals.look(WARM, planned=1)
    assert (vitals.hungry_seconds(), vitals.busy) == ({}, 2)
    # And when a child has died, one job fewer is too many
    celery_state.task_ready(live)
    vitals.look(WARM[:1], planned=1)
    assert vitals.hungry_seconds() == {}
    vitals.look([], planned=1)
    assert vitals.hungry_seconds() == {}


def test_a_worker_that_serves_one_lane_hungers_for_that_alone(pulse: Pulse) -> None:
    vitals = Vitals(pulse, WorkerSettings(lanes=("bulk",)))
    vitals.look(WARM, planned=2)
    assert set(vitals.hungry_seconds()) == {"bulk"}
    assert vitals.hungry_for_retries_seconds() is not None  # every worker does these


def test_what_could_not_be_taken_is_forgiven(pulse: Pulse) -> None:
    vitals = Vitals(pulse, WorkerSettings(), pause_seconds=STALLED_SECONDS / 2)
    vitals.look(WARM, planned=1)
    time.sleep(STALLED_SECONDS)
    # Redis was away
    vitals.forgive()
    assert vitals.hungry_seconds() == {}
    # The event loop did not turn for longer than it ever should
    vitals.look(WARM, planned=1)
    time.sleep(STALLED_SECONDS)
    began = time.monotonic()
    vitals.look(WARM, planned=1)
    assert max(vitals.hungry_seconds().values()) < time.monotonic() - began + ROUNDED_SECONDS


def nobody_is_stuck(vitals: Vitals, sign: Sign) -> bool:
    sign.come_on()
    vitals.look(WARM, planned=1)
    return vitals.stuck == 0


def test_a_child_that_does_not_come_on_is_stuck(vitals: Vitals, pulse: Pulse) -> None:
    sign = pulse.of_child(0)
    with sign:
        assert not vitals.look(WARM, planned=1)
        time.sleep(STALLED_SECONDS)
        assert vitals.look(WARM, planned=1)
        assert vitals.stuck == 1
        # When it does, or is replaced by another one, then nobody is
        vitals.look([1], planned=1)
        assert vitals.stuck == 0
        wait_until(lambda: nobody_is_stuck(vitals, sign), "it comes on")


def test_a_job_that_no_child_begins_with_is_stuck(vitals: Vitals, pulse: Pulse) -> None:
    # Given a message that was given to a child which was stopped before
    request: Any = Request("warmline.live")
    celery_state.task_reserved(request)
    vitals.look(WARM, planned=1)
    time.sleep(STALLED_SECONDS)
    vitals.look(WARM, planned=1)
    assert vitals.stuck == 1
    # Or stopped when it had just accepted it
    request.worker_pid = os.getpid()
    celery_state.task_accepted(request)
    vitals.look(WARM, planned=1)
    assert vitals.stuck == 1
    # When it begins after all, then it is not, however long it takes
    sign = pulse.of_child(0)
    with sign:
        vitals.look(WARM, planned=1)
        time.sleep(STALLED_SECONDS)
        wait_until(lambda: nobody_is_stuck(vitals, sign), "it comes on")
    # Nor when it has just ended, and the parent does not know it yet
    vitals.look(WARM, planned=1)
    assert vitals.stuck == 0
    # And a job that has ended is nobody's
    celery_state.task_ready(request)
    time.sleep(STALLED_SECONDS)
    vitals.look(WARM, planned=1)
    assert vitals.stuck == 0
