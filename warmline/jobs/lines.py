"""The lines in which jobs wait, a turn at a time: whose jobs are next, and how many messages there is room for.

The batches of a lane are served in turn, a job each, whatever their size; jobs that came alone are one line among
them. Jobs that are tried again have a queue of their own, so that they do not hold up what is new.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, get_args

from config.settings import Settings
from warmline.jobs import keys, line_scripts
from warmline.jobs.batch_ids import job_id_of
from warmline.jobs.connection import make_client, redis_answers
from warmline.jobs.fleet import Fleet
from warmline.jobs.queue import QUEUES, RETRY_QUEUE, UNACKED, Messages, job_id_of_message, job_id_of_unacked
from warmline.jobs.records import Job, Lane
from warmline.jobs.rows import WAITING_FIELDS, WaitingBatch, milliseconds

FLEET_SECONDS = 1.0  # how old the knowledge of the warm children may be
MOST_AT_ONCE = 500  # messages to one queue in one turn
MOST_LINES = 200  # that are looked at in one turn
MOST_MESSAGES = 10_000  # of a queue that are looked through for a lost one; it is short unless others fill it
LANES: tuple[Lane, ...] = get_args(Lane)
DELAYED, AGAIN = "delayed", "again"  # lines of FEED beside batches and keys.SINGLES_LINE


@dataclass(frozen=True, kw_only=True)
class Sending:
    """A job that is to be sent: FEED's arguments for it."""

    line: str
    job_id: str
    place: int | str
    job: Job | None  # None: it is gone, and only taken out of its line
    queue: str


class Lines(Fleet):
    """What the feeder sees and does. Every method raises LedgerUnavailable."""

    def __init__(self, settings: Settings, token: str) -> None:
        super().__init__(make_client(settings.redis), settings.jobs)
        self._messages = Messages.of(settings)
        self._token = token
        self._bell: Any = None
        self._children: Counter[str] = Counter()  # queue -> warm children that take from it
        self._counted_at = -FLEET_SECONDS
        self._next_retry_seconds = FLEET_SECONDS

    # Who feeds

    @redis_answers()
    def hold(self, seconds: float, *, preferred: bool = False) -> bool:
        """Whether this is the feeder, for so long from now. Others stand back for one that is preferred."""
        return bool(self._run(line_scripts.HOLD_FEEDER, self._token, int(seconds * 1000), int(preferred)))

    @redis_answers()
    def release(self) -> None:
        """Leaves it to others to feed."""
        self._run(line_scripts.LEAVE_FEEDER, self._token)

    @redis_answers()
    def listen(self) -> None:
        """From now on the bell is heard, also while nobody waits for it."""
        if self._bell is None:
            bell = self._redis.pubsub(ignore_subscribe_messages=True)
            bell.subscribe(keys.BELL)
            self._bell = bell

    @redis_answers()
    def ring(self) -> None:
        """Rings the bell."""
        self._redis.publish(keys.BELL, "")

    @redis_answers()
    def wait_for_bell(self) -> None:
        """Returns when it has rung since the last call, or when there may be something to do without that."""
        seconds = min(FLEET_SECONDS, self._next_retry_seconds)
        if self._heard(seconds):
            while self._heard(0.0):
                pass

    def deafen(self) -> None:
        """Closes the bell's connection; `listen` opens another one."""
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def _heard(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            # It returns None for the answer to SUBSCRIBE, too.
            if self._bell.get_message(timeout=max(0.0, deadline - time.monotonic())) is not None:
                return True
            if time.monotonic() >= deadline:
                return False

    # A turn

    @redis_answers()
    def feed(self) -> int:
        """Sends what there is room for; returns how many jobs. -1: somebody else is the feeder now."""
        self._count_children()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys.HELD, 0, 0, withscores=True)
            pipe.time()
            pipe.zrange(keys.DELAYED, 0, MOST_AT_ONCE, withscores=True)
            for queue in (RETRY_QUEUE, *QUEUES.values()):
                pipe.llen(f"{keys.BROKER}{queue}")
            for lane in LANES:
                pipe.lrange(keys.turn(lane), 0, MOST_LINES - 1)
            held, (seconds, micros), delayed, *rest = pipe.execute()
        lengths, turns = rest[: 1 + len(LANES)], rest[1 + len(LANES) :]
        now_ms = seconds * 1000 + micros // 1000
        sent = self._send("", self._due(delayed, now_ms, self._room(RETRY_QUEUE, lengths[0])))
        self._release(held, now_ms)
        for lane, length, lines in zip(LANES, lengths[1:], turns, strict=True):
            if sent >= 0 and lines:
                more = self._send(lane, self._next_in(lane, lines, self._room(QUEUES[lane], length)))
                sent = more if more < 0 else sent + more
        return sent

    def _release(self, held: Sequence[tuple[str, float]], now_ms: int) -> None:
        """Lets what was held back and is due now into its line, for the next turn: the bell rings for it."""
        for _, due_ms in held:
            if due_ms <= now_ms:
                self._run(line_scripts.RELEASE, MOST_AT_ONCE)
            else:
                self._next_retry_seconds = min(self._next_retry_seconds, max(0.01, (due_ms - now_ms) / 1000))

    def _wanted(self, queue: str) -> int:
        return self._jobs.runway * max(1, self._children[queue])

    def _room(self, queue: str, length: int) -> int:
        # Filled up when half of it is gone: with short jobs a turn for each would cost more than the job itself.
        wanted = self._wanted(queue)
        return min(MOST_AT_ONCE, wanted - length) if length <= wanted // 2 else 0

    def _count_children(self) -> None:
        if time.monotonic() - self._counted_at < FLEET_SECONDS:
            return
        self._counted_at = time.monotonic()
        self._children.clear()
        for worker in self.workers():
            for queue in (RETRY_QUEUE, *(QUEUES[lane] for lane in worker.lanes)):
                self._children[queue] += len(worker.warm)
        # So that who claims a job does not ring for nothing.
        self._redis.hset(keys.LOW, mapping={lane: self._wanted(QUEUES[lane]) // 2 for lane in LANES})

    def _due(self, delayed: Sequence[tuple[str, float]], now_ms: int, room: int) -> list[Sending]:
        later = [due for _, due in delayed if due > now_ms]
        self._next_retry_seconds = max(0.01, (later[0] - now_ms) / 1000) if later else FLEET_SECONDS
        ids = [job_id for job_id, due in delayed if due <= now_ms][:room]
        return [
            Sending(line=DELAYED, job_id=i, place=0, job=job, queue=RETRY_QUEUE)
            for i, job in self._jobs_of(ids).items()
        ]

    def _next_in(self, lane: Lane, lines: Sequence[str], room: int) -> list[Sending]:
        """The next jobs of a lane, a job from each of its lines in turn."""
        if room == 0:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lrange(keys.singles(lane), 0, room - 1)
            batch_ids = [line for line in lines[:room] if line != keys.SINGLES_LINE]
            for batch_id in batch_ids:
                pipe.hmget(keys.batch(batch_id), WAITING_FIELDS)
            singles, *rows = pipe.execute()
        batches = {i: WaitingBatch(i, row) for i, row in zip(batch_ids, rows, strict=True) if row[0] is not None}
        waiting = {line: batch.total - batch.cursor for line, batch in batches.items()}
        waiting[keys.SINGLES_LINE] = len(singles)
        order = list(islice(_in_turn(lines[:room], waiting), room))
        return self._sendings(QUEUES[lane], order, batches, singles)

    def _sendings(
        self, queue: str, order: Sequence[str], batches: Mapping[str, WaitingBatch], singles: Sequence[str]
    ) -> list[Sending]:
        counts = Counter(order)
        singles = singles[: counts.pop(keys.SINGLES_LINE, 0)]
        places = {batch_id: batches[batch_id].cursor for batch_id in counts}
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id, first in places.items():
                pipe.lrange(keys.calls(batch_id), first, first + counts[batch_id] - 1)
            calls = {i: iter(found) for i, found in zip(places, pipe.execute(), strict=True)}
        # One that was claimed before its turn, and then replayed, stands there twice.
        alone, jobs = iter(singles), self._jobs_of(singles)
        sendings: list[Sending] = []
        for line in order:
            if line == keys.SINGLES_LINE:
                job_id = next(alone)
                sendings.append(Sending(line=line, job_id=job_id, place=0, job=jobs[job_id], queue=queue))
                continue
            place = places[line]
            places[line] += 1
            job = batches[line].job(place, next(calls[line]))
            sendings.append(Sending(line=line, job_id=job_id_of(line, place), place=place, job=job, queue=queue))
        return sendings

    def _jobs_of(self, job_ids: Sequence[str]) -> dict[str, Job | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(keys.job(job_id), "job")
            texts: list[str | None] = pipe.execute()
        return {
            job_id: None if text is None else Job.read(text) for job_id, text in zip(job_ids, texts, strict=True)
        }

    def _send(self, lane: Lane | str, sendings: Iterable[Sending]) -> int:
        args = [arg for sending in sendings for arg in self._arguments(sending)]
        return int(self._run(line_scripts.FEED, self._token, lane, *args)) if args else 0

    def _arguments(self, sending: Sending) -> tuple[str | int, ...]:
        job = sending.job
        text, created_ms, message = "", 0, ""
        if job is not None:
            text, created_ms = job.model_dump_json(), milliseconds(job.created_at)
            message = self._messages.write(job, sending.queue)
        list_key = f"{keys.BROKER}{sending.queue}"
        return sending.line, sending.job_id, sending.place, text, created_ms, list_key, message

    # What the queues forgot

    @redis_answers()
    def sent_before(self, seconds: float) -> dict[str, str]:
        """Jobs that were sent longer ago and that nobody has claimed: id -> when, as the ledger writes it."""
        whole_seconds, micros = self._redis.time()
        latest_ms = whole_seconds * 1000 + micros // 1000 - int(seconds * 1000)
        rows = self._redis.zrange(keys.SENT, "-inf", latest_ms, byscore=True, offset=0, num=1000, withscores=True)
        return {job_id: f"{score:.0f}" for job_id, score in rows}

    @redis_answers()
    def in_queues(self) -> set[str] | None:
        """The jobs that have a message, waiting or with a worker; None when there are too many to look through."""
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in (RETRY_QUEUE, *QUEUES.values()):
                pipe.lrange(f"{keys.BROKER}{queue}", 0, MOST_MESSAGES)
            pipe.hvals(UNACKED)
            *queues, unacked = pipe.execute()
        if any(len(messages) > MOST_MESSAGES for messages in queues):
            return None
        taken = (job_id_of_unacked(text) for text in unacked)
        waiting = (job_id_of_message(text) for messages in queues for text in messages)
        return {job_id for job_id in (*taken, *waiting) if job_id is not None}

    @redis_answers()
    def send_again(self, lost: Mapping[str, str]) -> int:
        """Sends jobs whose messages are gone (id -> when they were sent); returns how many."""
        sendings = [
            Sending(line=AGAIN, job_id=i, place=lost[i], job=job, queue=QUEUES[job.lane])
            for i, job in self._jobs_of(list(lost)).items()
            if job is not None
        ]
        return self._send("", sendings)


def _in_turn(lines: Sequence[str], waiting: Mapping[str, int]) -> Iterator[str]:
    left = {line: waiting.get(line, 0) for line in lines}
    while any(left.values()):
        for line in lines:
            if left[line] > 0:
                left[line] -= 1
                yield line
