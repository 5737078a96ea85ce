"""The Celery task: a message in, an attempt, and the message is acknowledged, sent again later, or given back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery
from celery.exceptions import Reject

from warmline.jobs.errors import EngineLost, LedgerUnavailable
from warmline.jobs.queue import TASK, JobQueue
from workers.messages import drop_malformed, parse_job

if TYPE_CHECKING:
    from workers.scoring import Desk

log = structlog.get_logger()

GIVE_BACK_SECONDS = 1.0  # before a message is given back, so that what is in trouble is not asked all the time


def register_tasks(app: Celery, desk: Callable[[], Desk]) -> None:
    """Adds the task to the application. `desk` is called in a warm child; raises EngineLost in one that was."""
    queue = JobQueue(app)

    strategy = f"{drop_malformed.__module__}:{drop_malformed.__name__}"

    @app.task(name=TASK, Strategy=strategy)  # type: ignore[untyped-decorator]
    def analyze(*args: Any, **kwargs: Any) -> None:
        job = parse_job(args, kwargs)
        if job is None:
            return
        try:
            wait_seconds = desk().attempt(job)
            if wait_seconds is not None:
                queue.send([job], delay_seconds=wait_seconds)
        except (EngineLost, LedgerUnavailable) as error:
            log.warning("message_given_back", job_id=job.id, error=error.message)
            time.sleep(GIVE_BACK_SECONDS)
            raise Reject(error.message, requeue=True) from error
