"""Jobs that were given up: they are kept to be looked at, replayed once their cause is gone, or forgotten.

`Ledger.list(status=JobStatus.DEAD)` lists them, `Ledger.get` shows one with all its attempts and errors.
"""

from __future__ import annotations

from warmline.jobs import transitions
from warmline.jobs.batches import Batches
from warmline.jobs.connection import redis_answers
from warmline.jobs.errors import JobNotFound, NotReplayable
from warmline.jobs.records import JobState, JobStatus


class DeadLetters(Batches):
    """The part of the ledger that knows what to do about them."""

    @redis_answers()
    def replay(self, job_id: str) -> JobState:
        """Queues a job again that failed or is dead. Raises JobNotFound, NotReplayable."""
        state = self.get(job_id)
        if not self._run(transitions.REPLAY, job_id, state.job.lane):
            raise NotReplayable(
                f"This job is {state.status.value}; only one that failed or is dead can be replayed."
            )
        return self.get(job_id)

    def replay_all(self, batch_id: str | None = None) -> int:
        """Replays all that are dead, or what failed or is dead of one batch; returns how many.

        Raises BatchNotFound.
        """
        statuses = (JobStatus.DEAD,) if batch_id is None else (JobStatus.DEAD, JobStatus.FAILED)
        replayed = 0
        for state in self._each(statuses, batch_id):
            try:
                self.replay(state.job.id)
            except (JobNotFound, NotReplayable):
                continue  # somebody else was quicker
            replayed += 1
        return replayed

    @redis_answers()
    def purge(self, job_id: str) -> bool:
        """Forgets a dead job; False when it is not dead."""
        return bool(self._run(transitions.PURGE, job_id))

    def purge_all(self, batch_id: str | None = None) -> int:
        """Forgets all that are dead, or those of one batch; returns how many. Raises BatchNotFound."""
        return sum(self.purge(state.job.id) for state in self._each((JobStatus.DEAD,), batch_id))
