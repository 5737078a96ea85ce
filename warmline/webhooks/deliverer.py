"""The deliverer: posts what has ended to whoever is to be told, again and again until it is taken.

Many processes have one, one at a time delivers: the holder of a lease in Redis. Nothing that it has to remember is
in its memory: a successor sends again what was under way, under the same webhook-id.

Its connections are many and slow, so that they share one thread's event loop. One slow receiver does not hold up
the others: each has its own share of what may be under way at once.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from config.settings import Settings
from warmline.jobs.deliveries import EVENT_DIGITS, Delivery, DeliveryStatus, Endpoint
from warmline.jobs.delivery_ledger import DeliveryLedger
from warmline.jobs.errors import EndpointNotFound, LedgerUnavailable
from warmline.webhooks.intake import Intake
from warmline.webhooks.outcome import after_try, given_up
from warmline.webhooks.posting import GONE, Answer, make_receivers

log = structlog.get_logger()

HOLD_SECONDS: Final = 3.0  # a deliverer that was killed is followed by another one after this
TRY_SECONDS: Final = 1.0  # between two tries to become the deliverer; the longest sleep of the one that is
BEGIN_SECONDS: Final = 30.0  # how often it says anew what is to be told to whom
TROUBLE_SECONDS: Final = 0.5  # after Redis did not answer
SWITCH_SECONDS: Final = 1.0  # between two tries to switch webhooks off
LAST_POSTS_SECONDS: Final = 1.5  # for which posts that are under way are waited for at the end
STOP_SECONDS: Final = 2.5
LEDGER_THREADS: Final = 4
READY: Final = 32  # of a receiver's deliveries, read at once and posted one after another
NAME_THREADS: Final = 64  # that wait for name servers, at most

_T = TypeVar("_T")


class Deliverer:
    """A thread that delivers while it holds the lease; none where there is nobody to be told."""

    def __init__(
        self, settings: Settings, *, preferred: bool = False, seen: Callable[[str], None] = lambda _: None
    ) -> None:
        """Connects to nothing yet. Raises SettingsError.

        Those that are not preferred stand back while one that is lives. Where there is nobody to be told, one that
        is preferred switches webhooks off. `seen` is told what came of each post: delivered, retried, given_up.
        """
        self._seen = seen
        self._settings = settings.webhooks
        self._preferred = preferred
        self._token = secrets.token_hex(8)
        self._receivers = make_receivers(settings.webhooks)
        self._share = max(1, self._settings.concurrency // max(1, len(self._receivers)))
        self._ledger = DeliveryLedger.connect(settings.redis, settings.jobs)
        self._listen_seconds = min(TRY_SECONDS, settings.redis.timeout_seconds / 2)
        self._intake = Intake(settings, self._ledger)
        self._intake_used = asyncio.Lock()
        self._unforked = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._threads = ThreadPoolExecutor(LEDGER_THREADS, "deliverer")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._held_until = self._begun_at = 0.0
        self._endpoints: dict[str, Endpoint] = {}
        self._pending: dict[str, int] = {}
        self._ready: dict[str, deque[Delivery]] = {receiver_id: deque() for receiver_id in self._receivers}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._dropped = 0

    def start(self) -> None:
        """Starts the thread. Redis need not be there yet."""
        if self._receivers:
            # A child that is forked while another thread holds a lock inherits it, and nobody releases it there.
            os.register_at_fork(
                before=self._unforked.acquire,
                after_in_parent=self._unforked.release,
                after_in_child=self._unforked.release,
            )
        elif not self._preferred:
            return
        work = self._run if self._receivers else self._switch_off
        self._thread = threading.Thread(target=work, name="deliverer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and leaves the lease to others. Posts that are under way get a moment."""
        self._stopping.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._wake.set)
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            with suppress(LedgerUnavailable):
                self._ledger.release(self._token)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._intake.close()
        self._ledger.close()

    def _switch_off(self) -> None:
        """Nobody writes endings down any more, once nobody delivers them: another one may be about to stop."""
        while not self._stopping.is_set():
            with suppress(LedgerUnavailable):
                lost = self._ledger.switch_off()
                if lost is not None:
                    if lost >= 0:
                        log.warning("webhooks_switched_off", endings_not_told=lost)
                    return
            self._stopping.wait(SWITCH_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._deliver_all())
        except Exception:
            log.exception("deliverer_ended")

    async def _deliver_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(NAME_THREADS, "resolver"))
        others = [asyncio.create_task(self._forever(work)) for work in (self._hold, self._listen)]
        await self._forever(self._turn)
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=LAST_POSTS_SECONDS)
        for task in (*others, *self._under_way.values()):
            task.cancel()
        for receiver in self._receivers.values():
            await receiver.close()

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until the end, whatever goes wrong."""
        while not self._stopping.is_set():
            try:
                await work()
            except LedgerUnavailable as error:
                await self._safely(log.warning, "deliverer_waits", error=error.message)
                await asyncio.sleep(TROUBLE_SECONDS)
            except Exception:  # a bug must not keep all events back: it is logged, and tried again
                log.exception("deliverer_failed")
                await asyncio.sleep(TRY_SECONDS)

    # The lease

    async def _hold(self) -> None:
        began = time.monotonic()
        held = await self._safely(self._ledger.hold, self._token, HOLD_SECONDS, preferred=self._preferred)
        if not held:
            self._held_until = 0.0
            await asyncio.sleep(TRY_SECONDS)
            return
        is_new = began >= self._held_until
        self._held_until = began + HOLD_SECONDS
        if is_new or began >= self._begun_at + BEGIN_SECONDS:
            await self._begin()
        self._endpoints = await self._safely(self._ledger.endpoints)
        if is_new:
            self._wake.set()
        await asyncio.sleep(HOLD_SECONDS / 4)

    async def _begin(self) -> None:
        endpoints = [Endpoint(id=receiver.id, url=receiver.shown) for receiver in self._receivers.values()]
        async with self._intake_used:
            if not await self._safely(self._ledger.begin, self._token, self._settings, endpoints):
                self._held_until = 0.0
                return
            await self._safely(self._intake.begin)
        self._begun_at = time.monotonic()
        state = await self._safely(self._ledger.state)
        if state.dropped > self._dropped:
            await self._safely(log.error, "webhooks_endings_dropped", endings_not_told=state.dropped)
        self._dropped = state.dropped

    # What ends

    async def _listen(self) -> None:
        """Wakes the deliverer at each ending."""
        place = await self._safely(self._ledger.last_place)
        while self._is_held():
            # Without the lock: it takes long, and no child uses this connection.
            listen = partial(self._ledger.wait_for_endings, place, self._listen_seconds)
            if await asyncio.get_running_loop().run_in_executor(self._threads, listen):
                place = await self._safely(self._ledger.last_place)
                self._wake.set()
        await asyncio.sleep(TROUBLE_SECONDS)

    async def _turn(self) -> None:
        if not self._is_held():
            for ready in self._ready.values():
                ready.clear()
            await self._sleep(TRY_SECONDS)
            return
        disabled = [endpoint.id for endpoint in self._endpoints.values() if endpoint.disabled_at]
        async with self._intake_used:
            more = await self._safely(self._intake.take_in, self._token, self._pending, disabled)
        seconds = await self._post_due()
        if not more:
            await self._sleep(seconds)

    async def _post_due(self) -> float:
        """Begins to post what is due, as far as there is room; returns when to look again, in seconds."""
        room = {i: 0 if self._ready.setdefault(i, deque()) else READY for i in self._endpoints}
        known = {*self._under_way, *(delivery.id for ready in self._ready.values() for delivery in ready)}
        seconds = TRY_SECONDS
        for endpoint_id, due in (await self._safely(self._ledger.due, room, known)).items():
            self._pending[endpoint_id] = due.pending
            if room[endpoint_id] and due.next_seconds is not None:
                seconds = min(seconds, max(0.01, due.next_seconds))
            self._ready[endpoint_id].extend(due.now)
            self._begin_posts(endpoint_id)
        return seconds

    def _begin_posts(self, endpoint_id: str) -> None:
        """Posts what is ready for an endpoint, up to its share of what may be under way."""
        busy = Counter(delivery_id[EVENT_DIGITS:] for delivery_id in self._under_way)[endpoint_id]
        ready = self._ready[endpoint_id]
        while ready and busy < self._share and self._is_held():
            delivery, busy = ready.popleft(), busy + 1
            self._under_way[delivery.id] = asyncio.create_task(self._deliver(delivery))

    # One delivery

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._try(delivery)
        except Exception:  # it stays due
            log.exception("delivery_crashed", delivery_id=delivery.id)
            await asyncio.sleep(TRY_SECONDS)
        finally:
            del self._under_way[delivery.id]
            self._begin_posts(delivery.endpoint_id)
            if not self._ready[delivery.endpoint_id]:
                self._wake.set()  # more may be due

    async def _try(self, delivery: Delivery) -> None:
        receiver, endpoint = self._receivers.get(delivery.endpoint_id), self._endpoints.get(delivery.endpoint_id)
        delay_seconds = 0.0
        if receiver is None:
            changed = given_up(delivery, _unposted("Its address is not among WARMLINE_WEBHOOKS_URLS any more."))
        elif endpoint is not None and endpoint.disabled_at is not None:
            changed = given_up(delivery, _unposted("The receiver answered 410 Gone before; `enable` it first."))
        else:
            answer = await receiver.post(delivery.webhook_id, delivery.body)
            changed, delay_seconds = after_try(delivery, answer, self._settings)
            if answer.status_code == GONE:
                await self._disable(delivery.endpoint_id)
        if await self._patiently(
            partial(self._ledger.record, self._token, changed, delay_seconds, self._settings)
        ):
            self._seen(_OUTCOMES[changed.status])
            await self._safely(_log_try, changed, delay_seconds)

    async def _disable(self, endpoint_id: str) -> None:
        with suppress(EndpointNotFound):
            disable = partial(self._ledger.set_disabled, endpoint_id, datetime.now(UTC))
            self._endpoints[endpoint_id] = await self._patiently(disable)
        await self._safely(log.error, "webhook_endpoint_disabled", endpoint_id=endpoint_id)

    async def _patiently(self, write: Callable[[], _T]) -> _T:
        """Writes when Redis is back: what was posted is not posted again because of that."""
        while True:
            try:
                return await self._safely(write)
            except LedgerUnavailable:
                await asyncio.sleep(TROUBLE_SECONDS)

    def _is_held(self) -> bool:
        return time.monotonic() < self._held_until and not self._stopping.is_set()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    async def _safely(self, work: Callable[..., _T], *args: Any, **more: Any) -> _T:
        """Does what takes locks, in a thread, while nobody forks."""

        def locked() -> _T:
            with self._unforked:
                return work(*args, **more)

        return await asyncio.get_running_loop().run_in_executor(self._threads, locked)


_OUTCOMES = {
    DeliveryStatus.DELIVERED: "delivered",
    DeliveryStatus.PENDING: "retried",
    DeliveryStatus.FAILED: "given_up",
}


def _unposted(reason: str) -> Answer:
    return Answer(at=datetime.now(UTC), seconds=0.0, error=reason)


def _log_try(delivery: Delivery, delay_seconds: float) -> None:
    last = delivery.tries[-1]
    facts = {
        "delivery_id": delivery.id,
        "type": delivery.event,
        "subject_id": delivery.subject_id,
        "tries": delivery.tries_made,
    }
    match delivery.status:
        case DeliveryStatus.DELIVERED:
            log.info(
                "webhook_delivered", status=last.status_code, milliseconds=round(last.seconds * 1000), **facts
            )
        case DeliveryStatus.PENDING:
            log.warning("webhook_retried", error=last.error, wait_seconds=round(delay_seconds, 1), **facts)
        case DeliveryStatus.FAILED:
            log.error("webhook_given_up", error=last.error, **facts)
