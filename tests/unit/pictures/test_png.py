"""Pictures as PNG: the words are really drawn, on machines without fonts too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.made_reports import made_side, make_report
from tests.pictures_read import pixels
from warmline.pictures.drawing import picture, text, text_width, written
from warmline.pictures.png import png
from warmline.pictures.timeline import timeline_svg


def drawn(words: str, size: float = 20, **attributes: str) -> np.ndarray:
    root, _ = picture(900, 40, "words", words)
    text(root, 10, 28, words, font_size=size, **attributes)
    return pixels(png(written(root), sharpness=1))


def test_a_timeline_s_words_are_drawn() -> None:
    # Given a picture with and without its words
    svg = timeline_svg(make_report(made_side("agent", windows=[(0, 5000, {"sad": 0.6})]), duration_ms=10_000))
    mute = re.sub(r"<text.*?</text>", "", svg)
    with_words, without = (pixels(png(each, sharpness=1)) for each in (svg, mute))
    # Then they differ where the words are: the title, the lane's name, the axis
    different = np.abs(with_words - without).max(axis=2) > 0.5
    assert different[10:36, 16:200].sum() > 300
    assert with_words.shape == without.shape
    rows = np.flatnonzero(different.any(axis=1))
    assert rows[-1] > 0.9 * with_words.shape[0]


@pytest.mark.parametrize("words", ["Hello", "Straße, façade", "Привет", "Ωμέγα", "שלום", "مرحبا", "0:05 · …"])
def test_the_words_of_many_scripts_are_drawn_as_they_are(words: str) -> None:
    # A letter that no font has is drawn as an empty box, as this one is
    ink, box = (1 - drawn(each).min(axis=2) for each in (words, "\U0010ffff"))
    assert ink.sum() > 20
    width = int(np.flatnonzero(box.any(axis=0))[-1] - np.flatnonzero(box.any(axis=0))[0]) + 1
    missing = box[:, np.flatnonzero(box.any(axis=0))[0] :][:, :width]
    found = np.lib.stride_tricks.sliding_window_view(ink, missing.shape)[0]
    assert np.abs(found - missing).sum(axis=(1, 2)).min() > 5


def test_no_font_of_the_machine_is_needed() -> None:
    svg = timeline_svg(make_report(made_side("agent", windows=[(0, 5000, {"sad": 0.6})]), duration_ms=10_000))
    alone = pixels(png(svg, sharpness=1, machine_fonts=False))
    assert np.abs(alone - pixels(png(svg, sharpness=1))).mean() < 0.002
    mute = pixels(png(re.sub(r"<text.*?</text>", "", svg), sharpness=1))
    assert np.abs(alone - mute).mean() > 0.005


@pytest.mark.parametrize(
    "words",
    ["a quiet word", "WIDE WORDS EVERYWHERE", "minimum illicit", "(0:05) 100%", "шумная фраза", "call-001_x.wav"],
)
@pytest.mark.parametrize("bold", [False, True])
def test_words_take_no_more_room_than_was_reckoned_and_not_much_less(words: str, bold: bool) -> None:
    columns = np.flatnonzero((drawn(words, **({"font_weight": "bold"} if bold else {})) < 0.5).any(axis=(0, 2)))
    width = columns[-1] - columns[0] + 1
    assert 0.75 * text_width(words, 20, bold=bold) < width <= text_width(words, 20, bold=bold)


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["resvg_py"] = None
from warmline.pictures.png import PngUnavailable, png
try:
    png("<svg/>")
except PngUnavailable as error:
    print(error.code, error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("png_unavailable")
    assert 'pip install "warmline[export]"' in done.stdout
