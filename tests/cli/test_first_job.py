"""A stack that says it is ready has a child that was warm, and had walked a whole job, before its first job.

How much longer the first one takes is a figure, not a test: benchmarks/warm_start.py has it.
"""

from __future__ import annotations

import json
from datetime import datetime

from tests.cli.conftest import SAMPLES, finished
from warmline.cli.api_client import ApiClient
from warmline.jobs.ledger import Ledger
from warmline.local.stack import Stack
from warmline.objects.store import ObjectStore


def test_the_first_job_does_not_wait_for_a_model(stack: Stack) -> None:
    # Given a stack that has just become ready
    ledger = Ledger.connect(stack.settings.redis, stack.settings.jobs)
    warm_since = {f"{each.name}/{child.pid}": child.warm_since for each in ledger.workers() for child in each.warm}
    ledger.close()
    # When it gets its first job
    store = ObjectStore(stack.settings.s3)
    store.put_call("calls", "first/call.wav", SAMPLES[0])
    with ApiClient(stack.settings.api) as api:
        state = finished(api, api.submit_job({"source": {"bucket": "calls", "key": "first/call.wav"}}))
    # Then a child did it that was warm before, at the first attempt
    assert state.attempt == 1
    assert warm_since[state.worker or ""] < state.job.created_at
    # And no process of the worker has loaded a model, or imported one, since the job was there
    assert _said_later(stack, state.job.created_at) == {"job_started", "job_finished"}


def _said_later(stack: Stack, moment: datetime) -> set[str]:
    """What the worker's log says has happened since."""
    log = stack.settings.stack.data_dir / "logs" / "worker.log"
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return {line["action"] for line in lines if datetime.fromisoformat(line["timestamp"]) >= moment}
