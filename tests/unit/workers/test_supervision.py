"""When the parent gives up on its children."""

from __future__ import annotations

import os
import time

import pytest

from config.settings import WorkerSettings
from tests.unit.workers.test_announcements import child_state
from warmline.jobs.conditions import DEATHS_WINDOW_SECONDS
from workers.announcements import Announcements
from workers.supervision import MAX_COLD_DEATHS, REPLACEMENT_LOADS, Children


@pytest.fixture
def announcements() -> Announcements:
    return Announcements()


@pytest.fixture
def children(announcements: Announcements) -> Children:
    return Children(announcements, replacement_timeout_seconds=60)


def fork(children: Children, alive: list[int], pid: int) -> None:
    """What happens when a child is made: the parent looks, counts, and has one more."""
    children.look(alive)
    children.count_fork()
    alive.append(pid)


def test_a_child_is_warm_from_its_word_to_its_death(announcements: Announcements, children: Children) -> None:
    alive: list[int] = []
    fork(children, alive, 1)
    assert not children.look(alive)
    announcements.tell_warm(child_state(1))
    assert children.look(alive)
    assert [child.pid for child in children.warm] == [1]
    assert not children.look(alive)
    alive.remove(1)
    assert children.look(alive)
    assert children.warm == ()
    assert children.failure is None


def test_one_that_says_why_it_cannot_is_enough(announcements: Announcements, children: Children) -> None:
    alive: list[int] = []
    fork(children, alive, 1)
    announcements.tell_failed("no such model")
    announcements.tell_failed("and nothing else")
    children.look(alive)
    assert children.failure == f"child {os.getpid()} cannot get warm: no such model"


def test_silent_deaths_in_a_row_are_enough(children: Children) -> None:
    alive: list[int] = []
    for pid in range(MAX_COLD_DEATHS):
        fork(children, alive, pid)
        assert children.failure is None
        alive.clear()
    children.look(alive)
    assert children.failure is not None
    assert "memory" in children.failure


def test_deaths_of_warm_children_do_not_count(announcements: Announcements, children: Children) -> None:
    # Given eight children, warm, that are all killed at once, again and again
    alive: list[int] = []
    for generation in range(3):
        for number in range(8):
            fork(children, alive, 100 * generation + number)
            announcements.tell_warm(child_state(100 * generation + number))
        children.look(alive)
        assert len(children.warm) == 8
        alive.clear()
    children.look(alive)
    # Then there is no reason to give up
    assert children.failure is None


def test_a_child_that_gets_warm_excuses_the_deaths_before(
    announcements: Announcements, children: Children
) -> None:
    alive: list[int] = []
    for pid in range(0, 12, 3):
        fork(children, alive, pid)
        alive.clear()
        fork(children, alive, pid + 1)
        alive.clear()
        fork(children, alive, pid + 2)
        announcements.tell_warm(child_state(pid + 2))
        children.look(alive)
        assert children.failure is None
        alive.clear()


def test_a_child_that_was_warm_for_a_moment_was_warm(announcements: Announcements, children: Children) -> None:
    # Given children that die right after they got warm, before the parent looks
    alive: list[int] = []
    for pid in range(10):
        fork(children, alive, pid)
        announcements.tell_warm(child_state(pid))
        alive.clear()
    children.look(alive)
    assert children.failure is None


def test_a_child_that_lost_its_host_is_not_warm_until_it_says_so_again(
    announcements: Announcements, children: Children
) -> None:
    # Given a warm child
    alive: list[int] = []
    fork(children, alive, os.getpid())
    announcements.tell_warm(child_state(os.getpid()))
    children.look(alive)
    # When the host of its model dies
    announcements.tell_host_lost()
    # Then it is not warm, but may have a job
    assert children.look(alive)
    assert children.warm == ()
    assert children.may_have_job(os.getpid())
    # When it has joined the next one, then it is
    announcements.tell_warm(child_state(os.getpid()))
    assert children.look(alive)
    assert len(children.warm) == 1
    assert children.failure is None


def test_deaths_of_children_that_wait_for_a_host_do_not_count(
    announcements: Announcements, children: Children
) -> None:
    # Given children that were warm, whose host dies, and then they themselves
    alive: list[int] = []
    for _ in range(2 * MAX_COLD_DEATHS):
        fork(children, alive, os.getpid())
        announcements.tell_warm(child_state(os.getpid()))
        announcements.tell_host_lost()
        children.look(alive)
        alive.clear()
    children.look(alive)
    # Then there is no reason to give up
    assert children.failure is None
    assert not children.may_have_job(os.getpid())


def test_what_a_host_says(announcements: Announcements, children: Children) -> None:
    announcements.tell_host_warm()
    children.look([])
    assert children.warm_hosts.keys() == {os.getpid()}
    announcements.tell_failed("no such model", who="engine host")
    children.look([])
    assert children.failure == f"engine host {os.getpid()} cannot get warm: no such model"


def test_a_replacement_that_hangs_is_no_use(announcements: Announcements) -> None:
    # Given a warm child, and one that replaces another and says nothing
    children = Children(announcements, replacement_timeout_seconds=1.0)
    alive: list[int] = []
    fork(children, alive, 1)
    announcements.tell_warm(child_state(1).model_copy(update={"load_seconds": 0.01}))
    fork(children, alive, 2)
    children.look(alive)
    children.give_up_on_cold()
    assert not children.failure
    # When it has had as long as a child may take
    time.sleep(1.05)
    children.look(alive)
    children.give_up_on_cold()
    # Then there is no use in waiting for it
    assert children.failure is not None
    assert "not warm after" in children.failure


def test_replacements_that_are_killed_slowly_are_given_as_long_as_one(announcements: Announcements) -> None:
    # Given children that each live half as long as they may take to get warm, and are killed
    children = Children(announcements, replacement_timeout_seconds=0.4)
    alive: list[int] = []
    for pid in (1, 2):
        fork(children, alive, pid)
        children.look(alive)
        time.sleep(0.25)
        alive.clear()
        children.look(alive)
    children.give_up_on_cold()
    # Then the second is one too many, though three deaths in a row are not reached
    assert children.failure is not None
    assert "not warm after" in children.failure


def test_children_that_get_warm_in_time_are_waited_for(announcements: Announcements) -> None:
    # Given a child that was killed while it loaded, and one that gets warm after it
    children = Children(announcements, replacement_timeout_seconds=1.0)
    alive: list[int] = []
    fork(children, alive, 1)
    children.look(alive)
    alive.clear()
    fork(children, alive, 2)
    announcements.tell_warm(child_state(2))
    time.sleep(1.05)
    children.look(alive)
    children.give_up_on_cold()
    # Then all is well, and the next replacement has its own time
    fork(children, alive, 3)
    children.look(alive)
    children.give_up_on_cold()
    assert children.failure is None


def test_a_large_model_is_given_longer_than_a_small_one(announcements: Announcements) -> None:
    limit = WorkerSettings().replacement_timeout_seconds
    assert limit < 90
    children = Children(announcements, replacement_timeout_seconds=limit)
    announcements.tell_warm(child_state(1))
    children.look([1])
    assert children.replacement_seconds == limit
    announcements.tell_warm(child_state(2).model_copy(update={"load_seconds": 60.0}))
    children.look([1, 2])
    assert children.replacement_seconds == 60.0 * REPLACEMENT_LOADS


def test_the_dead_are_asked_for_once(announcements: Announcements, children: Children) -> None:
    # Given a child that was warm and one that was not, both dead
    alive: list[int] = []
    fork(children, alive, 1)
    announcements.tell_warm(child_state(1))
    fork(children, alive, 2)
    children.look(alive)
    children.look([])
    # Then only the first can have held a job
    assert children.take_dead() == [1]
    assert children.take_dead() == []


def test_deaths_are_counted_for_five_minutes(announcements: Announcements, children: Children) -> None:
    # Given two planned children, of which one was warm
    alive: list[int] = []
    fork(children, alive, 1)
    fork(children, alive, 2)
    children.plan(2)
    announcements.tell_warm(child_state(1))
    children.look(alive)
    assert (children.recent_deaths, children.respawns) == (0, 0)
    # When both die, and one is replaced
    alive.clear()
    children.look(alive)
    fork(children, alive, 3)
    children.look(alive)
    assert (children.recent_deaths, children.respawns) == (2, 1)
    # And when an engine host died with them, and the worker before this one, and others long ago
    children.note_deaths(1)
    assert (children.recent_deaths, children.inherited_deaths) == (3, 0)
    children.inherit_deaths(1, seconds_ago=DEATHS_WINDOW_SECONDS - 60)
    children.inherit_deaths(5, seconds_ago=DEATHS_WINDOW_SECONDS)
    assert (children.recent_deaths, children.inherited_deaths) == (3, 1)
    # Then those of the worker's own end do not count
    children.expect_deaths()
    children.look([])
    assert children.recent_deaths == 3
