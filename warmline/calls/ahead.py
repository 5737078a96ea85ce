"""An iterator that runs ahead of its reader in a thread, by a bounded number of items.

Decoding and the search for speech release Python's lock for most of their time, so they can go on while the engine
scores what was found before.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

_T = TypeVar("_T")


class Ahead(Generic[_T]):
    """The items of an iterator, read ahead while the block lasts.

    At most `limit` items wait to be taken; the iterator holds one more. It runs in a thread that ends with the
    block, however that ends, and that sees the log's context of the thread which opened the block.
    """

    def __init__(self, items: Iterator[_T], *, limit: int) -> None:
        self._items = items
        self._limit = limit
        self._ready: deque[_T] = deque()
        self._changed = threading.Condition()
        self._closed = False  # the reader wants no more
        self._ended = False  # the iterator has no more
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._read,), name="ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()  # the iterator's file is about to be closed
        self._ready.clear()

    def take(self, most: int) -> list[_T]:
        """The next items: those that are ready, `most` of them at most; [] at the end. Waits only for the first.

        Raises what the iterator raised, when all that came before has been taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended)
            taken = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
            self._changed.notify_all()
            if not taken and self._error is not None:
                raise self._error
            return taken

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as error:  # noqa: BLE001  # it is the taker's to handle
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: _T) -> bool:
        """Waits for room. False when nobody wants the item any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._ready) < self._limit)
            if self._closed:
                return False
            self._ready.append(item)
            self._changed.notify_all()
            return True
