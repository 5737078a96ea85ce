"""Makes the virtual environment that the Makefile installs into: `python3 deploy/make_venv.py .venv INDEX`
(INDEX may be empty: PyPI).

Debian ships Python without `ensurepip` unless python3-venv is installed, which takes root. Where it is missing,
pip's own wheel is taken from the package index and run from there to install itself: a wheel is a zip file, and
Python runs code from zip files. Uses nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import html
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from importlib.util import find_spec
from pathlib import Path

OLDEST_PYTHON = (3, 11)
DEFAULT_INDEX = "https://pypi.org/simple"


def main(directory: Path, index: str) -> int:
    """Makes `directory` a virtual environment with pip in it, unless it is one already."""
    if sys.version_info < OLDEST_PYTHON:
        print(
            f"Warmline needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, and {sys.executable} is "
            f"{sys.version.split()[0]}: install a newer one and run make again with PYTHON=python3.12",
            file=sys.stderr,
        )
        return 2
    python = directory / "bin" / "python"
    if python.exists() and _has_pip(python):
        return 0
    with_ensurepip = find_spec("ensurepip") is not None
    print(f"making {directory} with Python {sys.version.split()[0]}")
    venv.create(directory, with_pip=with_ensurepip, clear=True, symlinks=True)
    if not with_ensurepip:
        _install_pip(python, index or DEFAULT_INDEX)
    return 0


def _has_pip(python: Path) -> bool:
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _install_pip(python: Path, index: str) -> None:
    """Fetches pip's newest wheel from the index and lets it install itself."""
    url, digest = _newest_wheel(f"{index.rstrip('/')}/pip/")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = Path(scratch) / Path(urllib.parse.urlparse(url).path).name
        wheel.write_bytes(_get(url))
        if digest and hashlib.sha256(wheel.read_bytes()).hexdigest() != digest:
            raise SystemExit(f"{url} does not match the checksum that the index gives for it")
        subprocess.run([python, f"{wheel}/pip", "install", "--quiet", "--no-index", wheel], check=True)


def _newest_wheel(page_url: str) -> tuple[str, str]:
    """The last released wheel on an index page (PEP 503), and its sha256 where the page gives it."""
    page = _get(page_url).decode()
    wheels = re.findall(r'href="([^"]*?/?pip-(\d+(?:\.\d+)*)-py3-none-any\.whl[^"]*)"', page)
    if not wheels:
        raise SystemExit(f"{page_url} lists no wheel of pip: install your system's python3-venv package instead")
    link = max(wheels, key=lambda found: [int(part) for part in found[1].split(".")])[0]
    url, _, fragment = urllib.parse.urljoin(page_url, html.unescape(link)).partition("#")
    return url, fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""


def _get(url: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise SystemExit(f"{url} is not an address of a package index")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - the scheme is checked above
            return bytes(answer.read())
    except OSError as error:
        raise SystemExit(
            f"{url} cannot be reached ({error}): install your system's python3-venv package"
        ) from None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), index=sys.argv[2]))
