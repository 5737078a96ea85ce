"""The parts of watching: back-off, counting deaths, following logs, noting signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from warmline.local.interruptions import Interruptions
from warmline.local.log_lines import LogFollower, last_lines
from warmline.local.monitor import DEATHS_WINDOW_SECONDS, Watch, restart_delay_seconds
from warmline.local.parts import Part


def test_each_restart_waits_twice_as_long_up_to_a_limit() -> None:
    assert [restart_delay_seconds(deaths) for deaths in (1, 2, 3, 4, 7, 50)] == [0.5, 1.0, 2.0, 4.0, 30.0, 30.0]


def test_only_the_deaths_of_the_last_ten_minutes_count() -> None:
    watch = Watch(Part(name="api", command=["true"], directory=Path(), address="", waiting_for=lambda _: None))
    assert (watch.died(), watch.died()) == (1, 2)
    watch.deaths[0] -= DEATHS_WINDOW_SECONDS
    assert watch.died() == 2
    assert watch.restart_at is not None


def test_a_log_is_followed_from_now_on_and_across_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_text("before\n")
    follower = LogFollower(path)
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert list(follower.new_lines()) == ["one"]
        file.write("o\n")
        file.flush()
        assert list(follower.new_lines()) == ["two"]
        file.write("three\n")
    # When the file is rotated, as supervisord does it, then neither end is lost
    path.rename(tmp_path / "api.log.1")
    assert list(follower.new_lines()) == ["three"]
    path.write_bytes(b"four\r\n\xff\n")
    assert list(follower.new_lines()) == ["four", "�"]
    assert list(follower.new_lines()) == []
    follower.close()


def test_a_log_that_does_not_exist_yet_is_followed_from_its_beginning(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path / "api.log")
    assert list(follower.new_lines()) == []
    (tmp_path / "api.log").write_text("one\n")
    assert list(follower.new_lines()) == ["one"]
    follower.close()


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path / "api.log")
    (tmp_path / "api.log").write_bytes(b"x" * 200_000)
    lines = list(follower.new_lines())
    assert sum(map(len, lines)) >= 200_000 - 65_536
    assert max(map(len, lines)) <= 2 * 65_536
    follower.close()


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    assert list(last_lines(path)) == []
    path.write_text("\n".join(f"line {number}" for number in range(100_000)))
    assert list(last_lines(path, 2)) == ["line 99998", "line 99999"]


def test_a_signal_in_the_users_turn_is_raised_once() -> None:
    with Interruptions() as interruptions:
        interruptions.raise_from_now_on()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_is_noted_first_and_raised_when_it_may() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with Interruptions() as interruptions:
        interruptions.check()
        # While parts are started and stopped, a signal is only noted
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruptions.count == 1
        with pytest.raises(KeyboardInterrupt):
            interruptions.check()
        # One that came before the user's turn is raised at its beginning
        with pytest.raises(KeyboardInterrupt):
            interruptions.raise_from_now_on()
        # And what cleans up is not torn away by the same wish, passed on twice
        os.kill(os.getpid(), signal.SIGINT)
        assert interruptions.count == 1
    assert signal.getsignal(signal.SIGTERM) is handler
