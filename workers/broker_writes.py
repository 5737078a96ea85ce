"""What a worker writes to the broker for each job: as little as the ledger allows.

All children wait for their parent's one loop, and there each request to Redis waits for Redis's disk. Celery makes
four of them for a job: its message is noted as taken, the note is taken away again, and twice the parent tells how
the job gets on.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from kombu.transport import redis as redis_transport
from kombu.transport import virtual

from warmline.jobs.queue import IN_LEDGER

EVENTS_SECONDS = 0.25  # in which what is told to Flower is collected

# kombu's, which have no types: what is done about messages that were taken, noted in Redis or not.
_Noting: Any = redis_transport.QoS
_Unnoted: Any = virtual.QoS


class LedgerQoS(_Noting):  # type: ignore[misc]
    """A channel's messages that were taken and not acknowledged. Those of the ledger's own jobs are not noted.

    The ledger knows that it has sent them until a child claims their jobs, and sends again what is neither claimed
    nor in a queue; from the claim on there is the lease. Others' messages are known nowhere else, and are noted.
    """

    @classmethod
    def take_over(cls, channel: Any) -> None:
        """From now on the channel's messages are treated like this. It has taken none yet."""
        before = channel.qos
        before._on_collect.cancel()
        channel._qos = cls(channel, prefetch_count=before.prefetch_count)

    def append(self, message: Any, delivery_tag: str) -> None:
        """A message was taken."""
        if _is_of_ledger(message):
            _Unnoted.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """It is done with."""
        if self._ledgers(delivery_tag) is None:
            super().ack(delivery_tag)
        else:
            _Unnoted.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """It is done with, or given back."""
        if requeue or self._ledgers(delivery_tag) is None:
            super().reject(delivery_tag, requeue=requeue)
        else:
            _Unnoted.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Puts it back into its queue."""
        message = self._ledgers(tag)
        if message is None:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
            return
        where = message.delivery_info
        with self.channel.conn_or_acquire(client) as open_client:
            # A pipeline, for what Redis refuses is an error then: kombu would log the message, and forget it.
            pipe = open_client.pipeline(transaction=False)
            place = where["exchange"], where["routing_key"]
            self.channel._do_restore_message(message._raw, *place, pipe, leftmost)
            pipe.execute()

    def _ledgers(self, delivery_tag: str) -> Any:
        """The message if it is of the ledger and was taken here, else None."""
        message = self._delivered.get(delivery_tag)
        return message if message is not None and _is_of_ledger(message) else None


def _is_of_ledger(message: Any) -> bool:
    return message.properties.get(IN_LEDGER) is True


def make_event_pace() -> type[Any]:
    """A step of Celery's consumer that has it tell of its jobs a few times a second, and not of each at once."""

    class EventPace(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = ("celery.worker.consumer.events:Events",)

        def start(self, consumer: Any) -> None:
            dispatcher, hub = consumer.event_dispatcher, consumer.hub
            if hub is not None:
                dispatcher.on_send_buffered = Pace(dispatcher, hub).on_event

        def shutdown(self, consumer: Any) -> None:
            if consumer.event_dispatcher is not None:
                consumer.event_dispatcher.flush()  # of the worker's last jobs; raises nothing where Redis is away

    return EventPace


class Pace:
    """Of one dispatcher of events."""

    def __init__(self, dispatcher: Any, hub: Any) -> None:
        self._dispatcher = dispatcher
        self._hub = hub
        self._is_due = False

    def on_event(self) -> None:
        """One more event waits to be told."""
        if not self._is_due:
            self._is_due = True
            self._hub.call_later(EVENTS_SECONDS, self._tell)

    def _tell(self) -> None:
        self._is_due = False
        self._dispatcher.flush()  # raises nothing: what it cannot tell is kept, where it is closed for nobody
