"""Processes that rewrite reports in S3 side by side: a request costs milliseconds of this machine's own time, too.

The parent deals out reports in lots, and each process is always one lot ahead, so that none waits for the parent.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from typing import Any

from config.settings import S3Settings
from warmline.calls.categories.backfill import Outcome
from warmline.calls.categories.rewriting import BucketRewriter
from warmline.calls.categories.rules import CategoryRules
from warmline.calls.stored_reports import ReportRef
from warmline.jobs.errors import InternalError
from warmline.objects.plain_reports import PlainReports
from warmline.objects.store import ObjectStore

LOT = 32
THREADS = 4  # requests under way in each process
FEW = 8 * LOT  # reports for which no further process is started: it takes a second
MOST_PROCESSES = 8

_Lot = list[ReportRef]


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """What is to be done with each report."""

    settings: S3Settings
    rules: CategoryRules
    dry_run: bool

    def over(self, refs: Iterable[ReportRef], store: ObjectStore, *, processes: int = 0) -> Iterator[Outcome]:
        """Each report's outcome, in no order. 0 processes: one a core, or this process alone where there are few.

        `store` is for this process; the others have their own. Raises InternalError when a process dies, and
        what listing the reports raises.
        """
        iterator = iter(refs)
        first = list(islice(iterator, FEW))
        count = processes or min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
        if count == 1 or (not processes and len(first) < FEW):
            yield from self._here(_lots(first, iterator), store)
        else:
            yield from self._elsewhere(_lots(first, iterator), count)

    def _here(self, lots: Iterator[_Lot], store: ObjectStore) -> Iterator[Outcome]:
        rewriter = self._rewriter(store)
        with ThreadPoolExecutor(THREADS) as pool:
            for lot in lots:
                yield from pool.map(rewriter.rewrite, lot)

    def _elsewhere(self, lots: Iterator[_Lot], count: int) -> Iterator[Outcome]:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads here may hold
        ends: dict[Any, int] = {}  # our ends of the pipes, and how many lots are out at each
        processes = []
        try:
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, self), daemon=True)
                process.start()
                theirs.close()
                processes.append(process)
                ends[ours] = 0
            for end in [*ends, *ends]:  # two to each: one to work on, one ahead
                _deal(end, lots, ends)
            while any(ends.values()):
                for end in wait([each for each, out in ends.items() if out]):
                    yield from _receive(end)
                    ends[end] -= 1
                    _deal(end, lots, ends)
        finally:
            for process in processes:
                process.kill()  # it is idle; or nobody waits for it, and what it writes is written in one step
                process.join()
            for end in ends:
                end.close()

    def _rewriter(self, store: ObjectStore) -> BucketRewriter:
        return BucketRewriter(store, self.settings.results_bucket, self.rules, dry_run=self.dry_run)

    def serve(self, end: Any) -> None:
        """In a process of its own: rewrites the lots that come, until there are no more."""
        begun: queue.SimpleQueue[list[Future[Outcome]] | None] = queue.SimpleQueue()
        with closing(PlainReports(self.settings)) as store, ThreadPoolExecutor(THREADS) as pool:
            rewriter = self._rewriter(store)
            answers = threading.Thread(target=_answer, args=(end, begun), daemon=True)
            answers.start()
            with suppress(EOFError, OSError):
                while True:
                    begun.put([pool.submit(rewriter.rewrite, ref) for ref in end.recv()])
            begun.put(None)
            answers.join()


def _answer(end: Any, begun: queue.SimpleQueue[list[Future[Outcome]] | None]) -> None:
    """Sends each lot's outcomes; its own thread, so that the next lot begins while this one's last are done."""
    while (lot := begun.get()) is not None:
        outcomes = [future.result() for future in lot]
        with suppress(OSError):  # the parent has gone
            end.send(outcomes)


def _serve(end: Any, rewriting: Rewriting) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent, whose end of the pipe then closes
    rewriting.serve(end)


def _deal(end: Any, lots: Iterator[_Lot], ends: dict[Any, int]) -> None:
    lot = next(lots, None)
    if lot is not None:
        try:
            end.send(lot)
        except OSError:
            raise InternalError("A process that rewrote reports has ended; run it again to go on.") from None
        ends[end] += 1


def _receive(end: Any) -> list[Outcome]:
    try:
        outcomes: list[Outcome] = end.recv()
    except (EOFError, OSError):
        raise InternalError("A process that rewrote reports has ended; run it again to go on.") from None
    return outcomes


def _lots(first: _Lot, rest: Iterator[ReportRef]) -> Iterator[_Lot]:
    for at in range(0, len(first), LOT):
        yield first[at : at + LOT]
    while lot := list(islice(rest, LOT)):
        yield lot
