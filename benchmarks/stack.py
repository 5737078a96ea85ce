"""Rows 4, 6 and 7: the whole one-machine stack, with real servers and a real worker, in a temporary directory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.rows import Result
from benchmarks.speech import cut_windows, speech_pool, write_call
from benchmarks.subjects import Bench, NotMeasured, alternate, describe_plan, seconds_of
from benchmarks.throughput import bare_openvino, lone, what_ran
from warmline.cli.api_client import ApiClient
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import ChildState
from warmline.local.parts import StackError
from warmline.local.stack import Stack, running_stack
from warmline.objects.store import ObjectStore

CALLS = 4  # for each round of row 4
CALL_SECONDS = 24.0
CHILDREN = 4
POLL_SECONDS = 0.02
REPLACEMENT_SECONDS = 300.0
PSS_READINGS = 3


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A real worker, warm, within its stack."""

    stack: Stack
    ledger: Ledger

    def children(self) -> tuple[ChildState, ...]:
        """Its warm children."""
        return tuple(child for worker in self.ledger.workers() for child in worker.warm)

    def processes(self) -> list[psutil.Process]:
        """Every process below the worker's parent: children, and hosts where the plan has some."""
        return [process for worker in self.ledger.workers() for process in _descendants(worker.pid)]


@contextlib.contextmanager
def warm_worker(bench: Bench, *, children: int = 0) -> Iterator[Worker]:
    """A stack of its own, ready. Raises NotMeasured where it does not get ready."""
    name = f"stack-{children}-{time.monotonic_ns()}"
    settings = bench.settings
    settings = settings.model_copy(
        update={
            "stack": settings.stack.model_copy(
                update={
                    "data_dir": bench.scratch / name,
                    "embed_redis": True,
                    "embed_s3": True,
                    "triggers": False,  # calls are submitted by hand, each as often as it takes
                }
            ),
            "worker": settings.worker.model_copy(
                update={
                    "children": children,
                    "live_children": 0,
                    "scratch_dir": bench.scratch / name / "calls",
                    "heartbeat_seconds": 0.5,
                }
            ),
        }
    )
    try:
        with running_stack(settings) as stack:
            yield Worker(stack=stack, ledger=Ledger.connect(stack.settings.redis, stack.settings.jobs))
    except StackError as error:
        raise NotMeasured(str(error)) from error


def measure_stack_throughput(bench: Bench) -> Iterator[Result]:
    """Row 4: batches of calls through S3, API, queue and worker, beside bare OpenVINO on the same windows."""
    pool = speech_pool(bench.settings.audio)
    seconds = 6.0 if bench.quick else CALL_SECONDS
    files = [
        write_call(
            bench.scratch / f"stack-call-{index}.wav",
            pool,
            seconds=seconds,
            channels=1,
            offset_seconds=index * pool.size / 16_000 / CALLS,
        )
        for index in range(CALLS)
    ]
    windows = [window for file in files for window in cut_windows(file, bench.settings.audio)]
    audio_seconds = seconds_of(windows)
    plan = bench.plan()
    openvino = bare_openvino(bench, windows, "stack")
    with lone(openvino, audio_seconds) as peer, warm_worker(bench, children=plan.children) as worker:
        uploaded = _upload(worker.stack, files)
        measures = {
            "bare OpenVINO": peer,
            "the stack": lambda: audio_seconds / _score_batch(worker.stack, uploaded),
        }
        rounds = alternate(bench, "row 4", measures, bench.rounds)
    yield Result(
        key="4",
        rounds=tuple((peer_rtfx, ours) for peer_rtfx, ours in rounds),
        subject=f"{describe_plan(plan)}, {plan.children} children",
        peer=what_ran(openvino),
        note=f"{len(windows)} windows of {CALLS} calls of {seconds:g} s, in both",
    )


def _upload(stack: Stack, files: list[Path]) -> list[dict[str, str]]:
    store = ObjectStore(stack.settings.s3)
    bucket = stack.settings.s3.source_buckets[0]
    for file in files:
        store.put_call(bucket, f"benchmark/{file.name}", file)
    return [{"bucket": bucket, "key": f"benchmark/{file.name}"} for file in files]


def _score_batch(stack: Stack, sources: list[dict[str, str]]) -> float:
    """Wall seconds from the submission until the last report is stored. A call is analysed anew each time."""
    with ApiClient(stack.settings.api) as api:
        started = time.perf_counter()
        batch_id = api.submit_batch({"jobs": [{"source": source} for source in sources]})
        while not (state := api.batch(batch_id)).finished:
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        if state.failed:
            failure = next(job.failure for job in api.batch_jobs(batch_id) if job.failure)
            raise NotMeasured(f"a job failed: {failure.message}")
        return seconds


def replace_child(worker: Worker) -> float:
    """Kills a warm child; seconds from the fork of its replacement until that is warm."""
    before = {child.pid for child in worker.children()}
    victim = max(before)
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + REPLACEMENT_SECONDS
    while time.monotonic() < deadline:
        for child in worker.children():
            if child.pid not in before:
                return child.warm_since.timestamp() - _forked_at(child.pid)
        time.sleep(POLL_SECONDS)
    raise NotMeasured(f"a killed child had no warm replacement within {REPLACEMENT_SECONDS:g} s")


def _forked_at(pid: int) -> float:
    """When a process began, by the wall clock, to a hundredth of a second: the kernel counts ticks since boot."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def measure_children_memory(bench: Bench) -> Iterator[Result]:
    """Row 7: PSS of all processes below the worker's parent, with four children and with one.

    The parent is left out of both: its pages, shared with five processes or with two, count less of four children
    than of one, so counting it would flatter us.
    """
    bench.tell("row 7: one child alone")
    alone = _pss_megabytes(bench, 1)
    bench.tell(f"row 7: {CHILDREN} children")
    together = _pss_megabytes(bench, CHILDREN)
    plan = bench.plan(children=CHILDREN)
    hosts = f" and {plan.hosts} host of theirs" if plan.hosts else ""
    yield Result(
        key="7",
        rounds=tuple((CHILDREN * one, all_) for one, all_ in zip(alone, together, strict=True)),
        subject=f"{plan.engine} {plan.precision}, {CHILDREN} children{hosts}",
        note=f"one child alone {alone[0]:,.0f} MB",
    )


def _pss_megabytes(bench: Bench, children: int) -> list[float]:
    with warm_worker(bench, children=children) as worker:
        readings = []
        for _ in range(PSS_READINGS):
            readings.append(sum(_pss_bytes(process.pid) for process in worker.processes()) / 1e6)
            time.sleep(0.3)
        return readings


def _pss_bytes(pid: int) -> int:
    """The process's proportional set size: a page that n processes map counts a n-th."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)
