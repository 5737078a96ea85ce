"""The ledger: what Redis knows of jobs, batches and workers. A job is entered here before its message is sent.

Every method raises LedgerUnavailable when Redis does not answer as it should. Every write that two processes could
make at once is one of the scripts in transitions.py. Redis Cluster is not supported.

A worker writes under the number of its attempt. A write for an attempt that is not the job's last any more,
because another worker has the job or because it was ended otherwise, changes nothing.
"""

from __future__ import annotations

from warmline.jobs import keys, line_scripts, transitions
from warmline.jobs.batch_ids import batch_of, job_id_of
from warmline.jobs.connection import redis_answers
from warmline.jobs.dead_letters import DeadLetters
from warmline.jobs.errors import BacklogFull, BatchNotFound, JobNotFound, WorkerLost
from warmline.jobs.fleet import Fleet
from warmline.jobs.idempotency import Made, Once
from warmline.jobs.records import (
    BatchState,
    Failure,
    Hold,
    Job,
    JobState,
    JobStatus,
    Progress,
    Refusal,
    ReportLocation,
)
from warmline.jobs.rows import JOB_FIELDS, job_state, milliseconds


class Ledger(DeadLetters, Fleet):
    """A client of the ledger. Threads may share it, and so may a process and its forks."""

    # What a submission writes

    def create(self, job: Job) -> bool:
        """Enters a job as queued; False when a job with this id is there already, which is left as it is.

        Raises BacklogFull.
        """
        return bool(self._create(job, "", ""))

    def create_once(self, job: Job, once: Once) -> Made:
        """Enters a job as queued, unless this request came before: then the job that it made.

        Raises BacklogFull, IdempotencyKeyReused.
        """
        created = self._create(job, once.name, once.entry(job.id, 1))
        # Our own entry is the answer when the first one was lost, and redis-py asked again.
        if isinstance(created, str) and created != once.entry(job.id, 1):
            return once.read(created)
        return Made(id=job.id)

    @redis_answers()
    def _create(self, job: Job, name: str, entry: str) -> int | str:
        created: int | str = self._run(
            transitions.CREATE,
            *(job.id, job.model_dump_json(), milliseconds(job.created_at), job.lane, self._jobs.max_backlog),
            *(name, entry, self._jobs.idempotency_seconds),
        )
        if created == -1:
            raise BacklogFull
        return created

    # What a worker writes

    @redis_answers()
    def claim(self, job: Job, worker: str) -> JobState | Refusal:
        """Gives a job to a worker, with a lease: running, one attempt more. An unknown job is entered now.

        Refused when it has ended, and when somebody else has its lease, even one that is over: the sweeper decides
        when a worker is lost.
        """
        batch_id, place = _place(job)
        claimed = self._run(
            transitions.CLAIM,
            *(job.id, job.model_dump_json(), milliseconds(job.created_at), batch_id, place, worker),
            *(self._lease_ms, *JOB_FIELDS),
        )
        if claimed == "ended":
            return Refusal(reason="ended")
        if len(claimed) == 2:
            return Refusal(reason="leased", holder=claimed[1])
        return job_state(claimed)

    @redis_answers()
    def heartbeat(self, job_id: str, attempt: int, progress: Progress | None = None) -> Hold:
        """Renews the lease of a running job, and says how far it is."""
        text = "" if progress is None else progress.model_dump_json()
        return Hold(self._run(transitions.HEARTBEAT, job_id, attempt, self._lease_ms, text))

    @redis_answers()
    def succeed(self, job_id: str, attempt: int, location: ReportLocation, report_json: str | None) -> bool:
        """Ends a job with a report, kept here when its JSON is given; False when it is another attempt's now."""
        retention = self._jobs.retention_seconds
        where = location.model_dump_json()
        return bool(self._run(transitions.SUCCEED, job_id, attempt, where, report_json or "", retention))

    @redis_answers()
    def fail(self, job_id: str, attempt: int, failure: Failure) -> bool:
        """Ends a job that no attempt can mend; False when it is not this attempt's any more."""
        retention = self._jobs.retention_seconds
        return bool(self._run(transitions.FAIL, job_id, attempt, failure.model_dump_json(), retention))

    @redis_answers()
    def retry(self, job_id: str, attempt: int, failure: Failure, *, delay_seconds: float) -> JobStatus | None:
        """Has a job tried again after so long, or ends it as dead when as many attempts as may be ended like this.

        Returns what became of it, None when it is not this attempt's any more.
        """
        status = self._run(
            transitions.RETRY,
            *(job_id, attempt, failure.model_dump_json(), int(delay_seconds * 1000), self._jobs.max_attempts),
            *(self._jobs.dead_letter_retention_seconds, self._jobs.retention_seconds),
        )
        return JobStatus(status) if status else None

    @redis_answers()
    def hand_back(self, job_id: str, attempt: int) -> bool:
        """A worker that stops gives a job back: it runs elsewhere at once, and that is no failure."""
        return bool(self._run(transitions.HAND_BACK, job_id, attempt, self._jobs.retention_seconds))

    @redis_answers()
    def cancelled(self, job_id: str, attempt: int) -> bool:
        """A worker has stopped working on a job that was to be cancelled."""
        return bool(self._run(transitions.CANCELLED, job_id, attempt, self._jobs.retention_seconds))

    # What is known of a worker that cannot write any more

    @redis_answers()
    def lost_holder(self, holder: str) -> str | None:
        """The process `holder` (worker/pid) is dead: its job, whose id is returned, is tried again, or is dead."""
        return self._run(transitions.LOSE_HOLDER, holder, *self._loss()) or None

    def lost(self, job_id: str, holder: str) -> bool:
        """The process `holder` is dead; False when it did not have the lease of this job."""
        return self.lost_holder(holder) == job_id

    @redis_answers()
    def lose_expired(self, limit: int = 100) -> tuple[str, ...]:
        """Treats jobs whose leases are over as lost; returns their ids, at most so many."""
        return tuple(self._run(transitions.LOSE_EXPIRED, *self._loss(), limit))

    # What people want

    @redis_answers()
    def cancel(self, job_id: str) -> JobState:
        """Cancels a job: at once where it waits; where it runs, its worker stops soon. Raises JobNotFound.

        A job that has ended stays as it is.
        """
        job = self.get(job_id).job
        batch_id, place = _place(job)
        status = self._run(
            transitions.CANCEL,
            *(job_id, job.model_dump_json(), milliseconds(job.created_at), batch_id, place, job.lane),
            self._jobs.retention_seconds,
        )
        if not status:
            raise JobNotFound
        return self.get(job_id)

    @redis_answers()
    def cancel_batch(self, batch_id: str) -> BatchState:
        """Cancels all its jobs that have not ended: what waits at once, what runs soon. Raises BatchNotFound."""
        if not self._run(line_scripts.CANCEL_WAITING, batch_id, self._jobs.retention_seconds):
            raise BatchNotFound
        # What was sent, waits for another attempt, runs, or was replayed: few, wherever they are.
        for state in self._each((JobStatus.QUEUED, JobStatus.RUNNING), batch_id):
            self.cancel(state.job.id)
        return self.batch(batch_id)

    @redis_answers()
    def report(self, job_id: str) -> bytes | None:
        """The report's JSON, or None when Redis does not keep it: not ready, in S3 only, or expired."""
        text: str | None = self._redis.get(keys.report(job_id))
        return None if text is None else text.encode()

    @property
    def _lease_ms(self) -> int:
        return int(self._jobs.lease_seconds * 1000)

    def _loss(self) -> tuple[str | int, ...]:
        jobs = self._jobs
        lost = Failure(
            code=WorkerLost.code,
            message="The worker process died while it ran this job; see the worker's log.",
        )
        return (
            jobs.max_losses,
            lost.model_dump_json(),
            jobs.dead_letter_retention_seconds,
            jobs.retention_seconds,
        )


def _place(job: Job) -> tuple[str, int]:
    """The job's batch and its place there; '' and -1 for a job that is of none, whatever its message says."""
    batch_id, place = batch_of(job.id)
    if job.batch_id != batch_id or place < 0 or job_id_of(batch_id, place) != job.id:
        return "", -1
    return batch_id, place
