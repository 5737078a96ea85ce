"""An object store that does not answer, waited out: before the next job is taken, and not at the price of one.

A store that is gone makes every job fail in no time. A child that went on would use up the attempts of thousands
of jobs in an outage of an hour; one that waits uses up an attempt now and then, to see for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from warmline.jobs.errors import StoreUnavailable, WarmlineError
from warmline.objects.store import ObjectStore
from workers.drain import DrainFlag

log = structlog.get_logger()

# Below the default visibility timeout: the message that brought the last job is not done with yet.
MOST_SECONDS = 240.0
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 5.0


def wait_out(
    store: ObjectStore, drain: DrainFlag, *, most_seconds: float, on_wait: Callable[[], None] = lambda: None
) -> None:
    """Returns when the store answers, whatever it says; also when the worker ends, or after so long.

    `on_wait` is called before each look.
    """
    started, wait = time.monotonic(), FIRST_WAIT_SECONDS
    while not drain.is_set() and time.monotonic() - started < most_seconds:
        on_wait()
        try:
            store.ping()
        except StoreUnavailable as error:
            if wait == FIRST_WAIT_SECONDS:
                log.warning("store_awaited", error=error.message)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        except WarmlineError:
            return  # an answer, which jobs will get, too
        else:
            return
