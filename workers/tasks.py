"""The Celery task: a message in, an attempt, and the message is acknowledged, or given back to the broker.

It is given back only before a job is claimed. From then on the ledger answers for the job, and sends it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery
from celery.exceptions import Reject, Retry

from warmline.jobs.errors import EngineLost, LedgerUnavailable
from warmline.jobs.queue import TASK
from workers.lease import Draining
from workers.messages import DiscreetRequest, drop_malformed, parse_job

if TYPE_CHECKING:
    from workers.scoring import Desk

log = structlog.get_logger()

GIVE_BACK_SECONDS = 1.0  # before a message is given back, so that what is in trouble is not asked all the time


class AttemptFailed(Exception):
    """For Celery's events alone, and so for Flower: this attempt did not succeed. All that it says is the code.

    The ledger knows more.
    """


class AttemptAgain(Retry):  # type: ignore[misc]
    """The same of an attempt that is followed by another one: it is neither a failure nor the end of the task.

    Celery's word for that, and nothing more: who sends a job again is the ledger. Celery itself sends only what a
    task's own `retry()` asks for.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code, AttemptFailed(code))
        self.code = code

    def __reduce__(self) -> tuple[type[AttemptAgain], tuple[str]]:
        return type(self), (self.code,)


def register_tasks(app: Celery, desk: Callable[[], Desk]) -> None:
    """Adds the task to the application. `desk` is called in a warm child; raises EngineLost in one that was."""
    strategy, request = (f"{each.__module__}:{each.__name__}" for each in (drop_malformed, DiscreetRequest))

    # What is in `throws` is no error to Celery's log.
    @app.task(name=TASK, Strategy=strategy, Request=request, throws=(AttemptFailed,))  # type: ignore[untyped-decorator]
    def analyze(*args: Any, **kwargs: Any) -> None:
        job = parse_job(args, kwargs)
        if job is None:
            return
        try:
            end = desk().attempt(job)
        except Draining:
            raise Reject("the worker ends", requeue=True) from None
        except (EngineLost, LedgerUnavailable) as error:
            log.warning("message_given_back", job_id=job.id, error=error.message)
            time.sleep(GIVE_BACK_SECONDS)
            raise Reject(error.message, requeue=True) from error
        if end.comes_again:
            raise AttemptAgain(end.code)
        if end.fault is not None:
            raise AttemptFailed(end.code)
