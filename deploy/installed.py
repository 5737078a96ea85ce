"""Which packages an extra of pyproject.toml brings along, as they are installed here."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(extras: Iterable[str], root: str = "warmline") -> dict[str, str]:
    """Name (as PyPI compares them) -> version of all that `root` needs with these extras, itself left out.

    Raises SystemExit where one of them is not installed: half a list would be worse than none.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed: run `make test` or install every extra first") from None
        if name != root:
            found[canonicalize_name(name)] = package.version
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                below = canonicalize_name(needed.name)
                waiting += [(below, each) for each in ("", *needed.extras)]
    return dict(sorted(found.items()))
