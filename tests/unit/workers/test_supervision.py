"""When the parent gives up on its children."""

from __future__ import annotations

import os

import pytest

from tests.unit.workers.test_announcements import child_state
from workers.announcements import Announcements
from workers.supervision import MAX_COLD_DEATHS, Children


@pytest.fixture
def announcements() -> Announcements:
    return Announcements()


@pytest.fixture
def children(announcements: Announcements) -> Children:
    return Children(announcements)


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
