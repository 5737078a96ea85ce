"""Lists of jobs and batches: in whatever width, an id and a key can be copied, and found by `grep`."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from warmline.cli import consoles, job_tables
from warmline.jobs.records import BatchState, Failure, Job, JobState, JobStatus, Source

MOMENT = datetime(2026, 11, 23, 12, 47, 9, tzinfo=UTC)
KEY = "2026/11/23/agent-0042/call-000123-with-a-name-of-some-length.wav"
FAILURE = Failure(code="not_audio", message="The content is not audio; check that it plays.")
JOBS = [
    JobState(
        job=Job(id=f"{number:032x}", source=Source(bucket="calls", key=KEY), created_at=MOMENT),
        status=JobStatus.FAILED,
        queued_at=MOMENT,
        failure=FAILURE,
    )
    for number in (1, 2)
]
BATCH = BatchState(id="f" * 32, created_at=MOMENT, total=7, queued=0, running=2, succeeded=4, failed=1)


@pytest.fixture
def paper() -> StringIO:
    return StringIO()


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200, 400])
def test_an_id_a_key_and_a_reason_are_never_broken(paper: StringIO, columns: int) -> None:
    out = Console(file=paper, width=columns, force_terminal=True, color_system=None)
    job_tables.show_jobs(out, JOBS)
    job_tables.show_batches(out, [BATCH])
    lines = paper.getvalue().splitlines()
    for whole in (*(state.job.id for state in JOBS), f"s3://calls/{KEY}", FAILURE.message, BATCH.id):
        assert any(whole in line for line in lines), (columns, whole)


def test_a_wide_terminal_has_a_line_for_each_and_a_narrow_one_says_what_is_not_nought(paper: StringIO) -> None:
    job_tables.show_jobs(Console(file=paper, width=300), JOBS)
    assert len(paper.getvalue().splitlines()) == 1 + len(JOBS)
    paper.seek(0)
    paper.truncate()
    job_tables.show_batches(Console(file=paper, width=60), [BATCH])
    assert paper.getvalue().splitlines()[1].strip() == "total 7, running 2, succeeded 4, failed 1"


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    job_tables.show_jobs(consoles.results(), JOBS)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["id", "status", "lane", "submitted", "call", "note"]
    assert [row.split()[0] for row in rows] == [state.job.id for state in JOBS]
    assert all(KEY in row and FAILURE.message in row for row in rows)
