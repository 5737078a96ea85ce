"""Which messages a worker may take now: as many as warm children are free, and live ones while others wait.

A worker that serves the live lane and another has children beside its planned ones. So that they are free for live
jobs, no more jobs of other lanes are taken than there are planned children.

Celery asks Redis with one BRPOP a channel, which answers with one message or, after a second, with none. While
there is room for any job the consumer's own channel asks for all lanes, live first. Where the others' share is
used up a second channel asks for live jobs alone: were it the same one, the end of another job could be followed
by the next only when that question was over. A question that is under way counts as a job, for its answer must be
taken: Redis has forgotten that message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty
from typing import Any

from celery import bootsteps
from celery.worker import state as celery_state

from warmline.jobs.queue import QUEUES
from workers.broker_writes import LedgerQoS
from workers.messages import drop_unreadable

LIVE_QUEUE = QUEUES["live"]


class LiveFirst:
    """The order in which kombu asks for queues, its transport option `queue_order_strategy`."""

    def __init__(self) -> None:
        self._live: list[str] = []
        self._others: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """These are consumed from now."""
        names = list(queues)
        self._live = [name for name in names if name == LIVE_QUEUE]
        kept = [name for name in self._others if name in names]
        self._others = kept + [name for name in names if name != LIVE_QUEUE and name not in kept]

    def consume(self, count: int) -> list[str]:
        """Their names, the one to be looked at first first."""
        return (self._live + self._others)[:count]

    def rotate(self, last_used: str) -> str:
        """A message came from this queue: of those that are not live another one is first next time."""
        if last_used in self._others:
            self._others.remove(last_used)
            self._others.append(last_used)
        return last_used


def count_taken() -> tuple[int, int]:
    """(jobs of other lanes than live, all jobs) that this worker has taken and not finished."""
    requests = celery_state.reserved_requests | celery_state.active_requests
    live = sum(request.delivery_info.get("routing_key") == LIVE_QUEUE for request in requests)
    return len(requests) - live, len(requests)


class Intake:
    """Two channels of one connection, and when each of them may ask."""

    def __init__(self, warm: Callable[[], int], others_share: int, any_lane: Any, live_lane: Any | None) -> None:
        self._warm = warm  # how many children can take a job now
        self._others_share = others_share
        self._any_lane = any_lane
        self._live_lane = live_lane

    def limit(self) -> None:
        """From now on the channels ask only when there is room. kombu looks before each of its polls."""
        within_prefetch = self._any_lane.qos.can_consume
        self._any_lane.qos.can_consume = lambda: bool(within_prefetch() and self.may_ask_any())
        if self._live_lane is not None:
            self._live_lane.qos.can_consume = self.may_ask_live

    def may_ask_any(self) -> bool:
        """Whether a job of any lane may come, or its message is under way."""
        others, jobs = count_taken()
        room = others < self._others_share and jobs + self._live_asks < self._warm()
        return self._any_asks or room

    def may_ask_live(self) -> bool:
        """Whether a live job may come that the other question does not cover."""
        others, jobs = count_taken()
        room = others >= self._others_share and not self._any_asks and jobs < self._warm()
        return self._live_asks or room

    @property
    def _any_asks(self) -> bool:
        return bool(self._any_lane._in_poll)

    @property
    def _live_asks(self) -> bool:
        return self._live_lane is not None and bool(self._live_lane._in_poll)


def make_limit(warm: Callable[[], int], *, reserved: int) -> type[Any]:
    """A step of Celery's consumer that has it ask for messages only while there is room for them.

    `warm` counts the children that can take a job now; `reserved` is how many are kept for live jobs.
    """

    class LaneLimit(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            self._live_consumer: Any = None

        def start(self, consumer: Any) -> None:
            self._live_consumer = _consume_live(consumer) if reserved else None
            live_lane = self._live_consumer.channel if reserved else None
            any_lane = consumer.task_consumer.channel
            for channel in (any_lane, live_lane):
                if channel is not None:
                    LedgerQoS.take_over(channel)
                    drop_unreadable(channel)
            share = max(1, consumer.controller.concurrency - reserved)
            Intake(warm, share, any_lane, live_lane).limit()

        def stop(self, consumer: Any) -> None:
            _stop_asking(consumer, [consumer.task_consumer, self._live_consumer])
            self._live_consumer = None

    return LaneLimit


def _consume_live(consumer: Any) -> Any:
    """A consumer of the live lane on a channel of its own; what it receives goes the way of all messages."""

    def deliver(message: Any) -> Any:
        return consumer.task_consumer.on_message(message)  # which is set when Celery's loop begins

    live = consumer.app.amqp.Consumer(
        consumer.connection.channel(),
        [consumer.app.amqp.queues[LIVE_QUEUE]],
        accept=consumer.app.conf.accept_content,
        auto_declare=False,
        on_message=deliver,
        on_decode_error=consumer.on_decode_error,
    )
    live.consume()
    return live


def _stop_asking(consumer: Any, consumers: list[Any]) -> None:
    """Takes the answers to what was asked and gives them back: other workers may want those jobs meanwhile."""
    # Without a connection the messages are lost to the broker too: the ledger sends them again.
    gone = (*consumer.connection_errors, *consumer.channel_errors, AttributeError, OSError)
    for each in consumers:
        with suppress(*gone):
            each.cancel()
            if each.channel._in_poll:
                with suppress(Empty):
                    each.channel._brpop_read()  # nobody consumes any more, so that kombu puts the message back
