"""A stack that says it is ready answers its first job as quickly as the next ones."""

from __future__ import annotations

import statistics

from tests.cli.conftest import SAMPLES, finished
from warmline.cli.api_client import ApiClient
from warmline.local.stack import Stack
from warmline.objects.store import ObjectStore


def test_the_first_job_does_not_wait_for_a_model(stack: Stack) -> None:
    # Given a stack that has just become ready
    store = ObjectStore(stack.settings.s3)
    # When it gets eleven jobs, one after the other
    with ApiClient(stack.settings.api) as api:
        seconds = [_latency_seconds(api, store, f"first/{number}.wav") for number in range(11)]
    # Then the first took no longer than the others but for what a busy machine does to any of them: a child that
    # has neither warmed its model nor rehearsed takes twice the median. benchmarks/warm_start.py has the figure.
    first, others = seconds[0], seconds[1:]
    assert first < max(1.8 * statistics.median(others) + 0.05, 1.1 * max(others)), seconds


def _latency_seconds(api: ApiClient, store: ObjectStore, key: str) -> float:
    store.put_call("calls", key, SAMPLES[0])
    state = finished(api, api.submit_job({"source": {"bucket": "calls", "key": key}}))
    assert state.finished_at is not None
    return (state.finished_at - state.job.created_at).total_seconds()
