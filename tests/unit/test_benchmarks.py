"""What the benchmark says of figures: reached, missed, not measured. Never one that nobody measured."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.__main__ import results_of
from benchmarks.fitted_head import fit_head
from benchmarks.machine import look_at_facts
from benchmarks.report import Floor, print_table, write_json
from benchmarks.rows import ROWS, Result, Row, choose_rows
from benchmarks.subjects import Bench, Subject
from config.settings import load_settings
from warmline.emotion.plan import look_at_machine

FASTER = next(row for row in ROWS if row.key == "1")  # >= 6x
SMALLER = next(row for row in ROWS if row.key == "7")  # <= 0.45x


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        settings=load_settings(with_stack=False),
        machine=look_at_machine(),
        model_title="none",
        random_weights=True,
        work=tmp_path,
        scratch=tmp_path,
        rounds=1,
        quick=True,
        clips=tmp_path,
        windows=4,
        wanted=frozenset({"1", "2"}),
    )


@pytest.mark.parametrize(
    ("row", "rounds", "verdict"),
    [
        (FASTER, ((2.0, 12.0), (1.0, 7.0)), "reached"),
        (FASTER, ((2.0, 11.0), (1.0, 5.0)), "missed"),
        (SMALLER, ((100.0, 45.0),), "reached"),
        (SMALLER, ((100.0, 46.0),), "missed"),
        (SMALLER, (), "not measured"),
    ],
)
def test_a_goal_is_reached_or_missed_by_the_median_ratio(
    row: Row, rounds: tuple[tuple[float, float], ...], verdict: str
) -> None:
    assert Result(key=row.key, rounds=rounds).verdict(row) == verdict


def test_a_ratio_is_the_median_over_rounds_and_not_of_the_medians() -> None:
    # Given rounds in which the machine was more and less busy
    result = Result(key="1", rounds=((4.0, 8.0), (2.0, 10.0), (3.0, 3.0)))
    # Then each round is judged by itself
    assert result.ratio == 2.0
    assert result.ratios == (2.0, 5.0, 1.0)


def test_rows_are_chosen_by_key_or_by_part() -> None:
    assert [row.key for row in choose_rows("5, 1")] == ["1", "5"]
    assert [row.key for row in choose_rows("10.mini.bf16")] == ["10.mini.bf16.torch", "10.mini.bf16.openvino"]
    assert len(choose_rows("")) == len(ROWS)
    with pytest.raises(ValueError, match="no row 11"):
        choose_rows("1,11")


def test_a_row_that_raises_costs_no_other_row_its_figure(bench: Bench) -> None:
    # Given a group whose second row fails
    def measure(_: Bench) -> Iterator[Result]:
        yield Result(key="1", rounds=((1.0, 7.0),))
        raise OSError("the disk is full")

    # When it is measured
    first, second = results_of(bench, (("1", "2"), measure))
    # Then the first has its figure, and the second says why it has none
    assert first.measured
    assert not second.measured
    assert second.reason == "OSError: the disk is full"


def test_a_subject_that_cannot_start_says_why(bench: Bench) -> None:
    def measure(bench: Bench) -> Iterator[Result]:
        with Subject(bench, "openwino") as subject:
            subject.ready()
        yield Result(key="1")

    results = list(results_of(bench, (("1",), measure)))
    assert [result.reason for result in results] == ["openwino: ValueError: there is no subject openwino"]


def test_the_table_shows_what_was_missed_and_what_has_no_figure() -> None:
    # Given one row that was missed, of which arithmetic says why, and one that was not measured
    results = {
        "1": Result(key="1", rounds=((10.0, 20.0),), subject="torch fp32"),
        "7": Result(key="7", reason="the worker did not start"),
    }
    floor = Floor(flop_per_audio_second=1e9, fp32_flop_per_second=4e10, bf16_flop_per_second=1e10)
    console = Console(width=200, record=True, file=io.StringIO())
    # When they are shown
    print_table(console, [FASTER, SMALLER], results, title="t", machine=look_at_facts(), floor=floor)
    shown = console.export_text()
    # Then each line says so
    lines = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    assert "missed" in lines["1"]
    assert "not measured" in lines["7"]
    assert "1: ours: torch fp32; uses 50% of this machine's matrix rate; the goal needs 150% of it" in shown
    assert "7: the worker did not start" in shown


def test_the_json_holds_every_round(tmp_path: Path) -> None:
    file = tmp_path / "results" / "run.json"
    results = {"1": Result(key="1", rounds=((2.0, 12.0), (2.0, 14.0)))}
    # When results are written though most rows are not known yet
    write_json(file, ROWS, results, machine=look_at_facts(), floor=None, about={"title": "t"})
    # Then what is known is there, with its spread
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["row"], row["ratio"], row["ratio_spread"], row["verdict"]) == ("1", 6.5, [6.0, 7.0], "reached")
    assert row["rounds"] == [[2.0, 12.0], [2.0, 14.0]]


def test_a_fitted_head_gives_windows_their_labels() -> None:
    # Given features of three kinds of windows, far from zero
    random = torch.Generator().manual_seed(0)
    kinds = torch.arange(30) % 3
    centres = torch.randn(3, 64, generator=random)
    features = (centres[kinds] + 0.3 * torch.randn(30, 64, generator=random)) * 3 + 5
    # When a head is fitted to most of them
    weight, bias = fit_head(features[:24], kinds[:24] + 1, tokens=9)
    # Then it knows the others
    assert ((features[24:] @ weight.T + bias).argmax(dim=1) == kinds[24:] + 1).all()


def test_results_are_not_shared_between_rows() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert replace(FASTER, goal=7.0).goal_text == ">= 7x"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_fidelity_s_goals_are_those_that_decide_what_may_run(precision: str) -> None:
    from warmline.emotion.fidelity import GOALS

    goal = GOALS[precision]
    wanted = goal.same_top_share * 100 if goal.largest_difference is None else goal.largest_difference
    assert {row.goal for row in ROWS if f".{precision}." in row.key} == {wanted}
