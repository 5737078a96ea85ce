"""A running stack's lines: for people on a terminal, as they were written elsewhere."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from warmline.cli.stack_view import StackView
from warmline.local.events import LogLine

LINE = (
    '{"job_id": "1f1f1f1f00000000", "code": "not_audio", "level": "warning", '
    '"timestamp": "2026-11-23T10:00:01.000000Z", "action": "job_failed", "process": "worker"}'
)


@pytest.mark.parametrize(("terminal", "shown"), [(True, "job_failed job=1f1f1f1f code=not_audio"), (False, LINE)])
def test_a_part_s_line_is_for_whoever_reads_it(terminal: bool, shown: str) -> None:
    paper = StringIO()
    console = Console(file=paper, width=60, force_terminal=terminal, color_system=None)
    StackView(console)(LogLine(part="worker", line=LINE))
    (line,) = paper.getvalue().splitlines()
    assert "worker" in line
    assert line.endswith(shown)
