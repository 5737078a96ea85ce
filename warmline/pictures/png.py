"""Pictures as PNG, for where SVG does not go: chats, slides, mail."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from typing import Final

from warmline.jobs.errors import PermanentError

SHARPNESS: Final = 2.0  # pixels of the PNG for one of the picture's
FAMILY: Final = "DejaVu Sans"


class PngUnavailable(PermanentError):
    """A picture as PNG needs the extra `export` (pip install "warmline[export]"); SVG needs nothing."""

    code = "png_unavailable"
    title = "PNG needs another package"


def check_png() -> None:
    """Raises PngUnavailable where no PNG can be drawn: before a long analysis whose picture is wanted."""
    if find_spec("resvg_py") is None:
        raise PngUnavailable


def png(svg: str, sharpness: float = SHARPNESS, *, machine_fonts: bool = True) -> bytes:
    """The picture as PNG. Raises PngUnavailable, and ValueError for what is no SVG.

    Without a font that it knows, resvg draws no words and says nothing. So ours comes along, for the scripts of
    Europe and the Near East; for others the machine's fonts are asked too, unless `machine_fonts` is off.
    """
    check_png()
    import resvg_py

    fonts = resources.files("warmline.pictures") / "fonts"
    with resources.as_file(fonts) as folder:
        drawn: bytes = resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=sharpness,
            font_dirs=[str(folder)],
            skip_system_fonts=not machine_fonts,
            font_family=FAMILY,
            sans_serif_family=FAMILY,
            style_sheet=f"svg {{ font-family: '{FAMILY}' }}",
        )
    return bytes(drawn)
