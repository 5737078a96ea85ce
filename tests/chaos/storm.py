"""A storm: short jobs through the real stack, while its parts are killed; and the reckoning at its end."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pydantic import SecretStr

from config.settings import EmotionSettings, JobsSettings, RedisSettings, Settings, WorkerSettings, to_variables
from tests.api_process import ApiProcess, running_api
from tests.chaos import books
from tests.chaos.faults import Assassin, Fault, Injector, order
from tests.chaos.fleet import Fleet, wait_gone
from tests.chaos.outcome import Outcome, recoveries
from tests.chaos.recordings import upload_calls, upload_long_call
from tests.chaos.servers import S3, Redis, killable_redis, killable_s3
from tests.servers import wait_until
from warmline.jobs.errors import LedgerUnavailable, NotReplayable
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus, Options, Source
from warmline.jobs.submission import submit_batch, submit_job

UTTERANCE = Options(granularity="utterance")  # noise is not speech: only as a whole it is scored
VISIBILITY_SECONDS = 10
TIDY_SECONDS = VISIBILITY_SECONDS + 20.0  # kombu looks every 5 s, and a redelivery is acknowledged at once


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is going to happen."""

    seed: int = 4
    jobs: int
    bad: int  # objects among them that are no audio
    live: int  # jobs among them that come one by one through the API, meanwhile
    cancelled_alone: int
    cancelled_batch: int  # jobs of a batch that is cancelled as a whole
    faults: Mapping[str, int]
    workers: int = 2
    children: int = 2
    lease_seconds: float
    down_seconds: tuple[float, float]
    end_seconds: float  # longest time until all has ended

    def settings(self, redis: Redis, s3: S3, scratch: Path) -> Settings:
        """Of all processes. The mini model scores."""
        return Settings(
            redis=RedisSettings(url=SecretStr(redis.url)),
            s3=s3.settings,
            emotion=EmotionSettings(model="mini", models_dir=scratch / "models", engine="torch", threads=1),
            # A killed worker's messages lie with the broker until their timeout; the jobs do not wait for that.
            jobs=JobsSettings(
                lease_seconds=self.lease_seconds, retry_seconds=0.5, visibility_timeout_seconds=VISIBILITY_SECONDS
            ),
            worker=WorkerSettings(
                children=self.children, heartbeat_seconds=1, engine_hosts="0", scratch_dir=scratch / "calls"
            ),
        )


@dataclass
class Accepted:
    """What the senders were told."""

    singles: list[str] = field(default_factory=list)
    batches: dict[str, int] = field(default_factory=dict)  # id -> total
    refused: int = 0
    cancelled: list[str] = field(default_factory=list)  # that were said to be cancelled

    @property
    def total(self) -> int:
        """Jobs."""
        return len(self.singles) + sum(self.batches.values())


class Storm:
    """One run, from the first server to the reckoning."""

    def __init__(self, forecast: Forecast, directory: Path, tell: Callable[[str], None]) -> None:
        self.forecast, self._tell = forecast, tell
        self._rng = random.Random(forecast.seed)
        self._directory = directory
        self._accepted = Accepted()
        self._calm = threading.Event()  # nothing is sent or injected any more

    def run(self) -> Outcome:
        """Everything; the checks are the caller's."""
        with ExitStack() as stack:
            self._redis = stack.enter_context(killable_redis(self._directory / "redis"))
            self._s3 = stack.enter_context(killable_s3(self._directory / "s3"))
            self._settings = self.forecast.settings(self._redis, self._s3, self._directory)
            self._ledger = Ledger.connect(self._settings.redis, self._settings.jobs)
            stack.callback(self._ledger.close)
            books.keep_versions(self._s3.settings)
            forecast = self.forecast
            self._good, self._bad = upload_calls(
                self._s3.settings, self._directory / "recordings", forecast.jobs - forecast.bad, bad=forecast.bad
            )
            long_call = upload_long_call(self._s3.settings, self._directory)
            self._fleet = stack.enter_context(Fleet(self._settings, self._directory, forecast.workers))
            api = stack.enter_context(self._api())
            self._fleet.wait_warm(forecast.children)
            self._tell(f"{forecast.jobs:,} calls are uploaded, {forecast.workers} workers are warm")
            return self._weather(api, long_call)

    def _api(self) -> ExitStack:
        stack = ExitStack()
        variables = to_variables(self._settings)
        for own in ("WARMLINE_API_PORT", "WARMLINE_REDIS_URL"):
            del variables[own]
        self._running_api: ApiProcess = stack.enter_context(
            running_api(self._directory, self._redis.url, self._s3.settings, **variables)
        )
        return stack

    def _weather(self, api: ExitStack, long_call: Source) -> Outcome:
        started = time.time()
        poison = submit_job(self._ledger, long_call, lane="live")
        self._accepted.singles.append(poison.job.id)
        assassin = Assassin(Ledger.connect(self._settings.redis, self._settings.jobs), poison.job.id)
        assassin.start()
        self._submit_batches()
        sender = threading.Thread(target=self._send_live, name="sender", daemon=True)
        sender.start()
        injector = Injector(self._fleet, self._redis, self._s3, self._rng, self.forecast.down_seconds)
        self._inject_all(injector)
        sender.join()
        self._wait_ended(started)
        wall_seconds = time.time() - started
        assassin.stop()
        self._tell("all jobs have ended; the dead are replayed")
        states = books.all_jobs(self._ledger)
        replayed, still_dead = self._replay(states)
        left = books.left_in_redis(self._redis.url)
        codes = self._fleet.stop()
        api.close()
        return self._reckon(
            states, injector.faults, wall_seconds, left,
            replayed=replayed, still_dead=still_dead,
            notes={
                "the poisoned job": _describe(next(s for s in states if s.job.id == poison.job.id)),
                "workers' exit codes at SIGTERM": codes,
            },
        )  # fmt: skip

    def _submit_batches(self) -> None:
        """Most jobs as two batches by the ledger, some as one to be cancelled by the API."""
        forecast = self.forecast
        calls = [*self._good, *self._bad]
        self._rng.shuffle(calls)
        self._live, doomed, rest = (
            calls[: forecast.live],
            calls[forecast.live : forecast.live + forecast.cancelled_batch],
            calls[forecast.live + forecast.cancelled_batch :],
        )
        half = len(rest) // 2
        for part in (rest[:half], rest[half:]):
            batch = submit_batch(self._ledger, part, options=UTTERANCE, lane="bulk")
            self._accepted.batches[batch.id] = batch.total
        if doomed:
            request = {
                "jobs": [{"source": call.model_dump(mode="json")} for call in doomed],
                "options": UTTERANCE.model_dump(mode="json"),
            }
            answer = self._post("/v1/batches", request)
            self._accepted.batches[str(answer["id"])] = int(answer["total"])
            self._doomed = str(answer["id"])

    def _post(self, path: str, body: object = None) -> Mapping[str, object]:
        """By the API, again and again until it accepts."""
        while True:
            try:
                answer = httpx.post(f"{self._running_api.url}{path}", json=body, timeout=30, trust_env=False)
                if answer.is_success:
                    return dict(answer.json())
                assert answer.status_code in {429, 500, 503}, answer.text
            except httpx.TransportError:
                pass
            self._accepted.refused += 1
            time.sleep(0.2)

    def _send_live(self) -> None:
        """One live job after the other until the storm is over, and the rest at once."""
        for call in self._live:
            body = {"source": call.model_dump(mode="json"), "options": UTTERANCE.model_dump(mode="json")}
            self._accepted.singles.append(str(self._post("/v1/jobs", body)["id"]))
            self._calm.wait(0.1)

    def _inject_all(self, injector: Injector) -> None:
        """The faults and cancels, spread over the time until most jobs have ended."""
        forecast = self.forecast
        bulk = sum(self._accepted.batches.values())
        happenings = order(
            {
                **forecast.faults,
                "cancel": forecast.cancelled_alone,
                "cancel a batch": bool(forecast.cancelled_batch),
            },
            self._rng,
        )
        for number, happening in enumerate(happenings):
            # From the first tenth to the last: work goes on before and after.
            self._wait_share(0.05 + 0.85 * number / len(happenings), bulk)
            match happening:
                case "cancel":
                    self._cancel_one()
                case "cancel a batch":
                    self._post(f"/v1/batches/{self._doomed}/cancel")
                case kind:
                    self._tell(f"{sum(self._ended().values()):,} jobs have ended; now: {kind}")
                    injector.inject(kind)
        injector.wait_up()
        self._calm.set()

    def _cancel_one(self) -> None:
        """A job of a batch, or a live one, whatever it does at this moment."""
        batch_id = self._rng.choice(list(self._accepted.batches))
        place = self._rng.randrange(self._accepted.batches[batch_id])
        job_id = f"{batch_id[:24]}{place + 1:08x}"
        answer = self._post(f"/v1/jobs/{job_id}/cancel")
        if answer["status"] == "cancelled":
            self._accepted.cancelled.append(job_id)

    def _wait_share(self, share: float, bulk: int) -> None:
        deadline = time.monotonic() + self.forecast.end_seconds
        while sum(self._ended().values()) < share * bulk:
            assert time.monotonic() < deadline, "the jobs do not go on"
            time.sleep(0.1)

    def _ended(self) -> dict[str, int]:
        """Jobs of each batch that have ended; as last known while Redis is down."""
        try:
            for batch_id in self._accepted.batches:
                self._known[batch_id] = self._ledger.batch(batch_id).ended
        except LedgerUnavailable:
            pass
        return self._known

    @property
    def _known(self) -> dict[str, int]:
        return self.__dict__.setdefault("_known_ended", {})

    def _wait_ended(self, started: float) -> None:
        def ended() -> bool:
            return all(self._ledger.batch(batch_id).finished for batch_id in self._accepted.batches) and all(
                self._ledger.get(job_id).status.finished for job_id in self._accepted.singles
            )

        left = self.forecast.end_seconds - (time.time() - started)
        wait_until(ended, "all jobs have ended", seconds=max(left, 30), interval_seconds=0.25)
        # An answer that was lost leaves a job that nobody was told of: it ends as any.
        wait_until(
            lambda: not any(self._ledger.list(status=status) for status in (JobStatus.QUEUED, JobStatus.RUNNING)),
            "nothing waits or runs",
        )

    def _replay(self, states: list[JobState]) -> tuple[int, int]:
        """All dead ones again, in peace."""
        dead = [state.job.id for state in states if state.status is JobStatus.DEAD]
        try:
            replayed = self._ledger.replay_all()
        except NotReplayable:
            replayed = 0
        wait_until(
            lambda: all(self._ledger.get(job_id).status.finished for job_id in dead),
            "the replayed jobs have ended",
            seconds=90,
        )
        # What a killed worker had taken comes again, is found to have ended, and is acknowledged.
        deadline = time.monotonic() + TIDY_SECONDS
        while books.left_in_redis(self._redis.url) and time.monotonic() < deadline:
            time.sleep(0.2)
        return replayed, sum(self._ledger.get(job_id).status is JobStatus.DEAD for job_id in dead)

    def _reckon(
        self,
        states: list[JobState],
        faults: list[Fault],
        wall_seconds: float,
        left: Mapping[str, int],
        *,
        replayed: int,
        still_dead: int,
        notes: Mapping[str, object],
    ) -> Outcome:
        reports = books.Reports.read(self._s3.settings)
        after = books.all_jobs(self._ledger)
        ids = {state.job.id for state in after}
        gone = books.lost(after, self._accepted.singles, reports)
        gone += [f"{job_id} was cancelled and is not" for job_id in self._accepted.cancelled
                 if self._ledger.get(job_id).status is not JobStatus.CANCELLED]  # fmt: skip
        for batch_id, total in self._accepted.batches.items():
            state = self._ledger.batch(batch_id)
            listed = sum(job_id.startswith(batch_id[:24]) for job_id in ids)
            if not state.ended == state.total == total == listed:
                gone.append(f"batch {batch_id}: accepted {total}, {state.ended} ended, {listed} listed")
        ends = sorted(state.finished_at.timestamp() for state in states if state.finished_at)
        next_end = {fault: end for fault in faults if (end := books.to_next_end(fault, ends)) is not None}
        again = {fault: books.to_same_job_again(fault, states) for fault in faults if fault.pids}
        scratch = self._settings.worker.scratch_dir
        return Outcome(
            seed=self.forecast.seed,
            jobs=len(states),
            statuses=dict(Counter(str(state.status) for state in states)),
            accepted=self._accepted.total,
            refused=self._accepted.refused,
            lost=gone,
            published_twice=books.published_twice(after, reports, self._fleet.lines()),
            repeated_attempts=books.repeated_attempts(states),
            outcomes=books.outcomes(states),
            recoveries=recoveries(faults, next_end, again),
            left=left,
            scratch_files=[str(path) for path in scratch.rglob("*")],
            orphans=wait_gone(self._fleet),
            own_exits=[code for worker in self._fleet.workers for code in worker.own_exits],
            wall_seconds=round(wall_seconds, 1),
            replayed=replayed,
            dead_after_replay=still_dead,
            notes={**notes, "report objects": len(reports.versions)},
        )


def _describe(state: JobState) -> str:
    code = f" ({state.failure.code})" if state.failure else ""
    return f"{state.status}{code} after {', '.join(attempt.outcome for attempt in state.attempts)}"


def run_storm(forecast: Forecast, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """In a directory of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix="warmline-chaos-", ignore_cleanup_errors=True) as directory:
        return Storm(forecast, Path(directory), tell).run()
