"""What a reconciliation reads and writes in Redis: who runs it, how far it is, which calls are in flight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from warmline.jobs import keys
from warmline.jobs.connection import redis_answers
from warmline.jobs.errors import ReconciliationNotFound
from warmline.jobs.ledger import Ledger
from warmline.jobs.listings import CHUNK_JOBS
from warmline.jobs.reconciliation import ReconcileStatus, Reconciliation
from warmline.jobs.records import Job, JobStatus, ReportLocation
from warmline.jobs.rows import WAITING_FIELDS, Row, WaitingBatch, milliseconds
from warmline.jobs.transitions import SHARED
from warmline.jobs.upload_ledger import upload_job_id

HOLD_SECONDS = 180  # longer than a page of a listing takes with all its retries
KEPT_SECONDS = 86400

# ARGV: reconciliation's id, its state as JSON, how long it is held in ms, how long the state is kept in s.
# 0: another one runs.
_HOLD = f"""
local holder = redis.call('GET', '{keys.RECONCILER}')
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', '{keys.RECONCILER}', ARGV[1], 'PX', ARGV[3])
redis.call('SET', '{keys.RECONCILED}' .. ARGV[1], ARGV[2], 'EX', ARGV[4])
return 1
"""

# ARGV: reconciliation's id, its state as JSON, how long the state is kept in s.
_END = f"""
if redis.call('GET', '{keys.RECONCILER}') == ARGV[1] then redis.call('DEL', '{keys.RECONCILER}') end
redis.call('SET', '{keys.RECONCILED}' .. ARGV[1], ARGV[2], 'EX', ARGV[3])
return 1
"""

# ARGV: job id, its JSON, creation time in ms, lane, most jobs that may wait, the id that the call's upload gives
# its job, the options' JSON. 'entered', 'full', or the status of the job with this id, or of the upload's job with
# these options while it waits or runs: its event may have come since this reconciliation began.
# One that has succeeded is entered anew: somebody has taken its report out of S3.
_ENTER = f"""{SHARED}
local id = ARGV[1]
local status = redis.call('HGET', JOB .. id, 'status')
if status and status ~= 'succeeded' then return status end
local of_upload = redis.call('HMGET', JOB .. ARGV[6], 'status', 'job')
if of_upload[1] and not is_over(of_upload[1]) and string.find(of_upload[2], ARGV[7], 1, true) then
  return of_upload[1]
end
if waiting() >= tonumber(ARGV[5]) then return 'full' end
if status then forget(id) end
enter(id, ARGV[2], ARGV[3], '', -1)
stand_in_line(id, ARGV[4])
return 'entered'
"""

# ARGV: job id, its report's location, lane, retention in s. 0: it has ended, or its worker lives and will end it.
_SETTLE = f"""{SHARED}
local id = ARGV[1]
local status = redis.call('HGET', JOB .. id, 'status')
if not status or is_over(status) then return 0 end
if status == 'running' then
  local lease = redis.call('ZSCORE', LEASES, id)
  if lease and tonumber(lease) > now_ms() then return 0 end
  end_attempt(id, 'succeeded', '')
else
  leave_line(id, ARGV[3])
end
redis.call('HSET', JOB .. id, 'report', ARGV[2])
finish(id, 'succeeded', ARGV[4])
return 1
"""


class ReconcileLedger(Ledger):
    """The ledger, with what a reconciliation does there. Every method raises LedgerUnavailable."""

    @redis_answers()
    def hold(self, run: Reconciliation) -> bool:
        """Begins or goes on, and says how far it is; False when another one runs."""
        state = run.model_dump_json()
        return bool(self._run(_HOLD, run.id, state, HOLD_SECONDS * 1000, KEPT_SECONDS))

    @redis_answers()
    def end(self, run: Reconciliation) -> None:
        """Says how it ended, and lets others run."""
        self._run(_END, run.id, run.model_dump_json(), KEPT_SECONDS)

    @redis_answers()
    def reconciliation(self, run_id: str) -> Reconciliation:
        """How far it is. Raises ReconciliationNotFound."""
        text: str | None = self._redis.get(f"{keys.RECONCILED}{run_id}")
        if text is None:
            raise ReconciliationNotFound
        run = Reconciliation.read(text)
        if run.status is ReconcileStatus.RUNNING and self._redis.get(keys.RECONCILER) != run_id:
            # It may have ended between the two looks.
            run = Reconciliation.read(self._redis.get(f"{keys.RECONCILED}{run_id}") or text)
            if run.status is ReconcileStatus.RUNNING:
                return run.model_copy(update={"status": ReconcileStatus.INTERRUPTED})
        return run

    @redis_answers()
    def take_turn(self, seconds: float) -> bool:
        """True for one of all that ask within so many seconds."""
        return bool(self._redis.set(keys.RECONCILE_DUE, "", nx=True, px=int(seconds * 1000)))

    @redis_answers()
    def postpone(self, seconds: float) -> None:
        """The turn that was taken is to be taken again, so soon."""
        self._redis.set(keys.RECONCILE_DUE, "", px=int(seconds * 1000))

    @redis_answers()
    def enter(self, jobs: Sequence[tuple[Job, str]]) -> list[str]:
        """Enters jobs for calls with these ETags as queued; for each "entered", "full" where there was no room for
        it, or the status of the job with this id or of the call's upload, which is left as it is.
        """
        enter = self._script(_ENTER)
        most = self._jobs.max_backlog
        with self._redis.pipeline(transaction=False) as pipe:
            for job, etag in jobs:
                created_ms = milliseconds(job.created_at)
                of_upload = upload_job_id(job.source.bucket, job.source.key, etag)
                options = f'"options":{job.options.model_dump_json()}'  # as it stands in the job's own JSON
                args = (job.id, job.model_dump_json(), created_ms, job.lane, most, of_upload, options)
                enter(args=args, client=pipe)
            outcomes: list[str] = pipe.execute()
            return outcomes

    @redis_answers()
    def settle(self, job: Job, location: ReportLocation) -> bool:
        """Ends a job that waits or runs as succeeded; False when it has ended, or its worker lives."""
        where = location.model_dump_json()
        return bool(self._run(_SETTLE, job.id, where, job.lane, self._jobs.retention_seconds))

    def in_flight(self) -> Iterator[tuple[Job, bool]]:
        """Every job that waits or runs, and whether it was ever sent or came alone: a batch's others only wait.

        A job that moves on meanwhile is not missed, but may come twice. Memory does not grow with their number.
        """
        with redis_answers():
            yield from ((job, False) for job in self._waiting_in_batches())
            # Running twice: one that ran and waits again by now may have been in neither place.
            for status in (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.RUNNING):
                yield from ((job, True) for job in self._with_hashes(status))

    def _waiting_in_batches(self) -> Iterator[Job]:
        for batch_id, _ in self._redis.zscan_iter(keys.BATCHES, count=CHUNK_JOBS):
            row: Row = self._redis.hmget(keys.batch(batch_id), WAITING_FIELDS)
            if row[0] is None:
                continue
            batch = WaitingBatch(batch_id, row)
            if batch.status is not JobStatus.QUEUED:
                continue
            for start in range(batch.cursor, batch.total, CHUNK_JOBS):
                calls: list[str] = self._redis.lrange(keys.calls(batch_id), start, start + CHUNK_JOBS - 1)
                yield from (batch.job(start + n, call) for n, call in enumerate(calls))

    def _with_hashes(self, status: JobStatus) -> Iterator[Job]:
        ids = (job_id for job_id, _ in self._redis.zscan_iter(keys.jobs(status), count=CHUNK_JOBS))
        while chunk := list(islice(ids, CHUNK_JOBS)):
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in chunk:
                    pipe.hget(keys.job(job_id), "job")
                found: list[str | None] = pipe.execute()
            yield from (Job.read(text) for text in found if text is not None)
