"""What `--plot` writes: a picture, in the form that the file's name ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from warmline.cli import consoles
from warmline.jobs.errors import InvalidRequest

SUFFIXES: Final = (".svg", ".png")

Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw a picture, as the name ends: .svg or .png."),
]
Emotion = Annotated[
    str, typer.Option(metavar="LABEL", help="With --plot: the emotion to look at; without it, angry.")
]


def check_picture(path: Path | None) -> None:
    """Raises InvalidRequest where no picture can be written, before work is done for it; PngUnavailable."""
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidRequest(f"--plot: {path} ends neither with .svg nor with .png")
    if not path.parent.is_dir():
        raise InvalidRequest(f"--plot: there is no folder {path.parent}")
    if path.suffix.lower() == ".png":
        from warmline.pictures.png import check_png

        check_png()


def write_picture(path: Path, svg: str) -> None:
    """Writes an SVG document to a file, or what it shows as PNG, and says so. Raises InvalidRequest."""
    if path.suffix.lower() == ".png":
        from warmline.pictures.png import png

        body = png(svg)
    else:
        body = svg.encode()
    try:
        path.write_bytes(body)
    except OSError as error:
        raise InvalidRequest(f"--plot: {path} cannot be written: {error.strerror}") from None
    consoles.notes().print(f"{path} ({len(body) / 1000:.0f} kB)", **consoles.PLAIN)
