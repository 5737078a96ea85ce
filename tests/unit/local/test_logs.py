"""A stack's logs as one: rotated files in order, parts merged by time, only what is asked for, followed."""

from __future__ import annotations

import itertools
import json
import logging
import tracemalloc
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from warmline.cli.log_view import LogView
from warmline.local.directory import StackDirectory
from warmline.local.log_entries import parse_line
from warmline.local.logs import StackLogs, Wanted, entries_of
from warmline.local.parts import StackError

ALL = Wanted()
JOB, OTHER = "1f" * 12 + "00000001", "2f" * 16
BATCH = "1f" * 12 + "00000000"


def line(second: float, action: str, process: str = "worker", **fields: Any) -> str:
    time = f"2026-05-04T10:00:{second:06.3f}Z"
    return json.dumps({"timestamp": time, "level": "info", "action": action, "process": process, **fields})


@pytest.fixture
def directory(tmp_path: Path) -> StackDirectory:
    made = StackDirectory(tmp_path)
    made.make()
    return made


def write(directory: StackDirectory, name: str, *lines: str, end: str = "\n") -> Path:
    path = directory.logs / name
    with path.open("a") as file:
        file.write("\n".join(lines) + end)
    return path


def actions(logs: StackLogs, wanted: Wanted = ALL) -> list[str]:
    with logs:
        written = [*logs.written(wanted), *logs.torn(wanted)]
    return [entry.fields["action"] if entry.fields else entry.text for entry in written]


def test_rotated_files_come_in_order_and_parts_are_merged_by_time(directory: StackDirectory) -> None:
    write(directory, "worker.log.2", line(1, "oldest"))
    write(directory, "worker.log.10", line(0, "older yet"))
    write(directory, "worker.log.1", line(3, "middle"))
    write(directory, "worker.log", line(6, "newest"))
    write(directory, "api.log", line(2, "request", "api"), line(5, "answer", "api"))
    write(directory, "worker.log.bak", line(1, "not a rotated one"))
    logs = StackLogs(directory)
    assert logs.parts == ("api", "worker")
    assert actions(logs) == ["older yet", "oldest", "request", "middle", "answer", "newest"]
    assert actions(StackLogs(directory, ["api"])) == ["request", "answer"]


def test_a_line_without_a_time_stays_behind_the_one_before_it(directory: StackDirectory) -> None:
    write(directory, "worker.log", line(1, "first"), "Traceback (most recent call last):", line(4, "last"))
    write(directory, "api.log", line(2, "request", "api"))
    assert actions(StackLogs(directory)) == ["first", "Traceback (most recent call last):", "request", "last"]


def test_only_what_is_asked_for(directory: StackDirectory) -> None:
    write(
        directory,
        "worker.log",
        line(1, "about the job", job_id=JOB, batch_id=BATCH),
        line(2, "about another", job_id=OTHER),
        line(3, "grave", level="error", job_id=OTHER),
        f"plain text that names {JOB}",
        line(4, "about the batch alone", batch_id=BATCH),
        line(5, "asked for", process="api", path=f"/v1/jobs/{JOB}/report"),
        line(6, "names it elsewhere", error=JOB),
    )
    logs = lambda: StackLogs(directory)  # noqa: E731  # each reads from the start
    assert actions(logs(), Wanted(job=JOB)) == ["about the job", "asked for"]
    assert actions(logs(), Wanted(job=JOB[:6])) == ["about the job", "asked for"]
    assert actions(logs(), Wanted(batch=BATCH)) == ["about the job", "about the batch alone"]
    assert actions(logs(), Wanted(level=logging.WARNING)) == ["grave"]
    since = datetime.fromisoformat("2026-05-04T10:00:03.5Z").timestamp()
    assert actions(logs(), Wanted(since=since)) == ["about the batch alone", "asked for", "names it elsewhere"]
    assert actions(logs(), Wanted(job=OTHER, level=logging.ERROR, since=since)) == []


def test_what_is_written_later_follows_across_a_rotation(directory: StackDirectory) -> None:
    path = write(directory, "worker.log", line(1, "there"))
    write(directory, "worker.log", line(2, "torn"), end="")
    with StackLogs(directory) as logs:
        assert [entry.fields["action"] for entry in logs.written(ALL) if entry.fields] == ["there"]
        with path.open("a") as file:
            file.write("\n" + line(3, "before the rotation") + "\n")
        path.rename(directory.logs / "worker.log.1")
        write(directory, "worker.log", line(4, "after it"))
        seen = [entry.fields["action"] for entry in itertools.islice(logs.followed(ALL), 3) if entry.fields]
    assert seen == ["torn", "before the rotation", "after it"]


def test_a_rotation_between_opening_and_reading_shows_nothing_twice(directory: StackDirectory) -> None:
    path = write(directory, "worker.log", line(1, "once"))
    logs = StackLogs(directory)
    path.rename(directory.logs / "worker.log.1")
    write(directory, "worker.log", line(2, "next"))
    assert actions(logs) == ["once", "next"]


def test_a_file_that_is_renamed_while_logs_are_opened_is_read_once(directory: StackDirectory) -> None:
    path = write(directory, "worker.log", line(1, "once"))
    (directory.logs / "worker.log.1").hardlink_to(path)  # as seen from there, for a moment
    assert actions(StackLogs(directory)) == ["once"]


def test_no_logs_and_no_such_part_are_said(directory: StackDirectory) -> None:
    with pytest.raises(StackError, match=r"no stack has run there"):
        StackLogs(directory)
    write(directory, "api.log", line(1, "x"))
    with pytest.raises(StackError, match=r"as wroker; there are api"):
        StackLogs(directory, ["wroker"])


def test_memory_does_not_grow_with_a_log(directory: StackDirectory) -> None:
    path = directory.logs / "worker.log"
    with path.open("w") as file:
        file.writelines(line(n % 60, "x", number=n) + "\n" for n in range(5_000))
        file.write("y" * 2_000_000)  # a line of 2 MB
    tracemalloc.start()
    with StackLogs(directory) as logs:
        count = sum(1 for _ in logs.written(ALL))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count >= 5_000
    assert peak_bytes < 512 * 1024


@pytest.mark.parametrize(
    ("text", "time", "level"),
    [
        ("123:M 04 May 2026 10:00:01.123 # Warning", "2026-05-04T10:00:01.123", logging.WARNING),
        ("[I 260504 10:00:01 command:168] Visit me", "2026-05-04T10:00:01", logging.INFO),
        ("2026-05-04 10:00:01,123 CRIT uncaptured", "2026-05-04T10:00:01.123", logging.CRITICAL),
        ("2026-05-04T10:00:01.123Z [warning  ] lease_lost", "2026-05-04T10:00:01.123Z", logging.WARNING),
    ],
)
def test_the_lines_of_other_programs_say_when_and_how_grave(text: str, time: str, level: int) -> None:
    entry = parse_line(text, "x")
    assert (entry.at, entry.level) == (datetime.fromisoformat(time).timestamp(), level)
    assert entry.fields is None


def test_seaweedfs_does_not_say_the_year() -> None:
    now = datetime.now()  # noqa: DTZ005  # as it writes
    entry = parse_line(f"W{now:%m%d %H:%M:%S.%f} master.go:12 x")
    assert entry.at == now.timestamp()
    assert entry.level == logging.WARNING


def test_lines_from_elsewhere_are_shown_as_they_are_unless_they_are_ours() -> None:
    given = "\n".join(
        [
            line(1, "job_started", job_id=JOB),
            f"worker-2  | {line(2, 'job_finished')}",
            "npm WARN deprecated",
            '{"not": "ours"}',
            '{"action": ',
            "[" * 100_000,
        ]
    ).encode()
    entries = list(entries_of(BytesIO(given), ALL))
    assert [entry.part for entry in entries[:2]] == ["worker", "worker"]
    assert [entry.fields is not None for entry in entries] == [True, True] + [False] * (len(entries) - 2)
    assert [next(LogView(colours=False).lines(entry)) for entry in entries[2:5]] == given.decode().split("\n")[2:5]


def test_a_line_for_people() -> None:
    at = datetime.fromisoformat("2026-05-04T10:00:01Z").astimezone()
    entry = parse_line(
        line(
            1, "job_failed", "worker", level="warning", rtfx=20.5, worker="w/1", error="no such call", attempt=2,
            job_id=JOB, batch_id=None, uri="s3://calls/a.wav", exception="Traceback:\n  boom",
        )
    )  # fmt: skip
    first, *trace = LogView(colours=False, today=at.date()).lines(entry)
    assert first == (
        f"{at:%H:%M:%S}.000  worker warning  job_failed job={JOB[:8]} attempt=2 uri=s3://calls/a.wav "
        'error="no such call" rtfx=20.5 worker=w/1'
    )
    assert trace == ["    Traceback:", "      boom"]
    coloured, *_ = LogView(colours=True).lines(entry)
    assert "\x1b[33m" in coloured  # a warning is yellow
    assert coloured.startswith(f"\x1b[90m{at:%m-%d}")  # it is not of today


def test_what_a_terminal_would_obey_does_not_reach_it() -> None:
    nasty = "\x1b[2Jx\x1b]0;title\x07\r\b\u202e\x9b31m"
    ours = parse_line(line(1, nasty, part=nasty, exception=nasty, **{nasty: 1}))
    for entry in (ours, parse_line(nasty), parse_line(f"123:M 04 May 2026 10:00:01.123 # {nasty}", nasty)):
        shown = "".join(LogView(colours=False).lines(entry))
        assert shown.isprintable(), shown


def test_of_a_batch_s_job_the_whole_id_is_shown_for_its_neighbours_begin_as_it_does() -> None:
    given = line(1, "job_started", job_id=JOB, batch_id=BATCH)
    (shown,) = LogView(colours=False).lines(parse_line(given, "worker"))
    assert f" job={JOB} batch={BATCH[:8]}" in shown
    alone = line(1, "job_started", job_id=OTHER)
    (shown,) = LogView(colours=False).lines(parse_line(alone, "worker"))
    assert shown.endswith(f" job={OTHER[:8]}")
