"""What `--plot` writes: a picture, in the form that the file's name ends with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from warmline.cli import consoles
from warmline.jobs.errors import InvalidRequest

if TYPE_CHECKING:
    from warmline.calls.report import Report

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


class Drawing:
    """A picture of the reports that are added: of one its timeline, of several their overview."""

    def __init__(self, name: str, emotion: str) -> None:
        from warmline.pictures.overview import Overview

        self._emotion = emotion
        self._overview = Overview(name, emotion)
        self._reports = 0
        self._first: Report | None = None

    def add(self, report: Report) -> None:
        """One more. Only the first is kept."""
        self._reports += 1
        self._first = self._first or report
        self._overview.add(report)

    def write(self, path: Path) -> None:
        """Writes the picture; without reports there is none. Raises InvalidRequest."""
        from warmline.pictures.timeline import timeline_svg

        if self._first is not None:
            alone = self._reports == 1
            write_picture(path, timeline_svg(self._first, self._emotion) if alone else self._overview.svg())
