"""Ports on the loopback address: which are free, and which to take when the usual ones are not."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection, Iterator

from warmline.local.parts import StackError

LOOPBACK = "127.0.0.1"

# Linux hands out 32768 to 60999 to outgoing connections: a server's port must lie below, or somebody's client may
# sit on it after a restart. So must a port's companion 10,000 above.
_LOWEST, _HIGHEST = 10_000, 22_000
_NEAR = 20  # the next free port after a usual one is easier to remember than a random one


class NoFreePort(StackError):
    """No port was free in the range; something on this machine listens on all of them."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """True when a server could listen on this port now."""
    if not 1 <= port <= 65_535:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # Servers set this too: a port whose last connections are still winding down is free for them.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError:
            return False
    return True


def choose_port(
    usual: int | None = None, *, offsets: Collection[int] = (0,), taken: Collection[int] = (), host: str = LOOPBACK
) -> int:
    """A free port: the usual one, else one soon after it, else any.

    Every port at `offsets` from it is free as well, and none of them is in `taken`. Raises NoFreePort.
    """
    for port in _candidates(usual):
        wanted = [port + offset for offset in offsets]
        if not set(wanted) & set(taken) and all(is_free(each, host) for each in wanted):
            return port
    raise NoFreePort(f"No free port was found near {usual}." if usual else "No free port was found.")


def _candidates(usual: int | None) -> Iterator[int]:
    if usual is not None:
        yield from range(usual, usual + _NEAR)
    # Random, so that two stacks that start at the same moment do not look at the same ports in the same order.
    yield from random.sample(range(_LOWEST, _HIGHEST), 500)
