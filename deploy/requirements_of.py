"""Prints what extras of pyproject.toml need: `python3 deploy/requirements_of.py worker tracing --without funasr`.

So that an image's dependencies are a layer of their own, which a change of the code leaves as it is. Uses nothing
but the standard library.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path


def requirements_of(pyproject: Path, extras: Sequence[str], without: Sequence[str] = ()) -> list[str]:
    """The project's own dependencies and those of its extras, but for the packages `without`.

    Raises SystemExit for an extra, or a package to leave out, that is not there.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    known = project["optional-dependencies"]
    if unknown := [extra for extra in extras if extra not in known]:
        raise SystemExit(f"{pyproject} has no extra {', '.join(unknown)}; it has {', '.join(known)}")
    listed = [*project["dependencies"], *(line for extra in extras for line in known[extra])]
    names = {line: _name(line) for line in listed}
    if missing := set(without) - set(names.values()):
        raise SystemExit(f"{', '.join(sorted(missing))}: nothing to leave out")
    return [line for line, name in names.items() if name not in without]


def _name(requirement: str) -> str:
    """The package's name: what is before its extras and its versions."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--without", nargs="*", default=[])
    asked = parser.parse_args()
    print("\n".join(requirements_of(Path("pyproject.toml"), asked.extras, asked.without)))
