"""What keeps a poller from its work is said once when it begins and once when it is over, not at every try."""

from __future__ import annotations

import threading
import time

import structlog

from warmline.jobs.errors import WarmlineError

log = structlog.get_logger()


class Trouble:
    """The troubles that there are. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def begins(self, error: WarmlineError) -> None:
        """This error came; it is said unless one of its kind is known already."""
        with self._lock:
            known = error.code in self._since
            self._since.setdefault(error.code, time.monotonic())
        if not known:
            log.warning("sqs_waits", code=error.code, error=error.message)

    def ends(self, *kinds: type[WarmlineError]) -> None:
        """What can fail in these ways did not."""
        if not self._since:
            return
        for kind in kinds:
            with self._lock:
                since = self._since.pop(kind.code, None)
            if since is not None:
                log.info("sqs_goes_on", code=kind.code, waited_seconds=round(time.monotonic() - since, 1))
