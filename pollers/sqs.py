"""Takes S3's events from an SQS queue until it is told to stop.

A message is deleted when its jobs are in the ledger, and not before: whoever dies in between leaves it to
somebody else. Messages that come twice lead to one job.

While Redis does not answer or the backlog is full, the messages in hand are kept, and no others are taken. So
they wait in SQS, and how often each was received, which is what SQS gives up messages by, stays as it is.

A message that no attempt can mend is left to the queue's own rule for those, its dead letter queue; without one it
comes again, ever more rarely, until SQS forgets it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from config.settings import SqsSettings
from pollers.keeper import InHand, Keeper
from pollers.lots import NOTHING_ENTERED, Settled, settle
from pollers.trouble import Trouble
from warmline.jobs.errors import QueueMisconfigured, QueueUnavailable, StoreUnavailable, WarmlineError
from warmline.objects.sqs import EventQueue, Message, QueueFacts
from warmline.telemetry.tracing import Tracing
from warmline.triggers.intake import Intake

log = structlog.get_logger()

STOP_SECONDS: Final = 30.0  # a request that waits for messages ends within 20
EMPTY_SECONDS: Final = 1.0  # from one request that brought nothing to the next: each costs its owner money


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long is waited, in seconds: the first time, and at most. It doubles in between."""

    ledger: tuple[float, float] = (0.5, 5.0)  # between tries of Redis, or of a full backlog
    queue: tuple[float, float] = (1.0, 30.0)  # between tries of SQS
    store: tuple[float, float] = (1.0, 30.0)  # between lots while the store is away
    # How long a message stays away, by how often it was received:
    later: tuple[int, int] = (30, 900)  # the store is away, or refuses us
    refused: tuple[int, int] = (1, 30)  # on its way into the dead letter queue
    left: tuple[int, int] = (60, 3600)  # there is no dead letter queue
    # Not a wait: a receiver that got on within this, beside the wait for messages, is well.
    well: float = 60.0


class Poller:
    """Threads that take messages from one queue, and one that keeps them hidden meanwhile."""

    def __init__(
        self,
        settings: SqsSettings,
        queue: EventQueue,
        facts: QueueFacts,
        intake: Intake,
        *,
        waits: Waits = Waits(),
        tracing: Tracing | None = None,
    ) -> None:
        """`facts` are what the queue said of itself."""
        self._tracing = tracing or Tracing()
        self._settings = settings
        self._queue = queue
        self._intake = intake
        self._waits = waits
        self._refused_seconds = waits.refused if facts.dead_letter_queue else waits.left
        self._keeper = Keeper(queue, visibility_seconds=settings.visibility_seconds)
        self._trouble = Trouble()
        self._stopping = threading.Event()
        self._well_at = [time.monotonic()] * settings.receivers
        self._receivers = [
            threading.Thread(target=self._run, args=(number,), name=f"receiver-{number}", daemon=True)
            for number in range(settings.receivers)
        ]

    def start(self) -> None:
        """Starts the threads."""
        self._keeper.start()
        self._well_at = [time.monotonic()] * len(self._well_at)
        for receiver in self._receivers:
            receiver.start()

    @property
    def healthy(self) -> bool:
        """Whether every receiver got on lately: SQS answered it, and Redis did not keep what it took."""
        return time.monotonic() - min(self._well_at) < self._settings.wait_seconds + self._waits.well

    def stop(self, *, seconds: float = STOP_SECONDS) -> bool:
        """Takes no more messages, ends what is in hand or gives it back. False: a thread hangs, and is left."""
        self._stopping.set()
        deadline = time.monotonic() + seconds
        for receiver in self._receivers:
            receiver.join(max(0.0, deadline - time.monotonic()))
        self._keeper.stop()
        return not any(receiver.is_alive() for receiver in self._receivers)

    def _run(self, number: int) -> None:
        queue_pauses, store_pauses = _Pauses(self._waits.queue), _Pauses(self._waits.store)
        while not self._stopping.is_set():
            try:
                asked_at = time.monotonic()
                messages = self._queue.receive()
                self._trouble.ends(QueueUnavailable, QueueMisconfigured)
                queue_pauses.reset()
                self._well_at[number] = time.monotonic()
                if not messages:
                    self._stopping.wait(EMPTY_SECONDS - (self._well_at[number] - asked_at))
                elif self._take(messages):
                    store_pauses.reset()
                    self._well_at[number] = time.monotonic()
                else:
                    self._stopping.wait(store_pauses.next())
            except (QueueUnavailable, QueueMisconfigured) as error:
                self._trouble.begins(error)
                self._stopping.wait(queue_pauses.next())
            except Exception:  # a bug must not end the thread: the messages come again
                log.exception("sqs_receiver_failed")
                self._stopping.wait(queue_pauses.next())

    def _take(self, messages: Sequence[Message]) -> bool:
        """Enters the jobs and settles the messages. False: nothing came of them, and the store is to blame."""
        started = time.monotonic()
        facts: dict[str, str | int] = {
            "messaging.system": "aws_sqs",
            "messaging.operation.type": "process",
            "messaging.destination.name": self._queue.name,
            "messaging.batch.message_count": len(messages),
        }
        with self._keeper.keep(messages) as lot, self._tracing.root("events", kind="consumer", attributes=facts):
            settled = self._settle(messages)
            if settled is None:
                lot.give_back(dict.fromkeys(messages, 0))
                log.info("sqs_messages_given_back", messages=len(messages), reason="the process ends")
                return True
            self._finish(lot, settled)
        log.info(
            "sqs_messages_taken",
            messages=len(messages),
            deleted=len(settled.done),
            refused=len(settled.refused),
            later=len(settled.later),
            uploads=dict(settled.uploads),
            skipped=dict(settled.skipped),
            seconds=round(time.monotonic() - started, 3),
        )
        return bool(settled.done or settled.refused)

    def _settle(self, messages: Sequence[Message]) -> Settled | None:
        """What became of the messages. None: the process ends, and nothing did."""
        pauses = _Pauses(self._waits.ledger)
        if self._stopping.is_set():  # what a long wait brought in the end
            return None
        while True:
            try:
                settled = settle(messages, self._intake, self._stopping.is_set)
            except NOTHING_ENTERED as error:
                self._trouble.begins(error)
                if self._stopping.wait(pauses.next()):
                    return None
            else:
                self._trouble.ends(*NOTHING_ENTERED)
                return settled

    def _finish(self, lot: InHand, settled: Settled) -> None:
        """Deletes what is done with and gives back the rest. Raises nothing: what is left hidden comes again."""
        for message, reason in settled.refused.items():
            log.warning("sqs_message_refused", message_id=message.id, reason=reason, receives=message.receives)
        away = _away(settled.refused, self._refused_seconds) | _away(settled.later, self._waits.later)
        if self._stopping.is_set():
            away |= dict.fromkeys(settled.later, 0)
        if settled.later:
            codes = sorted(set(filter(None, settled.later.values())))
            log.warning("sqs_messages_later", messages=len(settled.later), codes=codes or [StoreUnavailable.code])
        self._ask("delete", lambda: lot.delete(settled.done))
        self._ask("hide", lambda: lot.give_back(away))

    def _ask(self, what: str, ask: Callable[[], tuple[Message, ...]]) -> None:
        try:
            left = ask()
        except WarmlineError as error:
            log.warning("sqs_messages_not_settled", what=what, code=error.code, error=error.message)
        else:
            if left:
                log.warning("sqs_messages_not_settled", what=what, message_ids=[message.id for message in left])


class _Pauses:
    """Waits that double; scattered, so that not all come at once."""

    def __init__(self, seconds: tuple[float, float]) -> None:
        self._first, self._longest = seconds
        self._seconds = self._first

    def reset(self) -> None:
        self._seconds = self._first

    def next(self) -> float:
        seconds, self._seconds = self._seconds, min(self._longest, self._seconds * 2)
        return seconds * random.uniform(0.75, 1.25)  # noqa: S311


def _away(messages: Iterable[Message], seconds: tuple[int, int]) -> dict[Message, int]:
    """How long each message is to stay away: longer each time that it comes."""
    first, longest = seconds
    return {message: min(longest, first * 2 ** min(message.receives - 1, 16)) for message in messages}
