"""SVG in a few words: shapes, text that is safe to write, and the space that text takes.

The standard library's ElementTree writes and escapes it: chart libraries know bars over numbers and not spans over
time, and those that only write SVG would save these lines and cost the API a dependency. There are presentation
attributes only, no style sheets: a picture that is part of a page changes nothing else there, and needs no
permission of a content security policy.
"""

from __future__ import annotations

import hashlib
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Final

Element = ET.Element

NAMESPACE: Final = "http://www.w3.org/2000/svg"
# The last one is what pictures as PNG are drawn with, and the widest: what fits in it fits in the others.
FONTS: Final = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
PAPER: Final = "#FFFFFF"
INK: Final = "#222222"
SOFT_INK: Final = "#555555"  # 7 to 1 on the paper
FAINT: Final = "#DDDDDD"
TEXT_SIZE: Final = 12.0
BOLD: Final = 1.1  # how much wider bold letters are

_NARROW: Final = frozenset("fijlrt1I.,:;'|!()[]/- ")
_WIDE: Final = frozenset("mwMWQGOD@%&—…+=<>")


def number(value: float) -> str:
    """A number as short as a tenth of a pixel allows."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def picture(width: float, height: float, title: str, description: str) -> tuple[Element, Element]:
    """A picture on paper of its own, with what is read out in its place; and its `defs`."""
    names = hashlib.sha256(f"{title}\0{description}".encode("utf-8", "replace")).hexdigest()[:8]
    root = Element(
        "svg",
        {
            "xmlns": NAMESPACE,
            "width": number(width),
            "height": number(height),
            "viewBox": f"0 0 {number(width)} {number(height)}",
            "role": "img",
            "aria-labelledby": f"title-{names} description-{names}",
            "font-family": FONTS,
            "font-size": number(TEXT_SIZE),
            "fill": INK,
        },
    )
    ET.SubElement(root, "title", {"id": f"title-{names}"}).text = clean(title)
    ET.SubElement(root, "desc", {"id": f"description-{names}"}).text = clean(description)
    defs = ET.SubElement(root, "defs")
    rect(root, 0, 0, width, height, fill=PAPER)
    return root, defs


def resize(root: Element, height: float) -> None:
    """Gives the picture and its paper another height: it is known when all is drawn."""
    width = root.get("width", "0")
    root.set("height", number(height))
    root.set("viewBox", f"0 0 {width} {number(height)}")
    paper = root.find("rect")
    if paper is not None:
        paper.set("height", number(height))


def written(root: Element) -> str:
    """The picture as a document of its own."""
    return ET.tostring(root, encoding="unicode") + "\n"


def add(parent: Element, tag: str, **attributes: str | float) -> Element:
    """An element; `stroke_width` is written stroke-width."""
    written_out = {
        name.replace("_", "-"): value if isinstance(value, str) else number(value)
        for name, value in attributes.items()
    }
    return ET.SubElement(parent, tag, written_out)


def group(parent: Element, **attributes: str | float) -> Element:
    """A group, whose attributes hold for all in it."""
    return add(parent, "g", **attributes)


def rect(parent: Element, x: float, y: float, width: float, height: float, **attributes: str | float) -> Element:
    """A rectangle."""
    return add(parent, "rect", x=x, y=y, width=width, height=height, **attributes)


def path(parent: Element, d: str, **attributes: str | float) -> Element:
    """A path."""
    return add(parent, "path", d=d, **attributes)


def text(parent: Element, x: float, y: float, words: str, **attributes: str | float) -> Element:
    """A line of text from `x` on (or where `text_anchor` says), with its baseline at `y`."""
    element = add(parent, "text", x=x, y=y, **attributes)
    element.text = clean(words)
    return element


def clean(words: str) -> str:
    """What XML may hold and a reader may trust: no controls, no halves of characters, no turning of the line.

    A key can hold signs that reverse what stands around it; they are shown as what they are, a strange sign.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _unfit(sign) else sign for sign in words)


def _unfit(sign: str) -> bool:
    category = unicodedata.category(sign)
    if category in {"Cc", "Cs", "Zl", "Zp"} or sign in "\ufffe\uffff":
        return True
    return unicodedata.bidirectional(sign) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def text_width(words: str, size: float = TEXT_SIZE, *, bold: bool = False) -> float:
    """About how wide the words are in the widest of FONTS, in pixels; rather too much than too little."""
    return size * sum(map(_advance, words)) * (BOLD if bold else 1.0)


def _advance(sign: str) -> float:
    if unicodedata.combining(sign):
        return 0.0
    if unicodedata.east_asian_width(sign) in {"W", "F"}:
        return 1.0
    if sign in _NARROW:
        return 0.42
    if sign in _WIDE:
        return 1.0
    if sign > "\u024f":  # beyond Latin, where letters are wider
        return 0.78
    return 0.73 if sign.isupper() else 0.645


def shortened(words: str, width: float, size: float = TEXT_SIZE, *, bold: bool = False) -> str:
    """The words, or what of their beginning and end fits in `width` pixels, with an ellipsis between.

    The end gets more room: there keys and paths differ.
    """
    words, width = clean(words), width / (BOLD if bold else 1.0)
    if text_width(words, size) <= width:
        return words
    room = width - text_width("…", size)
    end = _fitting(words[::-1], room * 2 / 3, size)[::-1]
    beginning = _fitting(words, room - text_width(end, size), size)
    return f"{beginning.rstrip()}…{end.lstrip()}"


def _fitting(words: str, width: float, size: float) -> str:
    taken = 0.0
    for count, sign in enumerate(words):
        taken += size * _advance(sign)
        if taken > width:
            return words[:count]
    return words


def counted(count: int, noun: str) -> str:
    """1 call, 2 calls."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def joined(parts: Sequence[str]) -> str:
    """What stands in one line, with dots between."""
    return " · ".join(part for part in parts if part)
