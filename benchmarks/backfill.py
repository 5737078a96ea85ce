"""How many stored reports a minute `warmline rules apply` matches anew: in S3, in Redis, in a folder.

    python -m benchmarks.backfill [--reports 5000] [--windows 80] [--processes 0] [--json FILE]

Puts made reports (two channels, seeded random scores; 80 windows, as a stereo call of five minutes has) into a
real SeaweedFS, a real Valkey and a folder, and runs the command with config/categories.example.toml on
each: once, and once more when nothing is left to do. The servers share this machine's cores; what they
take of them is in the figures. Goal: 10,000 reports a minute in S3.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from pydantic import SecretStr

from benchmarks.exports import made_report
from benchmarks.machine import look_at_facts
from benchmarks.servers import running_redis, running_s3
from benchmarks.subjects import NotMeasured
from config.settings import (
    CategoriesSettings,
    GeneralSettings,
    RedisSettings,
    S3Settings,
    Settings,
    process_environment,
)
from warmline.jobs import keys
from warmline.local.parts import ServerMissing
from warmline.objects.store import ObjectStore

RULES = Path(__file__).parents[1] / "config" / "categories.example.toml"
DISTINCT = 100  # reports that are made; the others are these under other names
GOAL_PER_MINUTE = 10_000
UPLOADERS = 8


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the command."""

    what: str
    reports: int
    seconds: float  # from the process' start to its end
    cpu_seconds: float  # of the command and its processes
    server_cpu_seconds: float  # of the store or the Redis
    load_average: float  # of the minute in which it ended: above the cores, others were at work too

    @property
    def per_minute(self) -> float:
        """Reports."""
        return 60 * self.reports / self.seconds

    def per_minute_alone(self, cores: int) -> float:
        """Reports, if these processes and the server had the cores for themselves and kept them busy."""
        return 60 * self.reports * cores / (self.cpu_seconds + self.server_cpu_seconds)


def main() -> int:
    """Runs the measurement and prints it; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=5000, help="how many in S3 and in the folder")
    parser.add_argument("--windows", type=int, default=80, help="windows of each report")
    parser.add_argument("--processes", type=int, default=0, help="as --processes of the command")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    facts = look_at_facts(("warmline", "pydantic", "boto3", "redis"))
    print(f"{facts.cpu}, {facts.cores} cores, load {facts.load_average}, {facts.started_at}")
    chance = random.Random(7)
    made = [made_report(chance, arguments.windows).model_dump_json() for _ in range(DISTINCT)]
    size_bytes = sum(map(len, made)) // len(made)
    print(f"{arguments.reports:,} reports of {arguments.windows} windows, {size_bytes / 1000:.0f} kB each")
    runs: list[Run] = []
    try:
        with tempfile.TemporaryDirectory() as data:
            for run in measure(Path(data), made, arguments.reports, arguments.processes):
                runs.append(run)
                each = 1000 / run.reports
                print(
                    f"  {run.what:<20} {run.seconds:7.1f} s  {run.per_minute:9,.0f} a minute;"
                    f" a report takes {run.cpu_seconds * each:.2f} ms of processor here"
                    f" and {run.server_cpu_seconds * each:.2f} in the server, so {facts.cores} cores of their own"
                    f" would do {run.per_minute_alone(facts.cores):,.0f}; load {run.load_average:.1f}"
                )
    except (NotMeasured, ServerMissing) as error:
        print(f"backfill: {error}", file=sys.stderr)
        return 1
    reached = next(run for run in runs if run.what == "S3").per_minute >= GOAL_PER_MINUTE
    print(f"goal: {GOAL_PER_MINUTE:,} a minute in S3: {'reached' if reached else 'MISSED'}")
    if arguments.json:
        figures = {
            "machine": facts.to_json(),
            "windows": arguments.windows,
            "report_bytes": size_bytes,
            "processes": arguments.processes,
            "runs": [
                asdict(run) | {"per_minute": run.per_minute, "per_minute_alone": run.per_minute_alone(facts.cores)}
                for run in runs
            ],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if reached else 1


def measure(data: Path, made: Sequence[str], count: int, processes: int) -> Iterator[Run]:
    """The runs, each place's first one and the one that finds nothing to do."""
    folder = data / "reports"
    folder.mkdir()
    for number, body in enumerate(_bodies(made, count)):
        (folder / f"{number:07}.json").write_text(body)
    settings = Settings(categories=CategoriesSettings(file=str(RULES)))
    for what in ("a folder", "a folder again"):
        yield run_command(what, count, settings, "--reports", str(folder))
    with running_s3(data / "s3") as (s3, server):
        settings = settings.model_copy(update={"s3": s3, "general": GeneralSettings(results="s3")})
        _upload(s3, made, count)
        for what in ("S3", "S3 again"):
            yield run_command(what, count, settings, "--processes", str(processes), server=server)
    with running_redis(data / "redis") as (valkey, server):
        redis = RedisSettings(url=SecretStr(valkey.url()))
        settings = settings.model_copy(update={"redis": redis, "general": GeneralSettings(results="redis")})
        _keep(redis, made, count)
        for what in ("Redis", "Redis again"):
            yield run_command(what, count, settings, server=server)


def run_command(
    what: str, count: int, settings: Settings, *arguments: str, server: psutil.Process | None = None
) -> Run:
    """Runs `warmline rules apply`, and looks at what its processes and the server took."""
    command = [sys.executable, "-m", "warmline.cli.main", "rules", "apply", *arguments]
    before, started = _cpu_seconds(server), time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawn(sys.executable, command, process_environment(settings), file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return Run(
        what=what,
        reports=count,
        seconds=time.perf_counter() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        server_cpu_seconds=_cpu_seconds(server) - before,
        load_average=round(os.getloadavg()[0], 2),
    )


def _bodies(made: Sequence[str], count: int) -> Iterator[str]:
    for number in range(count):
        yield made[number % len(made)].replace("KEY", f"2026/11/{number:07}").replace("NAME", f"a-{number % 50}")


def _upload(settings: S3Settings, made: Sequence[str], count: int) -> None:
    with closing(ObjectStore(settings)) as store, ThreadPoolExecutor(UPLOADERS) as pool:
        names = (f"calls/2026/11/{number:07}.wav@{'0' * 32}-{'0' * 16}.json" for number in range(count))
        for _ in pool.map(store.put_report, names, (body.encode() for body in _bodies(made, count))):
            pass


def _keep(settings: RedisSettings, made: Sequence[str], count: int) -> None:
    import redis

    with closing(redis.Redis.from_url(settings.url.get_secret_value())) as client:
        for number, body in enumerate(_bodies(made, count)):
            client.set(keys.report(f"{number:032x}"), body, ex=86400)


def _cpu_seconds(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
