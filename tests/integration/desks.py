"""Desks of workers without Celery: what an attempt needs, on real servers, with a tiny model."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from warmline.jobs.records import Job, Source
from workers.scoring import Desk

NewDesk = Callable[..., Desk]


def job_for(source: Source, **fields: object) -> Job:
    return Job.model_validate({"id": uuid.uuid4().hex, "source": source, "created_at": datetime.now(UTC)} | fields)


def left_in_scratch(desk: Desk) -> list[Path]:
    return [path for path in desk.settings.worker.scratch_dir.rglob("*") if path.is_file() and path.name != "lock"]
