"""Free ports for tests that run side by side: nobody gets one that another chose and has not bound yet.

A server binds its port a second after it was chosen, on a busy machine ten; and some tests want a port on which
nobody listens. So each of pytest-xdist's processes has ports of its own, and gives each away once.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from warmline.local import ports
from warmline.local.seaweedfs import SeaweedfsPorts

PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
OWN = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
OTHERS = frozenset(port for port in range(10_000, 22_000) if port % PROCESSES != OWN)  # where free ones are chosen

_given: set[int] = set()


def choose_port(*, offsets: Collection[int] = (0,), taken: Collection[int] = ()) -> int:
    """A free port; every port at `offsets` from it is free as well, and none of them is in `taken`."""
    port = ports.choose_port(offsets=offsets, taken=OTHERS | _given | set(taken))
    _given.update(port + offset for offset in offsets)
    return port


def choose_seaweedfs_ports() -> SeaweedfsPorts:
    """Free ports for one SeaweedFS."""
    chosen = SeaweedfsPorts.choose(taken=OTHERS | _given)
    _given.update(vars(chosen).values())
    return chosen
