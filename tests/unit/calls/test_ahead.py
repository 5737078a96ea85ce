"""What runs ahead of its reader: in order, bounded, and gone when the reader is."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import structlog

from tests.servers import wait_until
from warmline.calls.ahead import Ahead

LIMIT = 4


class Counted:
    """Numbers, and how many of them have been asked for."""

    def __init__(self, count: int, *, error_at: int | None = None) -> None:
        self.count, self.error_at, self.asked = count, error_at, 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            if number == self.error_at:
                raise ValueError(f"no {number}")
            self.asked += 1
            yield number


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize("most", [1, 3, 100])
def test_every_item_comes_once_and_in_order(most: int) -> None:
    with Ahead(iter(Counted(50)), limit=LIMIT) as ahead:
        batches = list(iter(lambda: ahead.take(most), []))
        assert ahead.take(most) == []
    assert [item for batch in batches for item in batch] == list(range(50))
    assert max(map(len, batches)) <= min(most, LIMIT)
    assert no_thread_is_left()


def test_it_runs_ahead_by_the_limit_and_no_further() -> None:
    # Given a reader that takes nothing
    items = Counted(1000)
    with Ahead(iter(items), limit=LIMIT) as ahead:
        # Then so many are made, and one that waits for room
        wait_until(lambda: items.asked == LIMIT + 1, "it ran ahead")
        assert not wait_a_moment_for(lambda: items.asked > LIMIT + 1)
        # When two are taken, then two more are made
        assert ahead.take(2) == [0, 1]
        wait_until(lambda: items.asked == LIMIT + 3, "it went on")
    # And the thread ends with the block, though the items have not
    assert no_thread_is_left()
    assert items.asked <= LIMIT + 3


def wait_a_moment_for(condition: object) -> bool:
    threading.Event().wait(0.05)
    return bool(condition()) if callable(condition) else False


def test_an_error_comes_after_the_items_before_it() -> None:
    with Ahead(iter(Counted(10, error_at=3)), limit=LIMIT) as ahead:
        taken = [ahead.take(1) for _ in range(3)]
        with pytest.raises(ValueError, match="no 3"):
            ahead.take(1)
    assert taken == [[0], [1], [2]]


def test_a_reader_that_fails_ends_the_thread() -> None:
    def read_and_fail() -> None:
        with Ahead(iter(Counted(1000)), limit=LIMIT) as ahead:
            ahead.take(1)
            raise RuntimeError("the engine is gone")

    with pytest.raises(RuntimeError, match="the engine"):
        read_and_fail()
    assert no_thread_is_left()


def test_it_logs_in_the_context_of_its_reader() -> None:
    def contexts() -> Iterator[dict[str, object]]:
        yield structlog.contextvars.get_contextvars()

    with structlog.contextvars.bound_contextvars(job_id="7"), Ahead(contexts(), limit=1) as ahead:
        assert ahead.take(1) == [{"job_id": "7"}]
