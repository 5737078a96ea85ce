"""Ctrl-C, SIGTERM and SIGHUP, without a moment in which a process could be started and forgotten.

While parts are started and stopped a signal is only noted, and looked at between two steps. While the stack's user
works, it is a KeyboardInterrupt, once.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SAME_WISH_SECONDS = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruptions:
    """Notes signals while the block lasts. Outside the main thread it does nothing: signals go to that one."""

    def __init__(self) -> None:
        self.count = 0
        self._last = float("-inf")  # monotonic seconds
        self._raising = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and means it
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises KeyboardInterrupt when a signal has come."""
        if self.count:
            raise KeyboardInterrupt

    def raise_from_now_on(self) -> None:
        """The next signal raises KeyboardInterrupt wherever the main thread is; one that has come raises now."""
        self._raising = True
        if self.count:
            self._raising = False
            raise KeyboardInterrupt

    def only_note_from_now_on(self) -> None:
        """Signals are noted again."""
        self._raising = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        # A terminal, `make` and a service manager may each pass on one and the same wish.
        now = time.monotonic()
        if now - self._last > _SAME_WISH_SECONDS:
            self.count += 1
        self._last = now
        if self._raising:
            self._raising = False  # once: what cleans up after it must not be torn away
            raise KeyboardInterrupt
