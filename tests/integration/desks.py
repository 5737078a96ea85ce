"""Desks of workers without Celery: what an attempt needs, on real servers, with a tiny model."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.servers import wait_until
from warmline.emotion.engine import Embeddings, Engine, Samples, Scores
from warmline.jobs.records import Job, JobState, Source
from workers.lease import BEAT_SECONDS
from workers.scoring import Desk, End

NewDesk = Callable[..., Desk]

WINDOW_SECONDS = 0.3
SECONDS_TO_STOP = 2 * WINDOW_SECONDS + BEAT_SECONDS + 20  # and what a busy machine adds


class SlowEngine:
    """An engine that takes its time for each window, as a large model on a slow machine does."""

    def __init__(self, engine: Engine, wait: Callable[[], object] = lambda: time.sleep(WINDOW_SECONDS)) -> None:
        self._engine, self._wait = engine, wait
        self.info, self.min_samples, self.windows_at_once = engine.info, engine.min_samples, 1
        self.embedding_dimensions = engine.embedding_dimensions

    def prepare(self, windows: Sequence[Samples]) -> Any:
        """See `Engine`."""
        return self._engine.prepare(windows)

    def infer(self, prepared: Any, *, embeddings: bool = False) -> Any:
        """See `Engine`."""
        self._wait()
        return self._engine.infer(prepared, embeddings=embeddings)

    def finish(self, output: Any) -> Scores:
        """See `Engine`."""
        return self._engine.finish(output)

    def embeddings(self, output: Any) -> Embeddings:
        """See `Engine`."""
        return self._engine.embeddings(output)


def job_for(source: Source, **fields: object) -> Job:
    return Job.model_validate({"id": uuid.uuid4().hex, "source": source, "created_at": datetime.now(UTC)} | fields)


def left_in_scratch(desk: Desk) -> list[Path]:
    return [path for path in desk.settings.worker.scratch_dir.rglob("*") if path.is_file() and path.name != "lock"]


@contextmanager
def attempting(
    desk: Desk, job: Job, *, windows: int = 1, on_end: Callable[[End], object] = lambda _: None
) -> Iterator[threading.Thread]:
    """An attempt in another thread, which has scored so many windows when the block begins, and ends with it."""
    thread = threading.Thread(target=lambda: on_end(desk.attempt(job)))
    thread.start()
    try:
        wait_until(lambda: windows_done(desk, job) >= windows, "windows are scored", interval_seconds=0.01)
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive()


def windows_done(desk: Desk, job: Job) -> int:
    """As its progress says; 0 for a job that is not there yet."""
    states = [state for state in desk.ledger.list() if state.job.id == job.id]
    return states[0].progress.windows_done if states and states[0].progress else 0


def seconds_taken(state: JobState) -> float:
    """From its last start to its end."""
    assert state.started_at is not None
    assert state.finished_at is not None
    return (state.finished_at - state.started_at).total_seconds()
