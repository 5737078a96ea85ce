"""Emotions can be told apart without colour and with any kind of colour vision: looked at as pixels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pictures_read import pixels
from warmline.calls.palette import LOOKS
from warmline.calls.report import STANDARD_LABELS
from warmline.pictures.drawing import picture, rect, written
from warmline.pictures.fills import TILE, Fills
from warmline.pictures.png import png

Pixels = NDArray[np.float64]

SIDE = 16  # pixels of a swatch: a whole number of tiles

# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision
# Deficiency": the matrices of severity 1.0, for linear RGB.
SEEN_BY = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
    "grey": [[0.2126, 0.7152, 0.0722]] * 3,
    "full colour": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}  # fmt: skip


def seen(colours: Pixels, kind: str) -> Pixels:
    """Pixels (h, w, 3) from 0 to 1 as this kind of vision has them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    there = np.clip(linear @ np.array(SEEN_BY[kind]).T, 0, 1)
    return np.where(there <= 0.0031308, there * 12.92, 1.055 * there ** (1 / 2.4) - 0.055)


@pytest.fixture(scope="module")
def swatches() -> dict[str, Pixels]:
    """Each emotion's fill, drawn."""
    root, defs = picture(SIDE * len(STANDARD_LABELS), SIDE, "fills", "all of them")
    fills = Fills()
    for place, label in enumerate(STANDARD_LABELS):
        rect(root, SIDE * place, 0, SIDE, SIDE, fill=fills.of(label))
    fills.define(defs)
    drawn = pixels(png(written(root), sharpness=1))
    return {label: drawn[:, n * SIDE : (n + 1) * SIDE] for n, label in enumerate(STANDARD_LABELS)}


def apart(one: Pixels, other: Pixels) -> float:
    """How different two fills look, 0 to 1: the mean difference when the patterns lie as alike as they can."""
    return min(
        float(np.abs(one - np.roll(other, (down, right), axis=(0, 1))).max(axis=2).mean())
        for down in range(TILE)
        for right in range(TILE)
    )


@pytest.mark.parametrize("kind", SEEN_BY)
def test_every_two_emotions_look_different(swatches: dict[str, Pixels], kind: str) -> None:
    shown = {label: seen(swatch, kind) for label, swatch in swatches.items()}
    distances = {(one, other): round(apart(shown[one], shown[other]), 3) for one, other in combinations(shown, 2)}
    near = {pair: distance for pair, distance in distances.items() if distance < 0.1}
    assert near == {}


def test_every_emotion_has_a_pattern_of_its_own() -> None:
    root, defs = picture(10, 10, "fills", "all of them")
    fills = Fills()
    for label in [*STANDARD_LABELS, "zeal", "awe", "ennui"]:
        fills.of(label)
    fills.define(defs)
    drawn = [[path.get("d") for path in tile.iter("path")] for tile in root.iter("pattern")]
    assert len(drawn) == len({tuple(lines) for lines in drawn}) == 12


def test_colours_alone_would_not_do_in_grey() -> None:
    # So the test above sees what it should: flat fills of the palette have pairs that are alike
    flat = {
        label: np.full((TILE, TILE, 3), [int(look.colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        for label, look in LOOKS.items()
    }
    shown = {label: seen(swatch, "grey") for label, swatch in flat.items()}
    assert min(apart(shown[one], shown[other]) for one, other in combinations(shown, 2)) < 0.05
