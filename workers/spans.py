"""An attempt at a job as a span: whose trace it is part of, and what is told of it.

A job that was submitted alone is part of the trace of its submission: one trace from the request to each stage. A
batch may have a hundred thousand jobs, and no tool shows a trace of a million spans: so each job of a batch has a
trace of its own, which links to that of the submission. It is the same one for all attempts at the job, and
decides for itself whether it is among the sampled ones.
"""

from __future__ import annotations

from warmline.jobs.queue import QUEUES
from warmline.jobs.records import JobState
from warmline.telemetry.tracing import Span, Tracing, current
from workers.tally import AttemptSeen


def attempt_span(tracing: Tracing, state: JobState) -> Span:
    """Of a job that was claimed just now. What the ledger knows of it decides, so that attempts share a trace."""
    if not tracing.on:
        return Span()
    job = state.job
    alone = job.batch_id is None
    facts: dict[str, str | int | float | None] = {
        "messaging.system": "celery",
        "messaging.operation.type": "process",
        "messaging.destination.name": QUEUES[job.lane],
        "messaging.message.id": job.id,
        "warmline.job.id": job.id,
        "warmline.batch.id": job.batch_id,
        "warmline.lane": job.lane,
        "warmline.attempt": state.attempt,
        "warmline.worker": state.worker,
        "aws.s3.bucket": job.source.bucket,
        "aws.s3.key": job.source.key,
    }
    return tracing.root(
        "job",
        kind="consumer",
        parent=job.traceparent if alone else None,
        link=None if alone else job.traceparent,
        seed=job.id,
        attributes={name: value for name, value in facts.items() if value is not None},
    )


def describe_attempt(seen: AttemptSeen) -> None:
    """Tells the span of the attempt that is over what became of it."""
    open_span = current()
    open_span.set("warmline.outcome", seen.outcome)
    for name in ("wait_seconds", "audio_seconds", "speech_seconds", "rtfx"):
        value = getattr(seen, name)
        if value is not None:
            open_span.set(f"warmline.{name}", value)
