"""`warmline report`: a picture of a report that lies in a file, without any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLES, Warmline
from tests.made_reports import made_side, make_report
from tests.pictures_read import pixels, words
from warmline.calls.report import Report

# Nothing answers there: a command that asked would fail.
NO_SERVERS = {"WARMLINE_API_URL": "http://127.0.0.1:9", "WARMLINE_S3_ENDPOINT_URL": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report's file."""
    path = tmp_path_factory.mktemp("reports") / "one.json"
    sides = [made_side(role, windows=[(0, 5000, {"sad": 0.6})]) for role in ("agent", "customer")]
    path.write_text(make_report(*sides, duration_ms=10_000).model_dump_json())
    return path


def test_a_report_in_a_file_is_drawn(warmline: Warmline, file: Path, tmp_path: Path) -> None:
    svg, png = tmp_path / "out.svg", tmp_path / "out.PNG"
    done = warmline("report", file, "--plot", svg, "--emotion", "sad", **NO_SERVERS)
    assert (done.returncode, done.stdout) == (0, "")
    assert {"call-001.wav", "customer", "score of sad"} <= set(words(svg.read_text()))
    # as PNG too, and beside the report itself
    done = warmline("report", file, "--json", "--plot", png, **NO_SERVERS)
    assert Report.model_validate_json(done.stdout) == Report.model_validate_json(file.read_text())
    height, width, _ = pixels(png.read_bytes()).shape
    assert width == 2 * 1040
    assert height > 600


def test_a_folder_of_reports_is_drawn_as_one(warmline: Warmline, file: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    for name in ("a.json", "two/b.json"):
        (tmp_path / name).write_text(file.read_text())
    (tmp_path / "c.json").write_text("{}")
    svg = tmp_path / "out.svg"
    done = warmline("report", tmp_path, "--plot", svg, **NO_SERVERS)
    assert done.returncode == 0, done.stderr
    assert "2 calls, 20 s of audio" in words(svg.read_text())
    assert "c.json: no report" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--plot", "out.jpg"], "ends neither with .svg nor with .png"),
        (["--plot", "out.svg", "--emotion", "jolly"], "There is no emotion 'jolly'"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(
    warmline: Warmline, file: Path, arguments: list[str], sentence: str
) -> None:
    done = warmline("report", file, *arguments, **NO_SERVERS)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "[invalid_request]" in done.stderr
    assert not Path("out.svg").exists()


def test_what_is_no_report_is_said_in_a_sentence(warmline: Warmline, file: Path) -> None:
    for key, sentence in [
        (SAMPLES[0], "no report: "),
        (file.parent, "--plot FILE draws their overview"),
    ]:
        done = warmline("report", key, **NO_SERVERS)
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr


def test_a_sample_is_scored_and_drawn(warmline: Warmline, tmp_path: Path) -> None:
    svg = tmp_path / "out.svg"
    done = warmline("analyze", SAMPLES[0], "--roles", "agent,customer", "--plot", svg)
    assert done.returncode == 0, done.stderr
    said = words(svg.read_text())
    assert said[0] == SAMPLES[0].name
    assert {"agent", "customer", "overlaps", "silences", "speaks", "nobody speaks", "0:20"} <= set(said)
