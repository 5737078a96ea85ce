"""What children tell their parent, through a real pipe and real forks."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from tests.unit.workers.conftest import Fork
from warmline.jobs.records import ChildState
from workers.announcements import Announcements, LoadFailed


def child_state(pid: int) -> ChildState:
    return ChildState(
        pid=pid, model="mini", mini=True, engine="torch", device="cpu", precision="fp32", threads=2,
        load_seconds=1.5, warm_since=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip


def test_children_are_heard_in_order_and_whole(fork: Fork) -> None:
    # Given children that have as much to say as fits, one after the other
    announcements = Announcements()
    assert announcements.read() == []

    def speak() -> None:
        announcements.tell_warm(child_state(os.getpid()))
        announcements.tell_failed("😀" * 1_000_000)

    pids = [fork(speak) for _ in range(10)]
    announcements.wait(60)
    # When the parent listens
    heard = announcements.read()
    # Then it hears each of them, and what is too long is cut
    assert [said.pid for said in heard] == [pid for pid in pids for _ in range(2)]
    assert [said for said in heard if isinstance(said, ChildState)] == [child_state(pid) for pid in pids]
    assert {said.reason for said in heard if isinstance(said, LoadFailed)} == {"😀" * 900}
    assert announcements.read() == []


def test_half_a_line_is_kept_for_later_and_nonsense_is_left_out() -> None:
    # Given a writer that was killed in the middle, and one that goes on
    announcements = Announcements()
    line = b'{"warm":' + child_state(7).model_dump_json().encode() + b"}\n"
    os.write(announcements.write_fileno(), b'{"warm":{"pi\n' + line[:20])
    assert announcements.read() == []
    # When the rest comes, then it is understood
    os.write(announcements.write_fileno(), line[20:])
    assert announcements.read() == [child_state(7)]
