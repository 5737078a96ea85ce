"""What the broker forgets: a backlog while Redis is killed again and again, and messages that get lost.

Between taking a message off its list and noting it as unacknowledged, a worker's transport holds it alone; a
broker that dies then has forgotten it. That happens once in a while, so some messages are taken by hand as well.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from config.settings import GeneralSettings, Settings
from tests.chaos import books
from tests.chaos.fleet import Fleet
from tests.chaos.outcome import spread
from tests.chaos.recordings import BUCKET, write_noise
from tests.chaos.servers import Redis, killable_redis, killable_s3
from tests.chaos.storm import UTTERANCE, Forecast
from tests.servers import wait_until
from warmline.jobs import keys
from warmline.jobs.errors import LedgerUnavailable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus, Source
from warmline.jobs.submission import submit_batch
from warmline.objects.store import ObjectStore

AGAIN_SECONDS = 60.0  # within which a forgotten job is sent again
STEPPED_BACK = {"job_skipped", "job_stepped_back"}


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What it came to."""

    seed: int
    kills: int
    backlog: int  # that waited at each kill, at least
    jobs: int
    statuses: dict[str, int]
    stolen: int
    sent_again: int  # jobs, as the feeders' logs say
    to_run_again: Sequence[float]  # seconds from a theft until the job ran
    second_deliveries: int  # that a lease or an end refused
    most_messages: int  # of one job, seen at once
    repeated_attempts: int
    published_twice: int
    left: dict[str, int]
    wall_seconds: float

    def print(self, console: Console) -> None:
        """The table."""
        table = Table(
            title=f"What the broker forgets, seed {self.seed}",
            title_justify="left",
            show_header=False,
            pad_edge=False,
        )
        for what, value in (
            ("Redis killed", f"{self.kills} times, with a backlog of {self.backlog:,} jobs or more"),
            ("jobs", f"{self.jobs:,}: {', '.join(f'{n} {status}' for status, n in self.statuses.items())}"),
            ("messages taken by hand", str(self.stolen)),
            ("jobs sent again", str(self.sent_again)),
            ("a job whose message was taken ran after", spread(self.to_run_again)),
            ("most messages of one job at once", str(self.most_messages)),
            ("second deliveries, refused", str(self.second_deliveries)),
            ("attempts beyond the first", str(self.repeated_attempts)),
            ("published twice", str(self.published_twice)),
            ("left in Redis", ", ".join(f"{size} {what}" for what, size in self.left.items()) or "nothing"),
            ("wall time", f"{self.wall_seconds:,.0f} s"),
        ):
            table.add_row(what, value)
        console.print(table)

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self)


def run_forgotten(
    *, kills: int, backlog: int, thefts: int, seed: int = 4, tell: Callable[[str], None] = lambda _: None
) -> Forgotten:
    """So many kills, each with so many jobs waiting; reports are kept in Redis, as the jobs are."""
    with (
        tempfile.TemporaryDirectory(prefix="warmline-chaos-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        directory = Path(name)
        broker = stack.enter_context(killable_redis(directory / "redis"))
        s3 = stack.enter_context(killable_s3(directory / "s3"))
        forecast = Forecast(
            jobs=0, bad=0, live=0, cancelled_alone=0, cancelled_batch=0, faults={}, workers=1, children=2,
            lease_seconds=5, down_seconds=(0, 0), end_seconds=0,
        )  # fmt: skip
        settings = forecast.settings(broker, s3, directory).model_copy(
            update={"general": GeneralSettings(results="redis")}
        )
        store = ObjectStore(s3.settings)
        call = store.put_call(BUCKET, "call.wav", write_noise(directory / "call.wav", 0.2, 0))
        store.close()
        fleet = stack.enter_context(Fleet(settings, directory, 1))
        fleet.wait_warm(2)
        return Backlog(settings, broker, fleet, call, seed, tell).run(kills, backlog, thefts)


class Backlog:
    """One run."""

    def __init__(
        self, settings: Settings, broker: Redis, fleet: Fleet, call: Source, seed: int, tell: Callable[[str], None]
    ) -> None:
        self._broker, self._fleet, self._call, self._tell = broker, fleet, call, tell
        self._rng, self._seed = random.Random(seed), seed
        self._ledger = Ledger.connect(settings.redis, settings.jobs)
        self._redis: Any = redis.Redis.from_url(broker.url, decode_responses=True)
        self._stolen: dict[str, float] = {}
        self._most_messages = 0
        self._accepted = 0
        self._ended: dict[str, int] = {}  # jobs of each batch that have ended

    def run(self, kills: int, backlog: int, thefts: int) -> Forgotten:
        """Kills and thefts in turn, and then the reckoning."""
        started = time.time()
        for kill in range(kills):
            self._fill_up(backlog)
            self._wait_going(backlog)
            for _ in range(thefts * (kill + 1) // kills - len(self._stolen)):
                self._steal()
            time.sleep(self._rng.uniform(0.1, 0.8))
            self._count_messages()
            self._broker.server.kill()
            time.sleep(self._rng.uniform(0.05, 0.5))
            self._broker.server.start()
            if kill % 10 == 9 or kill + 1 == kills:
                self._tell(
                    f"{kill + 1} kills, {self._accepted:,} jobs accepted, {len(self._stolen)} messages taken"
                )
        wait_until(self._all_ended, "all jobs have ended", seconds=300, interval_seconds=0.25)
        wall_seconds = time.time() - started
        deadline = time.monotonic() + 30
        while books.left_in_redis(self._broker.url) and time.monotonic() < deadline:
            time.sleep(0.2)
        states = books.all_jobs(self._ledger)
        left = books.left_in_redis(self._broker.url)
        self._fleet.stop()
        lines = list(self._fleet.lines())
        waits = [
            _first_start(state) - self._stolen[state.job.id] for state in states if state.job.id in self._stolen
        ]
        return Forgotten(
            seed=self._seed,
            kills=kills,
            backlog=backlog,
            jobs=len(states),
            statuses=dict(Counter(str(state.status) for state in states)),
            stolen=len(self._stolen),
            sent_again=sum(line["jobs"] for line in lines if line["action"] == "messages_sent_again"),
            # One that ran already had come to a worker before: what was taken was its second delivery.
            to_run_again=[round(seconds, 2) for seconds in waits if seconds > 0],
            second_deliveries=sum(line["action"] in STEPPED_BACK for line in lines),
            most_messages=self._most_messages,
            repeated_attempts=books.repeated_attempts(states),
            published_twice=books.published_twice(states, books.Reports(versions={}), lines),
            left=left,
            wall_seconds=round(wall_seconds, 1),
        )

    def _fill_up(self, backlog: int) -> None:
        """Submits as many as are missing; the ledger may still be loading what it had."""
        while True:
            try:
                waiting = self._waiting()
                if waiting < backlog:
                    batch = submit_batch(
                        self._ledger, [self._call] * (backlog - waiting), options=UTTERANCE, lane="bulk"
                    )
                    self._ended[batch.id] = 0
                    self._accepted += batch.total
            except (LedgerUnavailable, redis.RedisError):
                time.sleep(0.05)
            else:
                return

    def _wait_going(self, backlog: int) -> None:
        """Returns when some of the backlog has been worked off: the workers have found the broker again."""

        def going() -> bool:
            with suppress(LedgerUnavailable):
                return self._waiting() < backlog
            return False

        wait_until(going, "the workers go on")

    def _waiting(self) -> int:
        return self._accepted - sum(self._count_ended().values())

    def _count_ended(self) -> dict[str, int]:
        for batch_id in self._ended:
            self._ended[batch_id] = self._ledger.batch(batch_id).ended
        return self._ended

    def _all_ended(self) -> bool:
        with suppress(LedgerUnavailable):
            return self._waiting() == 0
        return False

    def _steal(self) -> None:
        """Takes the oldest message, as a worker's transport does, and is never heard of again."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(redis.RedisError):
                if message := self._redis.rpop(f"{keys.BROKER}warmline.bulk"):
                    self._stolen[json.loads(message)["headers"]["id"]] = time.time()
                    return
            time.sleep(0.001)

    def _count_messages(self) -> None:
        """How many messages each job has in the lists: more than one would be a doubled job."""
        with suppress(redis.RedisError):
            messages = self._redis.lrange(f"{keys.BROKER}warmline.bulk", 0, -1)
            counts = Counter(json.loads(message)["headers"]["id"] for message in messages)
            self._most_messages = max(self._most_messages, *counts.values(), 0)


def _first_start(state: JobState) -> float:
    assert state.status is JobStatus.SUCCEEDED, state
    return state.attempts[0].started_at.timestamp()
