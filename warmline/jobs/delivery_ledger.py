"""What the deliverer and those who look at its log do in Redis."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from config.settings import WebhooksSettings
from warmline.jobs import delivery_scripts, keys, line_scripts
from warmline.jobs.connection import Connection, redis_answers
from warmline.jobs.deliveries import (
    Delivery,
    DeliveryStatus,
    EndedJob,
    Ending,
    Endpoint,
    WebhooksState,
    pack,
    unpack,
)
from warmline.jobs.errors import DeliveryNotFound, EndpointNotFound
from warmline.jobs.records import Job, ReportLocation
from warmline.jobs.rows import milliseconds

CHUNK = 1000

_Place = tuple[int, str]  # time of the event in ms and delivery id: the order of listings, newest first


@dataclass(frozen=True, kw_only=True)
class Due:
    """What an endpoint is to get."""

    now: Sequence[Delivery]
    next_seconds: float | None  # until the next one is due; None: there is none
    pending: int


class DeliveryLedger(Connection):
    """The part of the ledger that knows who was told. Every method raises LedgerUnavailable."""

    # Who delivers

    @redis_answers()
    def hold(self, token: str, seconds: float, *, preferred: bool) -> bool:
        """Whether this one is the deliverer, for so long from now. Others stand back for one that is preferred."""
        return bool(self._run(line_scripts.HOLD_DELIVERER, token, int(seconds * 1000), int(preferred)))

    @redis_answers()
    def release(self, token: str) -> None:
        """Leaves it to others."""
        self._run(line_scripts.LEAVE_DELIVERER, token)

    @redis_answers()
    def begin(self, token: str, settings: WebhooksSettings, endpoints: Collection[Endpoint]) -> bool:
        """From now on the scripts write down what is to be told, for these endpoints.

        False: another one delivers.
        """
        rows = [text for endpoint in endpoints for text in (endpoint.id, _row(endpoint))]
        events = settings.events
        return bool(self._run(delivery_scripts.BEGIN, token, len(events), *events, settings.max_waiting, *rows))

    @redis_answers()
    def switch_off(self) -> int | None:
        """Nobody is to be told any more; how many endings nobody was told of. None: somebody delivers.

        -1 where it was off already.
        """
        waiting = int(self._run(delivery_scripts.SWITCH_OFF))
        return None if waiting == -1 else max(waiting, -1)

    # From endings to deliveries

    @redis_answers()
    def last_place(self) -> str:
        """The newest ending's place; the place before all others where there is none."""
        last = self._redis.xrevrange(keys.ENDINGS, count=1)
        return str(last[0][0]) if last else "0-0"

    @redis_answers()
    def wait_for_endings(self, after: str, seconds: float) -> bool:
        """Returns when there are endings after this place, or when the time is over: then False."""
        return bool(self._redis.xread({keys.ENDINGS: after}, count=1, block=int(seconds * 1000)))

    @redis_answers()
    def cursors(self) -> dict[str, str]:
        """Endpoint id -> the place of the last ending that it has its delivery of."""
        found: dict[str, str] = self._redis.hgetall(keys.CURSORS)
        return found

    @redis_answers()
    def endings_after(self, place: str, limit: int) -> list[Ending]:
        """The oldest ones after this place."""
        rows = self._redis.xrange(keys.ENDINGS, min=f"({place}", count=limit)
        return [Ending(place=at, event=row["event"], subject_id=row["id"], more=row["more"]) for at, row in rows]

    @redis_answers()
    def ended_jobs(self, job_ids: Sequence[str]) -> list[EndedJob]:
        """What is known of these jobs now, in this order."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), "job", "report")
                pipe.strlen(keys.report(job_id))
            answers = pipe.execute()
        return [
            EndedJob(
                job=job and Job.read(job),
                report=location and ReportLocation.read(location),
                report_bytes=size,
            )
            for (job, location), size in zip(answers[::2], answers[1::2], strict=True)
        ]

    @redis_answers()
    def reports(self, job_ids: Sequence[str]) -> list[str | None]:
        """The reports that Redis keeps of these jobs, in this order: all at once in memory."""
        found: list[str | None] = self._redis.mget([keys.report(job_id) for job_id in job_ids])
        return found

    @redis_answers()
    def add(self, token: str, endpoint_id: str, place: str, deliveries: Sequence[Delivery]) -> bool:
        """Enters an endpoint's deliveries of the endings up to this place. False: another one delivers."""
        rows = [arg for d in deliveries for arg in (d.id, milliseconds(d.created_at), pack(d))]
        return bool(self._run(delivery_scripts.ADD, token, endpoint_id, place, *rows))

    # What is to be posted, and what came of it

    @redis_answers()
    def due(self, room: Mapping[str, int], under_way: Collection[str]) -> dict[str, Due]:
        """For each endpoint, at most so many as there is room for of what is due and not under way."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for endpoint_id, most in room.items():
                pipe.zrange(keys.due(endpoint_id), 0, most + len(under_way), withscores=True)
                pipe.zcard(keys.due(endpoint_id))
            (seconds, micros), *answers = pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        found = {}
        for endpoint_id, rows, pending in zip(room, answers[::2], answers[1::2], strict=True):
            waiting = [(delivery_id, at) for delivery_id, at in rows if delivery_id not in under_way]
            ids = [delivery_id for delivery_id, at in waiting if at <= now_ms][: room[endpoint_id]]
            later = [at for _, at in waiting if at > now_ms]
            found[endpoint_id] = Due(
                now=self._unpacked(ids, endpoint_id),
                next_seconds=(later[0] - now_ms) / 1000 if later else None,
                pending=pending,
            )
        return found

    def _unpacked(self, ids: Sequence[str], endpoint_id: str) -> list[Delivery]:
        found = self._found(ids)
        if lost := [delivery_id for delivery_id in ids if delivery_id not in found]:
            self._redis.zrem(
                keys.due(endpoint_id), *lost
            )  # the log forgot them while they waited to be redelivered
        return list(found.values())

    @redis_answers()
    def record(self, token: str, delivery: Delivery, delay_seconds: float, settings: WebhooksSettings) -> bool:
        """Writes what came of a try; a pending one is tried again after so long. False: another one delivers."""
        return bool(
            self._run(
                delivery_scripts.RECORD,
                *(token, delivery.id, pack(delivery), delivery.status.value, milliseconds(delivery.created_at)),
                *(int(delay_seconds * 1000), settings.retention_seconds, settings.max_log),
            )
        )

    # For people

    @redis_answers()
    def state(self) -> WebhooksState:
        """Who is told of what, and how far that is."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hkeys(keys.LISTENED)
            pipe.xlen(keys.ENDINGS)
            pipe.get(keys.DROPPED)
            for status in DeliveryStatus:
                pipe.zcard(keys.deliveries(status))
            pipe.exists(keys.DELIVERER)
            events, waiting, dropped, *counts, delivering = pipe.execute()
        return WebhooksState(
            events=tuple(sorted(events)),
            endpoints=tuple(self.endpoints().values()),
            delivering=bool(delivering),
            waiting=waiting,
            dropped=int(dropped or 0),
            **{status.value: count for status, count in zip(DeliveryStatus, counts, strict=True)},
        )

    @redis_answers()
    def endpoints(self) -> dict[str, Endpoint]:
        """The addresses that are told, by id, and those that something is still due for."""
        rows = self._redis.hgetall(keys.ENDPOINTS)
        with self._redis.pipeline(transaction=False) as pipe:
            for endpoint_id in rows:
                pipe.zcard(keys.due(endpoint_id))
            pending = pipe.execute()
        return {
            endpoint_id: Endpoint.read(row).model_copy(update={"pending": count})
            for (endpoint_id, row), count in zip(sorted(rows.items()), pending, strict=True)
        }

    @redis_answers()
    def set_disabled(self, endpoint_id: str, at: datetime | None) -> Endpoint:
        """Has an endpoint get nothing from now on, or all that comes (None). Raises EndpointNotFound."""
        endpoint = self.endpoints().get(endpoint_id)
        if endpoint is not None:
            endpoint = endpoint.model_copy(update={"disabled_at": at})
        if endpoint is None or not self._run(delivery_scripts.CHANGE_ENDPOINT, endpoint_id, _row(endpoint)):
            raise EndpointNotFound
        return endpoint

    @redis_answers()
    def get(self, delivery_id: str) -> Delivery:
        """One delivery. Raises DeliveryNotFound."""
        found = self._found([delivery_id])
        if not found:
            raise DeliveryNotFound
        return found[delivery_id]

    @redis_answers()
    def list(
        self, *, status: DeliveryStatus | None = None, limit: int = 100, before: str | None = None
    ) -> tuple[Delivery, ...]:
        """The newest events first, at most `limit`. `before` is the id of the last one of the page before.

        Raises DeliveryNotFound when the log has forgotten that one.
        """
        statuses = tuple(DeliveryStatus) if status is None else (status,)
        after = None if before is None else (milliseconds(self.get(before).created_at), before)
        places = heapq.merge(*(self._places(one, after) for one in statuses), reverse=True)
        found: dict[str, Delivery] = {}
        while len(found) < limit and (ids := [i for _, i in islice(places, limit)]):
            # One that moved on while we read is in two listings.
            fresh = self._found([delivery_id for delivery_id in ids if delivery_id not in found])
            found |= {i: delivery for i, delivery in fresh.items() if delivery.status in statuses}
        return tuple(islice(found.values(), limit))

    def _places(self, status: DeliveryStatus, after: _Place | None) -> Iterator[_Place]:
        start = 0
        while rows := self._redis.zrange(
            keys.deliveries(status), "+inf" if after is None else after[0], "-inf",
            desc=True, byscore=True, offset=start, num=CHUNK, withscores=True,
        ):  # fmt: skip
            start += CHUNK
            places = ((int(score), str(delivery_id)) for delivery_id, score in rows)
            yield from (place for place in places if after is None or place < after)

    @redis_answers()
    def redeliver(self, delivery_id: str) -> Delivery:
        """Has a delivery tried now, whatever became of it. Raises DeliveryNotFound, EndpointNotFound."""
        delivery = self.get(delivery_id)
        if not self._run(delivery_scripts.REDELIVER, delivery_id):
            raise EndpointNotFound("The address of this delivery is not among WARMLINE_WEBHOOKS_URLS any more.")
        return delivery

    @redis_answers()
    def redeliver_failed(self, since: datetime | None = None) -> int:
        """Has all tried now that were given up, or those of events since then; returns how many."""
        least = "-inf" if since is None else milliseconds(since)
        ids = self._redis.zrange(keys.deliveries(DeliveryStatus.FAILED), least, "+inf", byscore=True)
        chunks = (ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))
        return sum(int(self._run(delivery_scripts.REDELIVER, *chunk)) for chunk in chunks)

    def _found(self, ids: Sequence[str]) -> dict[str, Delivery]:
        if not ids:
            return {}
        packed = self._redis.mget([keys.delivery(delivery_id) for delivery_id in ids])
        return {i: unpack(i, text) for i, text in zip(ids, packed, strict=True) if text is not None}


def _row(endpoint: Endpoint) -> str:
    return endpoint.model_dump_json(exclude={"pending"})
