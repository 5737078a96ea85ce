"""Machines that may be taken away: one vanishes without a word, a new one comes, one is given notice."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from config.settings import EmotionSettings, JobsSettings, RedisSettings, Settings, WorkerSettings
from tests.chaos import books
from tests.chaos.fleet import Fleet
from tests.chaos.network import OtherHost, other_hosts
from tests.chaos.outcome import spread
from tests.chaos.recordings import BUCKET, upload_calls, write_noise
from tests.chaos.servers import S3, Redis, killable_redis, killable_s3
from tests.servers import wait_until
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus, Options, Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.objects.store import ObjectStore

CHILDREN = 2  # of each host
LEASE_SECONDS = 4.0
GRACE_SECONDS = 0.5  # long calls do not end in it: they are handed back
NOTICE_SECONDS = 30.0  # clouds give 30 to 120
LONG_SECONDS = 300.0  # of audio: some seconds of work
UTTERANCE = Options(granularity="utterance")


@dataclass(frozen=True, kw_only=True)
class SpotLoss:
    """What it came to."""

    jobs: int
    statuses: dict[str, int]
    vanished_with: int  # jobs that ran on the host that vanished
    noticed_after: list[float]  # seconds from there until the ledger knew each of them lost
    again_after: list[float]  # seconds from there until each of them ran elsewhere, where children were busy
    missing_after: float  # seconds from there until the host's worker was reported as missing
    missing: int  # workers that were in the end: those that had notice are not
    noticed_with: int  # jobs that ran on the host that was given notice, when it was
    handed_back: int  # attempts that it gave back unfinished
    gone_after: float  # seconds from the notice until its last process had ended
    exit_codes: list[int]
    outcomes: dict[str, int]  # of attempts
    lost: list[str]
    published_twice: int
    left: dict[str, int]
    seconds: float  # from the first job to the last end

    def print(self, console: Console) -> None:
        """The table."""
        table = Table(title="Spot machines", title_justify="left", show_header=False, pad_edge=False)
        for what, value in (
            ("jobs", f"{self.jobs}: {', '.join(f'{count} {status}' for status, count in self.statuses.items())}"),
            ("a host vanished with jobs", str(self.vanished_with)),
            (f"known to be lost after (lease: {LEASE_SECONDS:g} s)", spread(self.noticed_after)),
            ("its worker was reported as missing after", f"{self.missing_after:.1f} s; {self.missing} in the end"),
            ("they ran on a busy host after", spread(self.again_after)),
            (
                "a host was given notice with jobs",
                f"{self.noticed_with}, {self.handed_back} handed back",
            ),
            ("it was gone after", f"{self.gone_after:.1f} s, exit codes {self.exit_codes}"),
            ("attempts", ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())),
            ("lost", str(len(self.lost))),
            ("published twice", str(self.published_twice)),
            ("left in Redis", ", ".join(f"{size} {what}" for what, size in self.left.items()) or "nothing"),
            ("wall time", f"{self.seconds:.0f} s"),
        ):
            table.add_row(what, value)
        console.print(table)

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self)


def run_spot_loss(short: int, long: int, tell: Callable[[str], None] = lambda _: None) -> SpotLoss:
    """`short` calls and twice `long` ones over three hosts that come and go. Skips where there can be no hosts."""
    with (
        tempfile.TemporaryDirectory(prefix="warmline-chaos-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        directory = Path(name)
        hosts = stack.enter_context(other_hosts(3))
        redis = stack.enter_context(killable_redis(directory / "redis", host=hosts[0].address))
        s3 = stack.enter_context(killable_s3(directory / "s3", host=hosts[0].address))
        books.keep_versions(s3.settings)
        return _Story(directory, hosts, redis, s3, stack, tell).run(short, long)


class _Story:
    def __init__(
        self,
        directory: Path,
        hosts: Sequence[OtherHost],
        redis: Redis,
        s3: S3,
        stack: ExitStack,
        tell: Callable[[str], None],
    ) -> None:
        self._directory, self._hosts, self._redis, self._s3, self._tell = directory, hosts, redis, s3, tell
        self._stack = stack
        self._settings = Settings(
            redis=RedisSettings(url=SecretStr(redis.url), timeout_seconds=2.0),
            s3=s3.settings.model_copy(update={"timeout_seconds": 3.0}),
            emotion=EmotionSettings(model="mini", models_dir=directory / "models", engine="torch", threads=1),
            jobs=JobsSettings(lease_seconds=LEASE_SECONDS, retry_seconds=0.5, visibility_timeout_seconds=10),
            worker=WorkerSettings(
                children=CHILDREN,
                live_children=0,
                heartbeat_seconds=1,
                engine_hosts="0",
                grace_seconds=GRACE_SECONDS,
                scratch_dir=directory / "calls",
            ),
        )
        self._ledger = stack.enter_context(closing(Ledger.connect(self._settings.redis, self._settings.jobs)))
        self._ids: list[str] = []

    def run(self, short: int, long: int) -> SpotLoss:
        """From the first host to the reckoning."""
        calls, _ = upload_calls(self._s3.settings, self._directory / "recordings", short)
        with closing(ObjectStore(self._s3.settings)) as store:
            long_calls = [
                store.put_call(BUCKET, f"long-{n}.wav", write_noise(self._directory / "long.wav", LONG_SECONDS, n))
                for n in range(2 * long)
            ]
        # Given two hosts at work
        first, second = self._start("first", 0), self._start("second", 1)
        self._wait_warm(2)
        started = time.time()
        self._submit_long(long_calls[:long])
        batch = submit_batch(self._ledger, calls, options=UTTERANCE, lane="bulk")
        self._tell(f"two hosts are warm and have {short + long} jobs")
        # When one of them vanishes: nothing is heard of it any more, not even that its connections are closed
        on_first = self._wait_busy(first)
        vanished_at = time.time()
        self._hosts[0].cut()
        gone = first.workers[0].process.pid
        first.lose()
        # Then that is reported, its jobs run on the other one, and a third one comes
        wait_until(lambda: gone in self._missing(), "the vanished host's worker is missing")
        missing_after = time.time() - vanished_at
        third = self._start("third", 2)
        wait_until(lambda: self._all_done(on_first), "the vanished host's jobs have ended", seconds=120)
        self._wait_warm_on(third)
        self._tell(f"{len(on_first)} jobs of the host that vanished have ended elsewhere; a third host is warm")
        # When the second one is given notice in the middle of its jobs
        self._submit_long(long_calls[long:])
        on_second = self._wait_busy(second)
        noticed_at = time.time()
        codes = second.stop()
        gone_after = time.time() - noticed_at
        # Then everything ends on the third
        wait_until(
            lambda: self._all_done(self._ids) and self._ledger.batch(batch.id).finished,
            "all jobs have ended",
            seconds=120,
        )
        seconds = time.time() - started
        wait_until(lambda: not books.left_in_redis(self._redis.url), "nothing is left in Redis")
        codes += third.stop()
        return self._reckon(
            lines=[line for fleet in (first, second, third) for line in fleet.lines()],
            on_first=on_first, vanished_at=vanished_at, on_second=on_second, gone_after=gone_after,
            codes=codes, seconds=seconds, missing_after=missing_after,
        )  # fmt: skip

    def _start(self, name: str, host: int) -> Fleet:
        directory = self._directory / name
        directory.mkdir()
        return self._stack.enter_context(Fleet(self._settings, directory, 1, prefix=self._hosts[host].prefix))

    def _wait_warm(self, workers: int) -> None:
        def warm() -> bool:
            return sum(len(worker.warm) == CHILDREN for worker in self._ledger.workers()) >= workers

        wait_until(warm, f"{workers} hosts are warm", seconds=90)

    def _wait_warm_on(self, fleet: Fleet) -> None:
        wait_until(
            lambda: any(line["action"] == "worker_warm" for line in fleet.lines()),
            "the new host is warm",
            seconds=90,
        )

    def _submit_long(self, calls: Sequence[Source]) -> None:
        self._ids += [submit_job(self._ledger, call, lane="live").job.id for call in calls]

    def _wait_busy(self, fleet: Fleet) -> list[str]:
        """Returns when a host works on long jobs: their ids."""
        pids, held = set(fleet.workers[0].children()), []

        def busy() -> bool:
            held[:] = [job_id for job_id in self._ids if _runs_in(self._ledger.get(job_id), pids)]
            return bool(held)

        wait_until(busy, "a host has a long job", interval_seconds=0.01)
        return held

    def _missing(self) -> list[int]:
        return [silent.worker.pid for silent in self._ledger.silent()]

    def _all_done(self, job_ids: Sequence[str]) -> bool:
        return all(self._ledger.get(job_id).status.finished for job_id in job_ids)

    def _reckon(
        self,
        *,
        lines: list[dict[str, Any]],
        on_first: list[str],
        vanished_at: float,
        on_second: list[str],
        gone_after: float,
        codes: list[int],
        seconds: float,
        missing_after: float,
    ) -> SpotLoss:
        states = books.all_jobs(self._ledger)
        reports = books.Reports.read(self._s3.settings)
        by_id = {state.job.id: state for state in states}
        noticed, again = [], []
        for job_id in on_first:
            attempts = by_id[job_id].attempts
            noticed += [at.ended_at.timestamp() for at in attempts if at.outcome == "lost"]
            again += [at.started_at.timestamp() for at in attempts if at.started_at.timestamp() > vanished_at][:1]
        return SpotLoss(
            jobs=len(states),
            statuses=dict(Counter(str(state.status) for state in states)),
            vanished_with=len(on_first),
            noticed_after=[round(at - vanished_at, 2) for at in noticed],
            again_after=[round(at - vanished_at, 2) for at in again],
            missing_after=round(missing_after, 1),
            missing=len(self._missing()),
            noticed_with=len(on_second),
            handed_back=books.outcomes(states).get("handed_back", 0),
            gone_after=round(gone_after, 1),
            exit_codes=codes,
            outcomes=books.outcomes(states),
            lost=books.lost(states, self._ids, reports),
            published_twice=books.published_twice(states, reports, lines),
            left=books.left_in_redis(self._redis.url),
            seconds=round(seconds, 1),
        )


def _runs_in(state: JobState, pids: set[int]) -> bool:
    return state.status is JobStatus.RUNNING and int((state.worker or "/0").rpartition("/")[2]) in pids
