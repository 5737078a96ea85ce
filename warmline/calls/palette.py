"""How each emotion looks, in a terminal as in a picture: a letter and a colour.

The letters read without colour. The colours are of Okabe and Ito's palette, which people with any kind of colour
vision can tell apart (https://jfly.uni-koeln.de/color/), with greys for what is no emotion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warmline.calls.report import Scores

CONFIDENT: Final = 0.5  # a letter is a capital from this score on


@dataclass(frozen=True)
class Look:
    """A letter and a colour (#RRGGBB)."""

    letter: str
    colour: str


LOOKS: Final[dict[str, Look]] = {
    "angry": Look("a", "#D55E00"),
    "disgusted": Look("d", "#CC79A7"),
    "fearful": Look("f", "#F0E442"),
    "happy": Look("h", "#009E73"),
    "neutral": Look("n", "#999999"),
    "other": Look("o", "#BBBBBB"),
    "sad": Look("s", "#0072B2"),
    "surprised": Look("u", "#56B4E9"),
    "unknown": Look("x", "#777777"),
}


def look_of(label: str) -> Look:
    """The label's look. One that is not standard has its initial and no colour: white."""
    return LOOKS.get(label) or Look(label[:1].lower() or "?", "#FFFFFF")


def letter_of(top: str, scores: Scores) -> str:
    """The letter of a window or a part whose highest label is `top`: a capital where its score is confident."""
    letter = look_of(top).letter
    return letter.upper() if scores.get(top, 0.0) >= CONFIDENT else letter
