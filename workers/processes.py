"""Whether a process of this machine lives."""

from __future__ import annotations

import psutil


def is_alive(pid: int) -> bool:
    """False also for one that has ended and that nobody has asked for yet: in a container that may stay so."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
