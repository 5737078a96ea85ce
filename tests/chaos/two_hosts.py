"""Two hosts, and a link between them that is cut while one of them works: its jobs are not its own any more."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos import books
from tests.chaos.fleet import Fleet
from tests.chaos.network import other_host
from tests.chaos.outcome import spread
from tests.chaos.recordings import BUCKET, write_noise
from tests.chaos.servers import killable_redis, killable_s3
from tests.chaos.storm import Forecast
from tests.servers import wait_until
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import JobState, JobStatus, Options, Source
from warmline.jobs.submission import submit_job
from warmline.objects.store import ObjectStore

LEASE_SECONDS = 4.0
LONG_SECONDS = 300.0  # some seconds of work
CALLS = 3


@dataclass(frozen=True, kw_only=True)
class TwoHosts:
    """What it came to."""

    cut_off: int  # jobs that ran on the other host when the link was cut
    elsewhere_after: list[float]  # seconds from the cut until each of them ran here
    superseded: int  # reports of the other host that were refused later
    back_after: float  # seconds from the mending until the other host ended a job
    statuses: dict[str, int]
    published_twice: int
    left: dict[str, int]

    def print(self, console: Console) -> None:
        """The table."""
        table = Table(
            title="Two hosts, and a link that is cut", title_justify="left", show_header=False, pad_edge=False
        )
        for what, value in (
            ("jobs that were cut off with their host", str(self.cut_off)),
            (f"they ran on the other host after (lease: {LEASE_SECONDS:g} s)", spread(self.elsewhere_after)),
            ("late reports, refused", str(self.superseded)),
            ("once mended, the host ended its next job after", f"{self.back_after:.1f} s"),
            ("all jobs", ", ".join(f"{count} {status}" for status, count in self.statuses.items())),
            ("published twice", str(self.published_twice)),
        ):
            table.add_row(what, value)
        console.print(table)

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self)


def run_two_hosts(tell: Callable[[str], None] = lambda _: None) -> TwoHosts:
    """The whole story once. Skips where there can be no second host."""
    with (
        tempfile.TemporaryDirectory(prefix="warmline-chaos-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        directory = Path(name)
        host = stack.enter_context(other_host())
        broker = stack.enter_context(killable_redis(directory / "redis", host=host.address))
        s3 = stack.enter_context(killable_s3(directory / "s3", host=host.address))
        books.keep_versions(s3.settings)
        forecast = Forecast(
            jobs=0, bad=0, live=0, cancelled_alone=0, cancelled_batch=0, faults={}, workers=1, children=1,
            lease_seconds=LEASE_SECONDS, down_seconds=(0, 0), end_seconds=0,
        )  # fmt: skip
        settings = forecast.settings(broker, s3, directory)
        settings = settings.model_copy(
            update={
                "redis": settings.redis.model_copy(update={"timeout_seconds": 2.0}),
                "s3": settings.s3.model_copy(update={"timeout_seconds": 3.0}),
            }
        )
        with closing(ObjectStore(s3.settings)) as store:
            calls = [
                store.put_call(
                    BUCKET, f"{n}.wav", write_noise(directory / f"{n}.wav", LONG_SECONDS if n < CALLS else 0.2, n)
                )
                for n in range(2 * CALLS)
            ]
        (directory / "near").mkdir()
        (directory / "far").mkdir()
        far = stack.enter_context(Fleet(settings, directory / "far", 1, prefix=host.prefix))
        near = stack.enter_context(Fleet(settings, directory / "near", 1))
        ledger = stack.enter_context(closing(Ledger.connect(settings.redis, settings.jobs)))
        wait_until(lambda: sum(len(w.warm) for w in ledger.workers()) >= 2, "both hosts are warm", seconds=90)
        tell("both hosts are warm")
        return _story(
            ledger, far, near, host.cut, host.mend, calls, settings.redis.url.get_secret_value(), s3.settings
        )


def _story(
    ledger: Ledger,
    far: Fleet,
    near: Fleet,
    cut: Callable[[], None],
    mend: Callable[[], None],
    calls: list[Source],
    redis_url: str,
    s3: Any,
) -> TwoHosts:
    # Given a long job that runs on the far host
    pids = set(far.workers[0].children())
    long = [submit_job(ledger, call, lane="live").job.id for call in calls[:CALLS]]
    held: list[str] = []

    def runs_there() -> bool:
        held[:] = [job_id for job_id in long if _runs_in(ledger.get(job_id), pids)]
        return bool(held)

    wait_until(runs_there, "a job runs on the far host", interval_seconds=0.01)
    # When the link is cut
    cut_at = time.time()
    cut()
    # Then it runs on the near one, to its end
    wait_until(
        lambda: all(_done(ledger, job_id) for job_id in long), "the jobs end without the far host", seconds=90
    )
    # When the link is mended
    time.sleep(1.0)
    mended_at = time.time()
    mend()
    # Then the far host comes back by itself, and what it says of the job is not heard
    wait_until(lambda: _count(far, "attempt_superseded") > 0, "the late report is refused", seconds=90)
    later: list[str] = []

    def works_again() -> bool:
        # Both hosts take them, so there are more until the far one has had one; each has a report of its own.
        call, options = (
            calls[CALLS + len(later) % CALLS],
            Options(granularity="utterance", roles=(f"r{len(later)}",)),
        )
        later.append(submit_job(ledger, call, options=options, lane="live").job.id)
        time.sleep(0.5)
        return any(line["action"] == "job_finished" and line.get("job_id") in later for line in far.lines())

    wait_until(works_again, "the far host works again", seconds=90)
    back_after = time.time() - mended_at
    wait_until(lambda: all(_done(ledger, job_id) for job_id in (*long, *later)), "all have ended")
    states = [ledger.get(job_id) for job_id in (*long, *later)]
    near.stop()
    far.stop()
    lines = [*far.lines(), *near.lines()]
    statuses: dict[str, int] = {}
    for state in states:
        statuses[str(state.status)] = statuses.get(str(state.status), 0) + 1
    return TwoHosts(
        cut_off=len(held),
        elsewhere_after=[
            round(state.attempts[-1].started_at.timestamp() - cut_at, 2)
            for state in states
            if state.job.id in held and state.attempt > 1
        ],
        superseded=sum(line["action"] == "attempt_superseded" for line in lines),
        back_after=round(back_after, 1),
        statuses=statuses,
        published_twice=books.published_twice(states, books.Reports.read(s3), lines),
        left=books.left_in_redis(redis_url),
    )


def _runs_in(state: JobState, pids: set[int]) -> bool:
    return state.status is JobStatus.RUNNING and int((state.worker or "/0").rpartition("/")[2]) in pids


def _done(ledger: Ledger, job_id: str) -> bool:
    return ledger.get(job_id).status.finished


def _count(fleet: Fleet, action: str) -> int:
    return sum(line["action"] == action for line in fleet.lines())
