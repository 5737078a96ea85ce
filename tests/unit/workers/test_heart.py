"""What a worker says of itself, whose place it takes, and what its own pages answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psutil
import pytest
from pydantic import SecretStr

from config.settings import JobsSettings, RedisSettings, WorkerSettings
from tests.servers import wait_until
from tests.unit.jobs.conftest import worker as worker_state
from tests.unit.workers.test_announcements import child_state
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import WorkerState
from workers.announcements import Announcements
from workers.heart import Heart
from workers.liveness import STUCK_SECONDS, Liveness
from workers.pulse import Pulse
from workers.supervision import Children
from workers.vitals import Vitals

NOWHERE = "redis://127.0.0.1:1/0"
SETTINGS = WorkerSettings(missing_seconds=60)


@dataclass
class Body:
    """A heart, and what it belongs to."""

    heart: Heart
    children: Children
    announcements: Announcements
    celery: SimpleNamespace  # as much of Celery's worker as counts
    liveness: Liveness
    turn_age_seconds: float = 0.0

    def warm_up(self) -> None:
        self.children.count_fork()
        self.announcements.tell_warm(child_state(1))
        self.children.look([1])

    def says(self, page: str) -> tuple[int, str]:
        answer = self.liveness.pages()[page]()
        return int(answer.status), json.loads(answer.body)["status"]


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with closing(Ledger.connect(RedisSettings(url=SecretStr(redis_url)), JobsSettings())) as ledger:
        yield ledger


def make(ledger: Ledger, *, name: str = "own@here", beat_seconds: float = 5.0) -> Body:
    announcements = Announcements()
    children = Children(announcements, replacement_timeout_seconds=60)
    heart = Heart(ledger, children, Vitals(Pulse(), SETTINGS), SETTINGS)
    celery = SimpleNamespace(hostname=name, concurrency=1)
    body: Body
    liveness = Liveness(heart, children, lambda: body.turn_age_seconds, beat_seconds=beat_seconds)
    body = Body(heart, children, announcements, celery, liveness)
    return body


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def state_of(name: str, pid: int, host: str = "", **fields: object) -> WorkerState:
    fields = {"pid": pid, "host": host or socket.gethostname(), **fields}
    return worker_state(name, 1).model_copy(update=fields)


def test_a_beat_says_how_the_worker_is(ledger: Ledger) -> None:
    body = make(ledger)
    body.warm_up()
    body.heart.vitals.took("warmline.live")
    body.heart.beat(body.celery)
    (state,) = ledger.workers()
    assert (state.pid, state.taken, state.draining, len(state.warm)) == (os.getpid(), 1, False, 1)
    assert state.version
    assert state.started_at is not None
    assert state.last_taken_at is not None
    body.heart.draining = True
    body.heart.beat(body.celery)
    (state,) = ledger.workers()
    assert (state.draining, state.warm) == (True, ())
    # One that was told to end is forgotten
    body.heart.stop(body.celery, failure=None)
    assert ledger.everyone() == ((), ())


def test_one_that_gave_up_is_remembered_with_its_reason(ledger: Ledger) -> None:
    body = make(ledger)
    body.warm_up()
    body.heart.beat(body.celery)
    body.heart.stop(body.celery, failure="no such model")
    (silent,) = ledger.silent()
    assert (silent.worker.ended_because, silent.worker.warm) == ("no such model", ())


def test_a_worker_takes_the_place_of_those_that_died_on_its_host(ledger: Ledger) -> None:
    # Given workers that fell silent: two dead ones here, one here that is frozen, and one of another host
    crashed = state_of("crashed@here", dead_pid(), recent_deaths=1)
    others = [state_of("frozen@here", os.getppid()), state_of("other@there", dead_pid(), host="there")]
    for state in (crashed, *others):
        ledger.beat(state, ttl_seconds=0.001, remembered_seconds=60)
    wait_until(lambda: len(ledger.silent()) == 3, "they are missing")
    # And one that was killed a moment ago, so that it counts as alive
    ledger.beat(state_of("killed@here", dead_pid()), ttl_seconds=60, remembered_seconds=60)
    # When a worker is started here
    body = make(ledger)
    body.heart.beat(body.celery)
    # Then the dead ones are neither missing nor alive, not for a moment, and their ends count
    alive, silent = ledger.everyone()
    assert [each.name for each in alive] == ["own@here"]
    assert {each.worker.name for each in silent} == {"frozen@here", "other@there"}
    body.heart.beat(body.celery)
    (own,) = ledger.workers()
    assert own.recent_deaths == 1 + 1 + 1


def test_nobody_takes_the_place_of_a_neighbour(ledger: Ledger) -> None:
    # Given a worker that was alive when this one began, and died after that
    body = make(ledger)
    later = datetime.now(UTC) + timedelta(seconds=1)
    ledger.beat(state_of("beside@here", dead_pid(), seen_at=later), ttl_seconds=0.001, remembered_seconds=60)
    wait_until(lambda: len(ledger.silent()) == 1, "it is missing")
    # When this one's heart goes on
    body.heart.beat(body.celery)
    # Then it is missing still
    assert [each.worker.name for each in ledger.silent()] == ["beside@here"]


def test_one_that_ended_and_that_nobody_asked_for_is_dead(ledger: Ledger) -> None:
    # Given a zombie, as there are in a container whose first process asks for none
    process = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, "it has ended")
    ledger.beat(state_of("crashed@here", process.pid), ttl_seconds=0.001, remembered_seconds=60)
    wait_until(lambda: len(ledger.silent()) == 1, "it is missing")
    # When a worker is started in its place
    body = make(ledger)
    body.heart.beat(body.celery)
    # Then it is missing no more
    assert ledger.silent() == ()
    process.wait()


def test_a_container_that_is_started_again_and_again_is_seen_to_loop(ledger: Ledger) -> None:
    # Given a worker that dies each time soon after its start; host, pid and so its name are always the same
    for deaths in range(4):
        body = make(ledger, name="worker-1@container")
        body.heart.beat(body.celery)
        (state,) = ledger.workers()
        assert state.recent_deaths == deaths


def test_it_is_alive_while_its_event_loop_turns(ledger: Ledger) -> None:
    body = make(ledger)
    body.heart.beat(body.celery)
    assert body.says("/live") == (200, "alive")
    body.turn_age_seconds = STUCK_SECONDS - 1
    assert body.says("/live") == (200, "alive")
    body.turn_age_seconds = STUCK_SECONDS
    assert body.says("/live") == (503, "stuck")
    body.heart.draining = True  # the event loop has ended
    assert body.says("/live") == (200, "draining")


def test_it_is_alive_while_it_waits_for_redis(redis_url: str) -> None:
    # Given a worker whose event loop waits for a Redis that is away
    with closing(Ledger.connect(RedisSettings(url=SecretStr(NOWHERE)), JobsSettings())) as nowhere:
        body = make(nowhere, beat_seconds=0.1)  # stuck after 1.2 s
        body.turn_age_seconds = 3600
        assert body.says("/live") == (200, "alive")
    # When Redis is back, then it has as long as ever to turn again
    with closing(Ledger.connect(RedisSettings(url=SecretStr(redis_url)), JobsSettings())) as back:
        body.heart.ledger = back
        assert body.says("/live") == (200, "alive")
        wait_until(lambda: body.says("/live") == (503, "stuck"), "it does not turn")


def test_a_worker_whose_children_all_die_is_not_alive(ledger: Ledger) -> None:
    body = make(ledger)
    body.warm_up()
    body.children.note_deaths(3)
    assert body.says("/live") == (200, "alive")  # somebody works
    body.children.look([])
    assert body.says("/live") == (503, "looping")


def test_a_worker_is_not_ended_over_the_deaths_of_those_before_it(ledger: Ledger) -> None:
    body = make(ledger)
    body.children.inherit_deaths(9, seconds_ago=1)
    assert body.says("/live") == (200, "alive")  # it loads, and may do better


def test_it_is_ready_when_it_takes_jobs(ledger: Ledger) -> None:
    body = make(ledger)
    body.heart.beat(body.celery)
    assert body.says("/ready") == (503, "loading")
    body.warm_up()
    assert body.says("/ready") == (200, "ready")
    body.heart.draining = True
    assert body.says("/ready") == (503, "draining")


def test_it_is_not_ready_while_redis_is_away() -> None:
    with closing(Ledger.connect(RedisSettings(url=SecretStr(NOWHERE)), JobsSettings())) as nowhere:
        body = make(nowhere)
        body.warm_up()
        body.heart.vitals.look([1], planned=1)
        assert body.heart.vitals.hungry_seconds()
        body.heart.beat(body.celery)
        assert body.says("/ready") == (503, "redis")
        # And what it could not take meanwhile is not held against it
        assert body.heart.vitals.hungry_seconds() == {}
