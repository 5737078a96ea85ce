"""Pictures as tests read them: their words, their shapes, their pixels."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import av
import numpy as np
from numpy.typing import NDArray

NAMESPACE = "{http://www.w3.org/2000/svg}"


def shapes() -> set[str]:
    """The elements that a picture may have."""
    return {"svg", "title", "desc", "defs", "pattern", "g", "rect", "path", "text"}


def parsed(svg: str) -> ET.Element:
    """Its root."""
    return ET.fromstring(svg)  # noqa: S314 - we wrote it


def words(svg: str) -> list[str]:
    """The texts of a picture, in the order in which they are drawn."""
    return [element.text or "" for element in parsed(svg).iter(f"{NAMESPACE}text")]


def description(svg: str) -> str:
    """What is read out in the picture's place."""
    return parsed(svg).findtext(f"{NAMESPACE}desc") or ""


def filled(svg: str, fill: str) -> list[tuple[float, float, float, float]]:
    """The bars of all paths with this fill, as (left, top, right, bottom)."""
    found = []
    for path in parsed(svg).iter(f"{NAMESPACE}path"):
        if path.get("fill") == fill:
            for x, y, up, width in re.findall(r"M([\d.]+) ([\d.]+)v-([\d.]+)h([\d.]+)v", path.get("d") or ""):
                left, bottom = float(x), float(y)
                found.append((left, bottom - float(up), left + float(width), bottom))
    return found


def pixels(png: bytes) -> NDArray[np.float64]:
    """A PNG as (height, width, 3), each 0 to 1, on white."""
    with av.open(io.BytesIO(png)) as container:
        frame = next(container.decode(video=0))
    rgba = frame.to_ndarray(format="rgba").astype(np.float64) / 255
    alpha = rgba[..., 3:]
    return np.asarray(rgba[..., :3] * alpha + (1 - alpha))
