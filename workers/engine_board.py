"""Windows of several calls that wait for one engine, and the next batch of them: in fair turn.

Each client in turn gives one window, so that a call of two hours, whose windows are always waiting, does not hold
one of ten seconds longer than the batch that is under way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from warmline.emotion.engine import Embeddings, Samples, Scores
from warmline.emotion.host_wire import Failed, Scored


@dataclass(eq=False)
class Order:
    """A client's request. `answer` is called once, with all of the scores or with why there are none."""

    windows: Sequence[Samples]
    answer: Callable[[Scored | Failed], None]
    embeddings: bool = False  # are wanted too
    answered: bool = False
    _rows: dict[int, tuple[Scores, Embeddings | None]] = field(default_factory=dict)

    def put(self, index: int, scores: Scores, embedding: Embeddings | None) -> None:
        """What the engine made of one window: (labels,), and (dimensions,) where the order wants it."""
        self._rows[index] = scores, embedding if self.embeddings else None
        if not self.answered and len(self._rows) == len(self.windows):
            self.answered = True
            self.answer(self._all())

    def _all(self) -> Scored:
        rows = [self._rows[place] for place in range(len(self.windows))]
        found = [embedding for _, embedding in rows if embedding is not None]
        return Scored(np.stack([scores for scores, _ in rows]), np.stack(found) if self.embeddings else None)

    def fail(self, failed: Failed) -> None:
        """There will be no scores."""
        if not self.answered:
            self.answered = True
            self.answer(failed)


@dataclass(frozen=True)
class Piece:
    """One window of an order."""

    order: Order
    index: int

    @property
    def samples(self) -> Samples:
        """(samples,)"""
        return self.order.windows[self.index]


class Board:
    """Orders by client. Any thread may add and remove, one takes."""

    def __init__(self) -> None:
        self._waiting: dict[object, deque[Piece]] = {}
        self._turns: deque[object] = deque()  # clients with waiting windows, the next one first
        self._changed = threading.Condition()
        self._closed = False

    def add(self, client: object, order: Order) -> None:
        """The order's windows wait behind those that the client has sent before."""
        with self._changed:
            pieces = self._waiting.setdefault(client, deque())
            if not pieces:
                self._turns.append(client)
            pieces.extend(Piece(order, index) for index in range(len(order.windows)))
            self._changed.notify_all()

    def remove(self, client: object) -> None:
        """The client has gone; nobody waits for its windows any more."""
        with self._changed:
            if self._waiting.pop(client, None):
                self._turns.remove(client)

    def take(self, most: int) -> list[Piece]:
        """The next batch: a window of each client in turn, `most` at most. Waits for the first; [] at the end."""
        with self._changed:
            taken: list[Piece] = []
            while not taken:
                self._changed.wait_for(lambda: self._turns or self._closed)
                if self._closed:
                    return []
                while self._turns and len(taken) < most:
                    taken += self._next_of(self._turns.popleft())
            return taken

    def close(self) -> None:
        """Ends the taker's wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next_of(self, client: object) -> list[Piece]:
        """The client's next window, unless it is of an order that has failed meanwhile."""
        pieces = self._waiting[client]
        piece = pieces.popleft()
        while piece.order.answered and pieces:
            piece = pieces.popleft()
        if pieces:
            self._turns.append(client)
        return [] if piece.order.answered else [piece]
