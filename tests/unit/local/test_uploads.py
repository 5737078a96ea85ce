"""How far uploads have been entered, and the sign of life of the part that does so."""

from __future__ import annotations

import os
import time
from pathlib import Path

from config.settings import Settings, StackSettings
from warmline.local.directory import StackDirectory
from warmline.local.plan import plan_stack
from warmline.local.uploads import SILENT_SECONDS, LogPosition, SignOfLife


def test_uploads_count_from_the_first_beginning_on(tmp_path: Path) -> None:
    path = tmp_path / "uploads.json"
    before = time.time_ns()
    LogPosition(path).begin()
    first = LogPosition(path)
    assert before <= first.since_ns == first.reached_ns <= time.time_ns()
    first.move(first.since_ns + 5)
    first.save()
    # When it begins again, then it goes on where it was
    again = LogPosition(path)
    again.begin()
    assert (again.since_ns, again.reached_ns) == (first.since_ns, first.since_ns + 5)
    # Until it is forgotten
    again.forget()
    anew = LogPosition(path)
    anew.begin()
    assert anew.since_ns > first.reached_ns


def test_it_never_goes_back_and_is_written_down_now_and_then(tmp_path: Path) -> None:
    position = LogPosition(tmp_path / "uploads.json")
    start = position.reached_ns
    position.move(start + 1)  # written: the first
    position.move(start + 2)
    position.move(start - 10)
    assert position.reached_ns == start + 2
    assert LogPosition(tmp_path / "uploads.json").reached_ns == start + 1
    position.save()
    assert LogPosition(tmp_path / "uploads.json").reached_ns == start + 2


def test_a_position_that_cannot_be_read_is_now(tmp_path: Path) -> None:
    (tmp_path / "uploads.json").write_text("{}")
    before = time.time_ns()
    assert LogPosition(tmp_path / "uploads.json").reached_ns >= before


def test_a_sign_of_life_is_of_one_process_and_grows_old(tmp_path: Path) -> None:
    path = tmp_path / "sign.json"
    sign = SignOfLife(path)
    assert sign.waits_for(os.getpid()) == "its first look at the log"
    sign.give("Redis")
    assert sign.waits_for(os.getpid()) == "Redis"
    sign.give(None)
    assert sign.waits_for(os.getpid()) is None
    # The last one of another process says nothing
    assert sign.waits_for(os.getpid() + 1) == "its first look at the log"
    # Nor does one that is old, until it is given again
    old = time.time() - SILENT_SECONDS - 5
    os.utime(path, (old, old))
    assert "a sign of life; the last one was 35 s ago" in (sign.waits_for(os.getpid()) or "")
    SignOfLife(path).give(None)
    assert sign.waits_for(os.getpid()) is None


def test_the_stack_has_the_part_only_where_uploads_count(tmp_path: Path) -> None:
    directory = StackDirectory(tmp_path)
    directory.make()

    def parts(**stack: bool) -> list[str]:
        settings = Settings(stack=StackSettings(data_dir=tmp_path, **stack))
        return [part.name for part in plan_stack(settings, directory, lambda _: None).parts]

    assert parts() == ["valkey", "s3", "api", "uploads", "worker", "flower"]
    kept = directory.uploads_file.read_bytes()
    assert parts() == ["valkey", "s3", "api", "uploads", "worker", "flower"]
    assert directory.uploads_file.read_bytes() == kept
    # What is uploaded while they do not is not scored when they do again
    assert "uploads" not in parts(triggers=False)
    assert not directory.uploads_file.exists()
    assert "uploads" not in parts(embed_s3=False)
    parts()
    assert directory.uploads_file.read_bytes() != kept
