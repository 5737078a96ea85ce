"""The signs by which a worker's parent sees that a child comes on with its job."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

from tests.integration.desks import NewDesk, job_for
from tests.servers import wait_until
from warmline.jobs.records import JobState, JobStatus, Progress, Source
from workers.drain import DrainFlag
from workers.lease import Lease
from workers.pulse import Pulse
from workers.store_outage import wait_out


def test_a_slow_job_shows_that_it_comes_on(slow_desk: NewDesk, call: Source) -> None:
    # Given a child that works on a slow job
    pulse = Pulse()
    desk = dataclasses.replace(slow_desk(), sign=pulse.of_child(0))
    job = job_for(call)
    thread = threading.Thread(target=desk.attempt, args=(job,))
    thread.start()
    # Then its parent sees that it has one, and comes on with it all the while
    wait_until(lambda: pulse.working().keys() == {os.getpid()}, "it has a job")
    signs, before = 0, 0.0
    while thread.is_alive():
        age = max(pulse.working().values(), default=0.0)
        signs, before = signs + (age < before), age
        time.sleep(0.005)
    assert signs > 4  # one for each window, and one at its end
    # And that it is done
    assert desk.ledger.get(job.id).status is JobStatus.SUCCEEDED
    assert pulse.working() == {}


def test_whatever_the_work_asks_and_tells_is_a_sign(new_desk: NewDesk, call: Source) -> None:
    # Given a child with a job that has not come on for a while
    pulse = Pulse()
    desk = dataclasses.replace(new_desk(), sign=pulse.of_child(0))
    state = desk.ledger.claim(job_for(call), desk.name)
    assert isinstance(state, JobState)
    rules = desk.settings.jobs
    lease = Lease(desk.ledger, state, keeper=desk.keeper, sign=desk.sign, drain=desk.drain, settings=rules)
    for come_on in (
        lease.check,
        lambda: lease.tell(Progress(stage="fetch")),
        lambda: lease.on_windows(1, 2),
        lambda: lease.on_audio(1.0),
    ):
        began = time.monotonic()
        with desk.sign:
            time.sleep(0.02)
            come_on()
            (age,) = pulse.working().values()
            assert age <= time.monotonic() - began - 0.02


def test_a_job_that_is_refused_or_fails_is_over(new_desk: NewDesk, call: Source) -> None:
    pulse = Pulse()
    desk = dataclasses.replace(new_desk(), sign=pulse.of_child(0))
    job = job_for(call)
    desk.ledger.claim(job, "somebody-else/1")
    desk.attempt(job)
    missing = job_for(Source(bucket="calls", key="not-there.wav"))
    desk.attempt(missing)
    assert desk.ledger.get(missing.id).status is JobStatus.FAILED
    assert pulse.working() == {}


def test_who_waits_for_the_store_comes_on(new_desk: NewDesk, tmp_path: Path) -> None:
    desk, drain, looks = new_desk(), DrainFlag(), 0

    def on_wait() -> None:
        nonlocal looks
        looks += 1

    # Given a store that answers, then it was looked at once
    wait_out(desk.store, drain, most_seconds=5, on_wait=on_wait)
    assert looks == 1
    # Given one that does not, then there is a sign before every look
    away = new_desk(s3=desk.settings.s3.model_copy(update={"endpoint_url": "http://127.0.0.1:1"}))
    wait_out(away.store, drain, most_seconds=1, on_wait=on_wait)
    assert looks >= 2
