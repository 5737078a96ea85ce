"""`warmline bench` and `python -m benchmarks` run for real, on the smallest models."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Warmline


def test_a_quick_run_ends_with_a_table_and_figures_as_json(warmline: Warmline, tmp_path: Path) -> None:
    # When two rows are measured quickly
    file = tmp_path / "bench.json"
    done = warmline("bench", "--quick", "--rows", "8,9", "--json", file)
    # Then the table has both, says that they mean nothing, and the JSON has what was measured where
    assert done.returncode == 0, done.stderr
    assert "a quick run: its figures mean nothing" in done.stdout
    results = json.loads(file.read_text())
    assert [row["row"] for row in results["rows"]] == ["8", "9"]
    for row in results["rows"]:
        assert row["ours"] > 0
        assert row["peer_figure"] > 0
        assert row["verdict"] in {"reached", "missed"}
    assert results["machine"]["cores"] >= 1
    assert results["machine"]["versions"]["torch"]
    assert results["floor"]["fp32_flop_per_second"] > 1e9


def test_rows_that_are_none_are_refused(warmline: Warmline) -> None:
    done = warmline("bench", "--rows", "11")
    assert done.returncode == 2
    assert "there is no row 11" in done.stderr
