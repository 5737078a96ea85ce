"""What uploads write in Redis: a job whose id the object's identity decides, the order of a key's events, a pace.

The pace is a virtual schedule (GCRA, ITU-T I.371): each job of a rule moves the time at which the next is due on
by one interval, and one that is due later than BURST_MS from now is held back until then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from warmline.jobs import keys
from warmline.jobs.connection import redis_answers
from warmline.jobs.errors import ObjectChanged, ObjectForbidden, ObjectNotFound
from warmline.jobs.ledger import Ledger
from warmline.jobs.records import Job
from warmline.jobs.rows import milliseconds
from warmline.jobs.transitions import SHARED

BURST_MS = 1000  # jobs that are due within this go at once: a pace is no clock

# What another upload of the same content can mend: the call was not to be had, or the job was given up on.
_MENDABLE = (ObjectNotFound.code, ObjectForbidden.code, ObjectChanged.code)

# ARGV: job id, its JSON, creation time in ms, lane, most jobs that may wait, the digest of bucket and key, the
# sequencer or '', how long that is remembered in s, when the object was written in ms or '', the rule's name, its
# interval in ms or 0.
# 'entered', 'held', 'full', 'older', or 'known': there is a job with this id.
_ENTER_UPLOAD = f"""{SHARED}
local id, lane, latest, sequencer, written_ms = ARGV[1], ARGV[4], '{keys.LATEST}' .. ARGV[6], ARGV[7], ARGV[9]

-- As AWS has it: the shorter one is padded on its right.
local function is_before(a, b)
  return a .. string.rep('0', #b - #a) < b .. string.rep('0', #a - #b)
end

-- Whether the job with this id ended without a report, and the object was written once more since.
local function is_asked_again(is_latest)
  local was = redis.call('HMGET', JOB .. id, 'status', 'failure', 'finished_ms')
  if was[1] ~= 'dead' and was[1] ~= 'failed' then return false end
  if was[1] == 'failed' and not string.find('{" ".join(_MENDABLE)}', cjson.decode(was[2]).code, 1, true) then
    return false
  end
  -- Stores tell the time in whole seconds.
  return is_latest or (written_ms ~= '' and written_ms + 999 > tonumber(was[3]))
end

local last = sequencer ~= '' and redis.call('GET', latest)
if last and is_before(sequencer, last) then return 'older' end
local again = is_asked_again(sequencer ~= '' and (not last or is_before(last, sequencer)))
local is_known = redis.call('EXISTS', JOB .. id) == 1 and not again
if not is_known and waiting() >= tonumber(ARGV[5]) then return 'full' end
if sequencer ~= '' then redis.call('SET', latest, sequencer, 'EX', ARGV[8]) end
if is_known then return 'known' end
if again then forget(id) end
enter(id, ARGV[2], ARGV[3], '', -1)
local interval = tonumber(ARGV[11])
if interval > 0 then
  local pace, now = '{keys.PACE}' .. ARGV[10], now_ms()
  local due = math.max(now, tonumber(redis.call('GET', pace) or 0))
  local next_due = due + interval
  redis.call('SET', pace, string.format('%.3f', next_due), 'PX', whole(next_due - now + {BURST_MS}))
  if due > now + {BURST_MS} then
    hold_back(id, lane, due)
    return 'held'
  end
end
stand_in_line(id, lane)
return 'entered'
"""


class Entry(StrEnum):
    """What became of an upload."""

    ENTERED = "entered"  # its job waits in its lane
    HELD = "held"  # its job waits for its turn in the rule's pace
    KNOWN = "known"  # there is a job for it
    OLDER = "older"  # a later upload of this key has been seen
    FULL = "full"  # no more jobs may wait


@dataclass(frozen=True, kw_only=True)
class UploadJob:
    """A job that an upload asks for."""

    job: Job
    sequencer: str | None = None
    written_at: datetime | None = None  # when the object was, where the store was asked
    rule: str
    jobs_per_minute: int = 0  # 0: at once


class UploadLedger(Ledger):
    """The ledger, with what uploads do there. Every method raises LedgerUnavailable."""

    @redis_answers()
    def enter_uploads(self, uploads: Sequence[UploadJob], *, remember_seconds: int) -> list[Entry]:
        """Enters the jobs, each once however often it is asked for; for each, what became of it."""
        enter = self._script(_ENTER_UPLOAD)
        with self._redis.pipeline(transaction=False) as pipe:
            for upload in uploads:
                job = upload.job
                interval_ms = 60_000 / upload.jobs_per_minute if upload.jobs_per_minute else 0
                written_ms = "" if upload.written_at is None else milliseconds(upload.written_at)
                enter(
                    args=(
                        *(job.id, job.model_dump_json(), milliseconds(job.created_at), job.lane),
                        *(self._jobs.max_backlog, key_digest(job.source.bucket, job.source.key)),
                        *(
                            (upload.sequencer or "").lower(),
                            remember_seconds,
                            written_ms,
                            upload.rule,
                            interval_ms,
                        ),
                    ),
                    client=pipe,
                )
            return [Entry(outcome) for outcome in pipe.execute()]


def key_digest(bucket: str, key: str) -> str:
    """Stands for a key among the events' latest sequencers: 20 hex digits."""
    return hashlib.blake2b(f"{bucket}\0{key}".encode(), digest_size=10).hexdigest()


def upload_job_id(bucket: str, key: str, identity: str) -> str:
    """The id of an upload's job. `identity` is the ETag: what tells this content of the key from others."""
    return hashlib.sha256(f"upload\0{bucket}\0{key}\0{identity}".encode()).hexdigest()[:32]
