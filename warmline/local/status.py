"""What runs on a data directory, asked anew each time: processes, answers, how the workers are, what waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from config.settings import Settings
from warmline.jobs.conditions import Condition, FleetLedger, FleetState
from warmline.jobs.errors import WarmlineError
from warmline.local.directory import StackDirectory
from warmline.local.lock import lock_holder
from warmline.local.parts import StackError
from warmline.local.plan import read_clients_file
from warmline.local.probes import page_waits_for
from warmline.local.processes import find_processes
from warmline.local.state import PartState, StackState
from warmline.local.supervisor import PartProcess, Supervisor
from warmline.local.uploads import SignOfLife
from warmline.objects.store import ObjectStore


@dataclass(frozen=True, kw_only=True)
class PartStatus:
    """One part, now."""

    name: str
    state: str  # running, stopping, stopped, died; external for a server that is not ours
    pid: int  # 0 when it has no process of ours
    uptime_seconds: float
    address: str
    deaths: int
    problem: str | None  # None: it answers


@dataclass(frozen=True, kw_only=True)
class StackStatus:
    """A stack, now."""

    phase: str  # starting, ready, stopping; down; unwatched: whoever started it is gone
    parts: Sequence[PartStatus] = ()
    fleet: FleetState | None = None  # None: Redis does not answer

    @property
    def well(self) -> bool:
        """True when it is ready, every part answers, and no worker needs anybody."""
        workers = self.fleet.workers if self.fleet is not None else ()
        return (
            self.phase == "ready"
            and all(part.problem is None for part in self.parts)
            and all(worker.condition.is_well for worker in workers)
        )


def read_status(directory: StackDirectory) -> StackStatus:
    """Looks at what runs on this directory."""
    holder, state = lock_holder(directory.lock_file), StackState.read(directory.state_file)
    if holder is None and not find_processes(directory):
        return StackStatus(phase="down")
    if state is None or not directory.clients_file.exists():
        return StackStatus(phase="starting" if holder else "unwatched")
    try:
        processes = Supervisor(directory).processes()
    except StackError:
        processes = {}
    settings = read_clients_file(directory.clients_file)
    fleet, ledger_problem = _ask_fleet(settings)
    answers = dict(_ask(settings, fleet, ledger_problem, processes))
    answers["uploads"] = _uploads_problem(directory, processes)
    parts = [_part_status(part, processes.get(part.name), answers[part.name]) for part in state.parts]
    external = [
        PartStatus(
            name=name, state="external", pid=0, uptime_seconds=0.0, address=address, deaths=0, problem=problem
        )
        for name, address, embedded, problem in (
            ("redis", "WARMLINE_REDIS_URL", settings.stack.embed_redis, answers["valkey"]),
            ("s3", settings.s3.endpoint_url or "AWS", settings.stack.embed_s3, answers["s3"]),
        )
        if not embedded
    ]
    return StackStatus(phase=state.phase if holder else "unwatched", parts=[*external, *parts], fleet=fleet)


def _ask_fleet(settings: Settings) -> tuple[FleetState | None, str | None]:
    with closing(FleetLedger.connect(settings.redis, settings.jobs)) as ledger:
        try:
            return ledger.fleet(stalled_seconds=settings.worker.stalled_seconds), None
        except WarmlineError as error:
            return None, error.message


def _ask(
    settings: Settings,
    fleet: FleetState | None,
    ledger_problem: str | None,
    processes: dict[str, PartProcess],
) -> Iterator[tuple[str, str | None]]:
    yield "valkey", ledger_problem
    try:
        with closing(ObjectStore(settings.s3)) as store:
            store.ping()
        yield "s3", None
    except WarmlineError as error:
        yield "s3", error.message
    yield "api", _page_problem(f"{settings.api.base_url}/live")
    yield "flower", _page_problem(f"http://{settings.flower.host}:{settings.flower.port}/healthcheck")
    yield "worker", _worker_problem(fleet, processes.get("worker"))


def _worker_problem(fleet: FleetState | None, process: PartProcess | None) -> str | None:
    workers = fleet.workers if fleet is not None else ()
    mine = [each for each in workers if process is not None and each.worker.pid == process.pid]
    if not mine:
        return "not warm yet: it has not announced itself"
    state, condition = mine[0].worker, mine[0].condition
    if condition not in {Condition.OK, Condition.LOADING}:
        return f"{condition}, see below"
    if len(state.warm) < state.children:
        return f"{len(state.warm)} of {state.children} children warm"
    return None


def _uploads_problem(directory: StackDirectory, processes: dict[str, PartProcess]) -> str | None:
    process = processes.get("uploads")
    waits_for = SignOfLife(directory.uploads_sign_file).waits_for(process.pid if process else 0)
    return None if waits_for is None else f"waiting for {waits_for}"


def _page_problem(url: str) -> str | None:
    waiting_for = page_waits_for(url)
    return None if waiting_for is None else f"waiting for {waiting_for}"


def _part_status(part: PartState, process: PartProcess | None, problem: str | None) -> PartStatus:
    running = process is not None and process.pid != 0
    return PartStatus(
        name=part.name,
        state=process.state if process else "lost",
        pid=process.pid if process else 0,
        uptime_seconds=time.time() - process.started_at if process and running else 0.0,
        address=part.address,
        deaths=part.deaths,
        problem=problem if running else "not running",
    )
