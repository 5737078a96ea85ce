"""Messages in hand stay hidden from others for as long as it takes.

SQS hides what was taken for a time, then gives it to somebody else. While Redis or the store are slow that time
may not be enough, so it is renewed, three times within it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from warmline.jobs.errors import WarmlineError
from warmline.objects.sqs import EventQueue, Message

log = structlog.get_logger()

STOP_SECONDS = 5.0


class InHand:
    """Messages that somebody works on. What is settled of them is not hidden again."""

    def __init__(self, queue: EventQueue, messages: Iterable[Message]) -> None:
        self._queue = queue
        self._messages = set(messages)
        self._turn = threading.Lock()  # a renewal that lands after a release would undo it

    def delete(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Deletes these. Returns those that SQS would not delete. Raises QueueUnavailable, QueueMisconfigured."""
        self._let_go(messages)
        return self._queue.delete(messages)

    def give_back(self, seconds: dict[Message, int]) -> tuple[Message, ...]:
        """Others can take these in so many seconds. Returns those that are not ours any more. Raises so, too."""
        self._let_go(seconds)
        return self._queue.hide(seconds)

    def renew(self, seconds: int) -> tuple[Message, ...]:
        """Hides what is left for so long from now. Returns those that are not ours any more. Raises so, too."""
        with self._turn:
            return self._queue.hide(dict.fromkeys(self._messages, seconds))

    def give_back_all(self) -> int:
        """Others can take what is left at once; says how many messages that is. Raises so, too."""
        with self._turn:
            left, self._messages = self._messages, set()
        self._queue.hide(dict.fromkeys(left, 0))
        return len(left)

    def _let_go(self, messages: Iterable[Message]) -> None:
        with self._turn:
            self._messages.difference_update(messages)


class Keeper:
    """A thread that renews what is in hand."""

    def __init__(self, queue: EventQueue, *, visibility_seconds: int) -> None:
        self._queue = queue
        self._seconds = visibility_seconds
        self._lock = threading.Lock()
        self._lots: set[InHand] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and gives back what is still in hand."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        with self._lock:
            lots = tuple(self._lots)
        for lot in lots:
            try:
                log.warning("sqs_messages_given_back", messages=lot.give_back_all(), reason="the process ends")
            except WarmlineError as error:
                log.warning("sqs_messages_left_hidden", code=error.code, error=error.message)

    @contextmanager
    def keep(self, messages: Sequence[Message]) -> Iterator[InHand]:
        """These messages are in hand while the block lasts."""
        lot = InHand(self._queue, messages)
        with self._lock:
            self._lots.add(lot)
        try:
            yield lot
        finally:
            with self._lock:
                self._lots.discard(lot)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds / 3):
            with self._lock:
                lots = tuple(self._lots)
            for lot in lots:
                self._renew(lot)

    def _renew(self, lot: InHand) -> None:
        # What fails is tried at the next turn. Too late, others have the messages, which leads to no second job.
        try:
            lost = lot.renew(self._seconds)
        except WarmlineError as error:
            log.warning("sqs_messages_not_kept", code=error.code, error=error.message)
        except Exception:  # a bug must not end the thread
            log.exception("sqs_messages_not_kept")
        else:
            if lost:
                log.warning("sqs_messages_not_kept", message_ids=[message.id for message in lost])
