"""Whether a poller gets on, for who asks from outside: a file that says until when it counts as alive.

`python -m pollers.alive FILE` is a container's health check; it loads nothing, because it is run again and again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

ALIVE_SECONDS: Final = 15.0  # how long one beat counts


def beat(file: Path) -> None:
    """Writes the file, in one go. Raises OSError."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(str(time.time() + ALIVE_SECONDS))
    new.replace(file)


def is_alive(file: Path) -> bool:
    """Whether a poller wrote the file lately."""
    try:
        return time.time() < float(file.read_text())
    except (OSError, ValueError):
        return False


def main() -> int:
    """Exit code 0: alive. 1: not. 2: no file was named."""
    if len(sys.argv) != 2:
        print("usage: python -m pollers.alive FILE", file=sys.stderr)
        return 2
    if is_alive(Path(sys.argv[1])):
        return 0
    print("The poller takes no messages; its log says why.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
